"""Several runs of the same settings, one after the other: by their seeds, or by their folds.

A series is a directory with a run directory for each and `summary.json`, which
follows from the runs and is replaced after every one. A series that was broken
off goes on from its runs: those that are finished stay, the next is resumed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnistcli.config.differences import differing_settings
from mnistcli.config.resolve import RESUMABLE, resumed_settings
from mnistcli.config.settings import MAX_RUNS, MAX_SEED, Fold, TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.data.examples import Examples
from mnistcli.data.splits import split_examples
from mnistcli.errors import DataError, SettingsError
from mnistcli.evaluation.metrics import Spread, summarize_spread
from mnistcli.runs.directory import (
    MULTIRUN_RECORD,
    Run,
    claim_directory,
    lock_run,
    read_record,
    read_settings,
    write_record,
)
from mnistcli.runs.history import EpochResult, best_epoch, is_finished
from mnistcli.runs.saved_state import read_state
from mnistcli.training.distributed import SINGLE_PROCESS, ProcessGroup
from mnistcli.training.engine import OnStep
from mnistcli.training.trainer import (
    TrainingPlan,
    TrainingRun,
    make_plan,
    resume_run,
    split_for_training,
    start_run,
    train_run,
)
from mnistcli.version import SCHEMA_VERSION

# Called as a run begins; gives what is to be called after each of its steps.
OnRunStart = Callable[[TrainingRun], OnStep | None]


class Layout(BaseModel):
    """What the runs of a series differ in, and how many there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["seeds", "folds"]
    num_runs: int = Field(ge=2, le=MAX_RUNS)

    @property
    def flags(self) -> dict[str, Any]:
        """The settings of the first run that follow from it, as a command line would give them."""
        if self.by == "seeds":
            return {}
        return {"fold": {"number": 1, "of": self.num_runs}, "val_size": 0}

    def in_words(self, first: TrainSettings) -> str:
        """Which runs there are; `first` are the settings of the first."""
        if self.by == "seeds":
            return f"{self.num_runs} seeds, {first.seed} to {first.seed + self.num_runs - 1}"
        return f"{self.num_runs} folds, each held out once, divided by seed {first.seed}"

    def runs(self, first: TrainSettings) -> dict[str, TrainSettings]:
        """The settings of every run by the name of its directory; `first` are the first run's."""
        if self.by == "seeds":
            seeds = range(first.seed, first.seed + self.num_runs)
            return {f"seed-{seed}": first.model_copy(update={"seed": seed}) for seed in seeds}
        folds = [Fold(number=number, of=self.num_runs) for number in range(1, self.num_runs + 1)]
        return {f"fold-{fold.number}": first.model_copy(update={"fold": fold}) for fold in folds}


@dataclass(frozen=True)
class EpochScore:
    """What an epoch of a run reached on its validation images: accuracy in 0..1, loss in nats."""

    epoch: int
    val_accuracy: float
    val_loss: float


@dataclass(frozen=True)
class RunResult:
    """A finished run of a series: what its last and its best epoch reached.

    `directory` lies in that of the series; `fold` is None of a run without one.
    """

    directory: str
    seed: int
    fold: int | None
    epochs: int
    num_val: int
    last: EpochScore
    best: EpochScore
    seconds: float


@dataclass(frozen=True)
class MultiRun:
    """A series that is trained: what, where, and how far it has come.

    `plan` is the first run's. `found` are the epochs, by the name of each run,
    that were there when it was resumed. `finished` holds the runs that are
    finished by their names, and grows with them.
    """

    path: Path
    layout: Layout
    plan: TrainingPlan
    is_resumed: bool = False
    found: Mapping[str, list[EpochResult]] = field(default_factory=dict)
    finished: dict[str, RunResult] = field(default_factory=dict)

    @property
    def runs(self) -> dict[str, TrainSettings]:
        """The settings of every run by the name of its directory."""
        return self.layout.runs(self.plan.settings)

    @property
    def results(self) -> list[RunResult]:
        """The runs that are finished, in their order."""
        return [self.finished[name] for name in self.runs if name in self.finished]

    @property
    def last(self) -> Spread:
        """Of the last epochs; there must be a finished run."""
        return summarize_spread([(each.last.val_accuracy, each.num_val) for each in self.results])

    @property
    def best(self) -> Spread:
        """Of the best epochs, which were chosen on the images that they are judged on here."""
        return summarize_spread([(each.best.val_accuracy, each.num_val) for each in self.results])

    @property
    def record(self) -> dict[str, Any]:
        """What `summary.json` holds."""
        return {
            "layout": self.layout.model_dump(mode="json"),
            "settings": self.plan.settings.model_dump(mode="json"),
            "runs": [asdict(each) for each in self.results],
            "last": asdict(self.last) if self.results else None,
            "best": asdict(self.best) if self.results else None,
        }


class _MultiRunRecord(BaseModel):
    """What a series goes on from; the rest of its record follows from its runs."""

    layout: Layout
    settings: TrainSettings


def parse_layout(
    seeds: int | None, folds: int | None, *, given: Mapping[str, Any]
) -> Layout | None:
    """What `--seeds` and `--folds` ask for beside the settings that were `given`; None for one run.

    Raises:
        SettingsError: both were asked for, too few or too many, or folds with a `val_size`.
    """
    if seeds is None and folds is None:
        return None
    if seeds is not None and folds is not None:
        raise SettingsError(
            "--seeds and --folds cannot be used together.",
            why="The runs of a series differ in one thing.",
            fix="Leave out one of them. --folds with another --seed divides in another way.",
        )
    flag, num_runs = ("--folds", folds) if seeds is None else ("--seeds", seeds)
    assert num_runs is not None
    if not 2 <= num_runs <= MAX_RUNS:
        raise SettingsError(
            f"{flag} {num_runs} will not do.",
            why=f"It must be a whole number at least 2 and at most {MAX_RUNS}.",
            fix=f"For a single run, leave {flag} out.",
        )
    if folds is not None and "val_size" in given:
        raise SettingsError(
            "--val-size cannot be used with --folds.",
            why="Every run holds out its fold: one of as many equal parts.",
            fix="Leave out one of them.",
        )
    return Layout(by="folds" if seeds is None else "seeds", num_runs=num_runs)


@contextmanager
def start_multirun(
    settings: TrainSettings, *, layout: Layout, name: str | None, out: Path
) -> Iterator[MultiRun]:
    """A new series in the directory `out`; `settings` are those of its first run.

    Raises:
        SettingsError: what `check` refuses, or the name is taken.
        MnistError: whatever else `training.plan` and `runs.claimed` raise.
    """
    check_layout(settings, layout)
    plan = make_plan(settings)
    with claim_directory(out, name, plan.settings) as directory:
        series = MultiRun(directory.path, layout, plan)
        _write(series)
        yield series


@contextmanager
def resume_multirun(directory: Run, *, changes: Mapping[str, Any]) -> Iterator[MultiRun]:
    """The series that lies in a directory, with `changes` such as more epochs for all its runs.

    Nothing is written before `execute` has the data.

    Raises:
        DataError: its record or one of its runs is damaged, or a run is none of this series.
        SettingsError: one of the changes is none that a run can take up, or a run has
            finished more epochs.
        RunError: another process is training the series, or it cannot be written.
        DeviceError: its device does not work here.
    """
    with lock_run(directory):
        before = _read(directory)
        settings = resumed_settings(before.settings, changes)
        check_layout(settings, before.layout)
        found = _find(directory.path, before.layout.runs(settings))
        _check_epochs(directory.path, found, settings.epochs)
        plan = make_plan(settings)
        yield MultiRun(directory.path, before.layout, plan, is_resumed=True, found=found)


def train_multirun(
    series: MultiRun,
    examples: Examples,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    on_run: OnRunStart | None = None,
) -> Iterator[RunResult]:
    """Train what is left of every run, and write the summary after each.

    `examples` are the whole training set. Of several processes the leader alone
    writes. Raises what `training.resumed`, `training.divide` and
    `training.execute` raise.
    """
    if series.is_resumed:
        _fill(series, examples)
        if group.is_main:
            _write(series)
    for name, settings in series.runs.items():
        with ExitStack() as held:
            start = group.broadcast_from_main(
                partial(held.enter_context, _begin_run(series, name, settings))
            )
            train, val = split_for_training(start.plan, examples, group=group)
            on_step = on_run(start) if on_run else None
            for _ in train_run(start, train, val, group=group, on_step=on_step):
                pass
        result = _result(name, settings, start.history, num_val=len(val))
        series.finished[name] = result
        if group.is_main:
            _write(series)
        yield result


@contextmanager
def _begin_run(series: MultiRun, name: str, settings: TrainSettings) -> Iterator[TrainingRun]:
    """The run called `name`, new or where it was left."""
    if not (series.path / name / "settings.json").exists():
        with start_run(settings, name=name, out=series.path) as start:
            yield start
        return
    changes = {each: getattr(settings, each) for each in RESUMABLE}
    with resume_run(name, changes=changes, out=series.path) as start:
        yield start


def _find(path: Path, wanted: Mapping[str, TrainSettings]) -> dict[str, list[EpochResult]]:
    """The epochs of every run that lies in `path`, by its name."""
    found = {}
    for name, settings in wanted.items():
        run = Run(path / name)
        if (run.path / "settings.json").exists():
            before = read_settings(run)
            _check_same(run, before, settings)
            saved = read_state(run, before)
            found[name] = list(saved.history) if saved else []
    return found


def _fill(series: MultiRun, examples: Examples) -> None:
    """Take up what was finished before: a summary never has fewer runs than are finished."""
    for name, history in series.found.items():
        settings = series.runs[name]
        if is_finished(history, settings):
            _, val = split_examples(examples, settings)
            series.finished[name] = _result(name, settings, history, num_val=len(val))


def _check_same(run: Run, before: TrainSettings, settings: TrainSettings) -> None:
    if changed := differing_settings(settings, before):
        raise DataError(
            f"{run.path} is no run of this series.",
            why=f"Its settings are others: {', '.join(changed)} differs.",
            fix=f"Move it elsewhere, then go on: mnist train --resume {run.path.parent}",
        )


def _check_epochs(path: Path, found: Mapping[str, list[EpochResult]], num_epochs: int) -> None:
    """Refuse to go on to an epoch that a run is beyond, such as one that was resumed alone."""
    name = max(found, key=lambda name: len(found[name]), default="")
    if name and len(found[name]) > num_epochs:
        num_done = len(found[name])
        raise SettingsError(
            f"{path / name} has more than {num_epochs} epochs.",
            why=f"It has finished {num_done}, and none is taken back.",
            fix=f"Train every run as long: mnist train --resume {path} --epochs {num_done}",
        )


def check_layout(settings: TrainSettings, layout: Layout) -> None:
    """Refuse settings whose runs could not be made or compared; `settings` are the first run's.

    Raises:
        SettingsError: a seed is too large, or nothing is held out.
    """
    if not settings.holds_out:
        raise SettingsError(
            "The runs of a series are compared by their validation accuracy.",
            why="With a val_size of 0 nothing is held out to validate on.",
            fix="Use a --val-size above 0, or --folds instead of --seeds.",
        )
    if layout.by == "seeds" and settings.seed + layout.num_runs - 1 > MAX_SEED:
        raise SettingsError(
            f"{layout.num_runs} seeds from {settings.seed} on are too large.",
            why=f"A seed is at most {MAX_SEED:,}.",
            fix=f"Begin with a smaller one: --seed {MAX_SEED - layout.num_runs + 1}",
        )


def _result(
    name: str, settings: TrainSettings, history: Sequence[EpochResult], *, num_val: int
) -> RunResult:
    return RunResult(
        directory=name,
        seed=settings.seed,
        fold=settings.fold.number if settings.fold else None,
        epochs=len(history),
        num_val=num_val,
        last=_epoch_score(history[-1]),
        best=_epoch_score(best_epoch(history)),
        seconds=sum(epoch.seconds for epoch in history),
    )


def _epoch_score(epoch: EpochResult) -> EpochScore:
    assert epoch.val_accuracy is not None
    assert epoch.val_loss is not None
    return EpochScore(epoch.epoch, epoch.val_accuracy, epoch.val_loss)


def _write(series: MultiRun) -> None:
    record = {"schema_version": SCHEMA_VERSION, **series.record}
    write_record(Run(series.path), MULTIRUN_RECORD, record)


def _read(directory: Run) -> _MultiRunRecord:
    record = read_record(directory, MULTIRUN_RECORD)
    try:
        return _MultiRunRecord.model_validate(record)
    except ValidationError as error:
        path = directory.path / MULTIRUN_RECORD
        raise DataError(
            f"{path} is damaged.",
            why=f"{first_problem(error)}.",
            fix="Mend that file, or go on with one of the runs: "
            f"mnist train --resume {directory.path}/RUN",
        ) from error
