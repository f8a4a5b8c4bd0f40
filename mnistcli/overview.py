"""The runs of a directory side by side: how far each has come, and how good it is. No torch."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnistcli import metrics, runs
from mnistcli.errors import DataError
from mnistcli.files import is_locked
from mnistcli.metrics import EpochResult, Score
from mnistcli.runs import Run
from mnistcli.settings import TrainSettings

State = Literal["finished", "unfinished", "training"]


@dataclass(frozen=True)
class Entry:
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
    state: State
    started: str | None
    written: float

    @property
    def best(self) -> EpochResult | None:
        """The epoch that is kept."""
        return metrics.best(self.epochs) if self.epochs else None

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
        return sum(epoch.seconds for epoch in self.epochs)


def read(out: Path) -> tuple[list[Entry], list[DataError]]:
    """Every run in `out` and in its series, as `runs.all_runs`; and what is wrong with records.

    A run without sound settings and metrics is left out; one whose other
    records are damaged is there without what they would tell.
    """
    entries: list[Entry] = []
    problems: list[DataError] = []
    # Those that have begun, and those that have lost their settings.
    found = {*runs.all_runs(out, marks=runs.BEGUN), *runs.all_runs(out)}
    for run in sorted(found, key=lambda run: run.path):
        with _noted(problems):
            entries.append(_read_entry(run.path.relative_to(out).as_posix(), run, problems))
    return entries, problems


@contextmanager
def _noted(problems: list[DataError]) -> Iterator[None]:
    """Put what is wrong with a record to the `problems`, and go on."""
    try:
        yield
    except DataError as error:
        problems.append(error)


def _read_entry(name: str, run: Run, problems: list[DataError]) -> Entry:
    settings = runs.read_settings(run)
    epochs = runs.read_metrics(run) if (run.path / "metrics.csv").exists() else []
    environment, score = {}, None
    if (run.path / "environment.json").exists():
        with _noted(problems):
            environment = runs.read_record(run, "environment.json")
    with _noted(problems):
        score = runs.read_score(run, settings.dataset, "test")
    num_params, started = environment.get("num_params"), environment.get("started")
    return Entry(
        name=name,
        run=run,
        settings=settings,
        epochs=epochs,
        num_params=num_params if isinstance(num_params, int) else None,
        score=score,
        state=_state(run, settings, epochs),
        started=started if isinstance(started, str) else None,
        written=runs.last_written(run, runs.BEGUN) / 1e9,
    )


def _state(run: Run, settings: TrainSettings, epochs: Sequence[EpochResult]) -> State:
    if metrics.is_finished(epochs, settings):
        return "finished"
    return "training" if is_locked(run.path) else "unfinished"


def _by_accuracy(entry: Entry) -> tuple[float, float]:
    """The highest validation accuracy first, of equals the lowest loss, as `metrics.best`."""
    loss = entry.best.val_loss if entry.best else None
    return -(entry.accuracy or 0), math.inf if loss is None else loss


def _by_name(entry: Entry) -> list[tuple[int, str]]:
    """Numbers in names by their size: seed-2 before seed-10."""
    parts = re.split(r"([0-9]+)", entry.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


# What is not known comes last.
ORDERS: dict[str, Callable[[Entry], Any]] = {
    "date": lambda entry: -entry.written,
    "accuracy": _by_accuracy,
    "params": lambda entry: math.inf if entry.num_params is None else entry.num_params,
    "time": lambda entry: entry.seconds or math.inf,
    "name": _by_name,
}


def ordered(entries: Sequence[Entry], order: str) -> list[Entry]:
    """The entries in one of `ORDERS`; of equals the newest first."""
    newest_first = sorted(entries, key=lambda entry: -entry.written)
    return sorted(newest_first, key=ORDERS[order])


def best(entries: Sequence[Entry]) -> Entry | None:
    """The entry with the highest validation accuracy; None where none has any."""
    judged = [entry for entry in entries if entry.accuracy is not None]
    return ordered(judged, "accuracy")[0] if judged else None


def chosen(
    entries: Sequence[Entry],
    *,
    recipe: str | None = None,
    arch: str | None = None,
    dataset: str | None = None,
    max_params: int | None = None,
    min_accuracy: float | None = None,
) -> list[Entry]:
    """The entries that meet every condition given; `min_accuracy` is of validation, in %."""
    return [
        entry
        for entry in entries
        if recipe in (None, entry.settings.recipe)
        and arch in (None, entry.settings.arch)
        and dataset in (None, entry.settings.dataset)
        and (max_params is None or (entry.num_params or math.inf) <= max_params)
        and (min_accuracy is None or metrics.reaches(entry.accuracy or 0, min_accuracy))
    ]
