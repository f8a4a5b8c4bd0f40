"""The runs of a directory side by side: how far each has come, and how good it is. No torch."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError
from mnistcli.evaluation.scores import Score, read_score
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.find import all_runs, last_trained_ns, started_runs
from mnistcli.runs.history import EpochResult, best_epoch, is_finished, meets_accuracy, read_metrics, training_seconds
from mnistcli.system.lock import is_locked

RunState = Literal["finished", "unfinished", "training"]


@dataclass(frozen=True)
class RunEntry:
    """A run as its records tell it.

    `name` is what `runs.find` takes. There are no epochs before the first is
    done. `num_params` is None where the run was made before it was recorded,
    `score` where `mnist eval` has not judged the run on its test set. `written`
    is when the newest record was, in seconds since 1970.
    """

    name: str
    run: Run
    settings: TrainSettings
    epochs: list[EpochResult]
    num_params: int | None
    score: Score | None
    state: RunState
    started: str | None
    written: float

    @property
    def best(self) -> EpochResult | None:
        """The epoch that is kept."""
        return best_epoch(self.epochs) if self.epochs else None

    @property
    def last(self) -> EpochResult | None:
        """The epoch that was done last."""
        return self.epochs[-1] if self.epochs else None

    @property
    def accuracy(self) -> float | None:
        """The validation accuracy of the epoch that is kept, in 0..1."""
        return self.best.val_accuracy if self.best else None

    @property
    def seconds(self) -> float:
        """How long it has been trained."""
        return training_seconds(self.epochs)


def read_run_entries(out: Path) -> tuple[list[RunEntry], list[DataError]]:
    """Every run in `out` and in its series, as `runs.all_runs`; and what is wrong with records.

    A run without sound settings and metrics is left out; one whose other
    records are damaged is there without what they would tell.
    """
    entries: list[RunEntry] = []
    problems: list[DataError] = []
    # Those that have begun, and those that have lost their settings.
    found = {*started_runs(out), *all_runs(out)}
    for run in sorted(found, key=lambda run: run.path):
        with _collect_errors(problems):
            entries.append(_read_entry(run.path.relative_to(out).as_posix(), run, problems))
    return entries, problems


@contextmanager
def _collect_errors(problems: list[DataError]) -> Iterator[None]:
    """Put what is wrong with a record to the `problems`, and go on."""
    try:
        yield
    except DataError as error:
        problems.append(error)


def _read_entry(name: str, run: Run, problems: list[DataError]) -> RunEntry:
    settings = read_settings(run)
    epochs = read_metrics(run) if (run.path / "metrics.csv").exists() else []
    environment, score = {}, None
    if (run.path / "environment.json").exists():
        with _collect_errors(problems):
            environment = read_record(run, "environment.json")
    with _collect_errors(problems):
        score = read_score(run, settings.dataset, "test")
    num_params, started = environment.get("num_params"), environment.get("started")
    return RunEntry(
        name=name,
        run=run,
        settings=settings,
        epochs=epochs,
        num_params=num_params if isinstance(num_params, int) else None,
        score=score,
        state=_state(run, settings, epochs),
        started=started if isinstance(started, str) else None,
        written=last_trained_ns(run) / 1e9,
    )


def _state(run: Run, settings: TrainSettings, epochs: Sequence[EpochResult]) -> RunState:
    if is_finished(epochs, settings):
        return "finished"
    return "training" if is_locked(run.path) else "unfinished"


def _by_accuracy(entry: RunEntry) -> tuple[float, float]:
    """The highest validation accuracy first, of equals the lowest loss, as `metrics.best`."""
    loss = entry.best.val_loss if entry.best else None
    return -(entry.accuracy or 0), math.inf if loss is None else loss


def _by_name(entry: RunEntry) -> list[tuple[int, str]]:
    """Numbers in names by their size: seed-2 before seed-10."""
    parts = re.split(r"([0-9]+)", entry.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


# What is not known comes last.
SORT_KEYS: dict[str, Callable[[RunEntry], Any]] = {
    "date": lambda entry: -entry.written,
    "accuracy": _by_accuracy,
    "params": lambda entry: math.inf if entry.num_params is None else entry.num_params,
    "time": lambda entry: entry.seconds or math.inf,
    "name": _by_name,
}


def sort_entries(entries: Sequence[RunEntry], order: str) -> list[RunEntry]:
    """The entries in one of `ORDERS`; of equals the newest first."""
    newest_first = sorted(entries, key=lambda entry: -entry.written)
    return sorted(newest_first, key=SORT_KEYS[order])


def best_entry(entries: Sequence[RunEntry]) -> RunEntry | None:
    """The entry with the highest validation accuracy; None where none has any."""
    judged = [entry for entry in entries if entry.accuracy is not None]
    return sort_entries(judged, "accuracy")[0] if judged else None


def filter_entries(
    entries: Sequence[RunEntry],
    *,
    recipe: str | None = None,
    arch: str | None = None,
    dataset: str | None = None,
    max_params: int | None = None,
    min_accuracy: float | None = None,
) -> list[RunEntry]:
    """The entries that meet every condition given; `min_accuracy` is of validation, in %."""
    return [
        entry
        for entry in entries
        if recipe in (None, entry.settings.recipe)
        and arch in (None, entry.settings.arch)
        and dataset in (None, entry.settings.dataset)
        and (max_params is None or (entry.num_params or math.inf) <= max_params)
        and (min_accuracy is None or meets_accuracy(entry.accuracy or 0, min_accuracy))
    ]
