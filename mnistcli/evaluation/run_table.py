"""The runs of a directory as a table: their progress and accuracy, sorted, filtered, the best.

No torch.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError, SettingsError
from mnistcli.evaluation.scores import Score, read_score
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.find import all_runs, last_trained_ns, started_runs
from mnistcli.runs.history import (
    EpochResult,
    best_epoch,
    is_finished,
    meets_accuracy,
    read_metrics,
    training_seconds,
)
from mnistcli.system.lock import is_locked

RunState = Literal["finished", "unfinished", "training"]


@dataclass(frozen=True)
class RunEntry:
    """A run and what its files record.

    `name` is what `runs.find.find_run` takes. `num_params` is None in runs of
    versions that did not record it, `score` before `mnist eval` has evaluated
    the run on its test set. `written` is when its newest file was, in seconds
    since 1970.
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
        """The best epoch; None before the first is finished."""
        return best_epoch(self.epochs) if self.epochs else None

    @property
    def last(self) -> EpochResult | None:
        """The last finished epoch."""
        return self.epochs[-1] if self.epochs else None

    @property
    def accuracy(self) -> float | None:
        """The validation accuracy of the best epoch, in 0..1."""
        return self.best.val_accuracy if self.best else None

    @property
    def seconds(self) -> float:
        """The training time."""
        return training_seconds(self.epochs)


def read_run_entries(out: Path) -> tuple[list[RunEntry], list[DataError]]:
    """Every run in `out` and in its multi-runs, and what is wrong with damaged files.

    A run with damaged settings or metrics is left out; other damaged files
    leave their columns empty.
    """
    entries: list[RunEntry] = []
    problems: list[DataError] = []
    # Runs without an epoch yet, and runs without settings.
    runs = {*started_runs(out), *all_runs(out)}
    for run in sorted(runs, key=lambda run: run.path):
        with _collect_errors(problems):
            entries.append(_read_entry(run.path.relative_to(out).as_posix(), run, problems))
    return entries, problems


def read_run_entry(run: Run) -> tuple[RunEntry, list[DataError]]:
    """One run, and what is wrong with files that it can be shown without.

    Raises:
        DataError: its settings or metrics are missing or damaged.
    """
    problems: list[DataError] = []
    return _read_entry(run.name, run, problems), problems


@contextmanager
def _collect_errors(problems: list[DataError]) -> Iterator[None]:
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
    """Highest validation accuracy first, then lowest loss, as `history.best_epoch`."""
    loss = entry.best.val_loss if entry.best else None
    return -(entry.accuracy or 0), math.inf if loss is None else loss


def _by_name(entry: RunEntry) -> list[tuple[int, str]]:
    """Numbers in names by their value: seed-2 before seed-10."""
    parts = re.split(r"([0-9]+)", entry.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


# Unknown values come last.
SORT_KEYS: dict[str, Callable[[RunEntry], Any]] = {
    "date": lambda entry: -entry.written,
    "accuracy": _by_accuracy,
    "params": lambda entry: math.inf if entry.num_params is None else entry.num_params,
    "time": lambda entry: entry.seconds or math.inf,
    "name": _by_name,
}


def sort_entries(entries: Sequence[RunEntry], order: str) -> list[RunEntry]:
    """The entries in an order of `SORT_KEYS`; among equals, the newest first."""
    newest_first = sorted(entries, key=SORT_KEYS["date"])
    return sorted(newest_first, key=SORT_KEYS[order])


def best_entry(entries: Sequence[RunEntry], out: Path) -> RunEntry:
    """The entry with the highest validation accuracy, among equals with the lowest loss.

    Raises:
        SettingsError: the runs were validated on different data sets.
        DataError: none has a validation accuracy.
    """
    validated = [entry for entry in entries if entry.accuracy is not None]
    datasets = sorted({entry.settings.dataset for entry in validated})
    if len(datasets) > 1:
        raise SettingsError(
            f"There is no single best run in {out}.",
            why=f"They were validated on different data sets: {', '.join(datasets)}.",
            fix=f"Choose one: --dataset {datasets[0]}",
        )
    if not validated:
        raise DataError(
            f"There is no best run in {out}.",
            why="None of the selected runs has a validation accuracy.",
            fix="Train one: mnist train",
        )
    return sort_entries(validated, "accuracy")[0]


def filter_entries(
    entries: Sequence[RunEntry],
    *,
    recipe: str | None = None,
    arch: str | None = None,
    dataset: str | None = None,
    max_params: int | None = None,
    min_accuracy: float | None = None,
) -> list[RunEntry]:
    """The entries that meet every condition; `min_accuracy` is a validation accuracy in %."""
    return [
        entry
        for entry in entries
        if recipe in (None, entry.settings.recipe)
        and arch in (None, entry.settings.arch)
        and dataset in (None, entry.settings.dataset)
        and (max_params is None or (entry.num_params or math.inf) <= max_params)
        and (min_accuracy is None or meets_accuracy(entry.accuracy or 0, min_accuracy))
    ]
