"""Multi-runs: several runs of the same settings, which differ in their seeds or their folds.

A multi-run is a directory with a run directory for each run and `summary.json`, which
follows from the runs and is replaced after every one. An interrupted multi-run is
resumed from its runs: finished ones stay, the next one is resumed.
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
from mnistcli.runs.history import EpochResult, best_epoch, is_finished, training_seconds
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

# Called at the start of a run; returns what to call after each of its steps.
OnRunStart = Callable[[TrainingRun], OnStep | None]


class Layout(BaseModel):
    """What the runs of a multi-run differ in, and how many there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["seeds", "folds"]
    num_runs: int = Field(ge=2, le=MAX_RUNS)

    @property
    def flags(self) -> dict[str, Any]:
        """The settings that this layout gives the first run, as command-line flags would."""
        if self.by == "seeds":
            return {}
        return {"fold": {"number": 1, "of": self.num_runs}, "val_size": 0}

    def describe(self, first: TrainSettings) -> str:
        """A description such as "3 seeds, 0 to 2"; `first` are the first run's settings."""
        if self.by == "seeds":
            return f"{self.num_runs} seeds, {first.seed} to {first.seed + self.num_runs - 1}"
        return f"{self.num_runs} folds, each held out once, split with seed {first.seed}"

    def runs(self, first: TrainSettings) -> dict[str, TrainSettings]:
        """Each run's settings by the name of its directory; `first` are the first run's."""
        if self.by == "seeds":
            seeds = range(first.seed, first.seed + self.num_runs)
            return {f"seed-{seed}": first.model_copy(update={"seed": seed}) for seed in seeds}
        folds = [Fold(number=number, of=self.num_runs) for number in range(1, self.num_runs + 1)]
        return {f"fold-{fold.number}": first.model_copy(update={"fold": fold}) for fold in folds}


@dataclass(frozen=True)
class EpochScore:
    """An epoch's validation accuracy in 0..1 and loss in nats."""

    epoch: int
    val_accuracy: float
    val_loss: float


@dataclass(frozen=True)
class RunResult:
    """A finished run of a multi-run, with the scores of its last and its best epoch.

    `directory` is relative to the multi-run's; `fold` is None unless runs differ in folds.
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
    """A multi-run in training: the first run's plan, its directory, and its finished runs.

    `histories` are the epochs that a resumed multi-run had at its start, by the name of
    the run; `finished` are the results by the name of the run, and grows with every run.
    """

    path: Path
    layout: Layout
    plan: TrainingPlan
    is_resumed: bool = False
    histories: Mapping[str, list[EpochResult]] = field(default_factory=dict)
    finished: dict[str, RunResult] = field(default_factory=dict)

    @property
    def runs(self) -> dict[str, TrainSettings]:
        """Each run's settings by the name of its directory."""
        return self.layout.runs(self.plan.settings)

    @property
    def results(self) -> list[RunResult]:
        """The finished runs, in order."""
        return [self.finished[name] for name in self.runs if name in self.finished]

    @property
    def last(self) -> Spread:
        """The spread of the last epochs' accuracies; at least one run must be finished."""
        return summarize_spread([(run.last.val_accuracy, run.num_val) for run in self.results])

    @property
    def best(self) -> Spread:
        """The spread of the best epochs' accuracies, on the images that chose these epochs."""
        return summarize_spread([(run.best.val_accuracy, run.num_val) for run in self.results])

    @property
    def record(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "layout": self.layout.model_dump(mode="json"),
            "settings": self.plan.settings.model_dump(mode="json"),
            "runs": [asdict(run) for run in self.results],
            "last": asdict(self.last) if self.results else None,
            "best": asdict(self.best) if self.results else None,
        }


class _MultiRunRecord(BaseModel):
    """The part of `summary.json` that is needed to resume; the rest follows from the runs."""

    layout: Layout
    settings: TrainSettings


def parse_layout(
    seeds: int | None, folds: int | None, *, settings: Mapping[str, Any]
) -> Layout | None:
    """The layout that `--seeds` or `--folds` ask for; None for a single run.

    Args:
        seeds: the value of `--seeds`.
        folds: the value of `--folds`.
        settings: the settings of the same command line.

    Raises:
        SettingsError: both are given, the number is out of bounds, or `val_size` is given
            with folds.
    """
    if seeds is None and folds is None:
        return None
    if seeds is not None and folds is not None:
        raise SettingsError(
            "--seeds and --folds cannot be used together.",
            why="A multi-run varies either the seed or the fold.",
            fix="Leave out one of them. Another --seed gives different folds.",
        )
    flag, num_runs = ("--folds", folds) if seeds is None else ("--seeds", seeds)
    assert num_runs is not None
    if not 2 <= num_runs <= MAX_RUNS:
        raise SettingsError(
            f"{flag} {num_runs} is out of bounds.",
            why=f"It must be a whole number from 2 to {MAX_RUNS}.",
            fix=f"For a single run, leave {flag} out.",
        )
    if folds is not None and "val_size" in settings:
        raise SettingsError(
            "--val-size cannot be used with --folds.",
            why="Every run holds out its own fold, and the folds are of equal size.",
            fix="Leave out one of them.",
        )
    return Layout(by="folds" if seeds is None else "seeds", num_runs=num_runs)


def check_layout(settings: TrainSettings, layout: Layout) -> None:
    """Refuse a multi-run whose runs could not be trained or compared.

    Raises:
        SettingsError: a seed is too large, or nothing is held out.
    """
    if not settings.holds_out:
        raise SettingsError(
            "The runs of a multi-run are compared by their validation accuracy.",
            why="With a val_size of 0 nothing is held out to validate on.",
            fix="Use a --val-size above 0, or --folds instead of --seeds.",
        )
    if layout.by == "seeds" and settings.seed + layout.num_runs - 1 > MAX_SEED:
        raise SettingsError(
            f"{layout.num_runs} seeds starting at {settings.seed} are too large.",
            why=f"A seed is at most {MAX_SEED:,}.",
            fix=f"Start at a smaller seed: --seed {MAX_SEED - layout.num_runs + 1}",
        )


@contextmanager
def start_multirun(
    settings: TrainSettings, *, layout: Layout, name: str | None, out: Path
) -> Iterator[MultiRun]:
    """A new multi-run in the directory `out`; `settings` are its first run's.

    Raises what `check_layout`, `make_plan` and `claim_directory` raise.
    """
    check_layout(settings, layout)
    plan = make_plan(settings)
    with claim_directory(out, name, plan.settings) as directory:
        multirun = MultiRun(directory.path, layout, plan)
        _write_summary(multirun)
        yield multirun


def dataset_of_multirun(directory: Run) -> str:
    """The name of the data set of a multi-run; raises DataError if its record is damaged."""
    return _read_summary(directory).settings.dataset


@contextmanager
def resume_multirun(directory: Run, *, changes: Mapping[str, Any]) -> Iterator[MultiRun]:
    """The multi-run in a directory, with `changes` such as more epochs for all its runs.

    Nothing is written before `train_multirun` has the data.

    Raises:
        DataError: its record or one of its runs is damaged, or a run has other settings.
        SettingsError: one of the changes is not possible for a resumed run, or a run has
            finished more epochs.
        RunError: another process is training the multi-run, or it cannot be written.
        DeviceError: its device does not work on this machine.
    """
    with lock_run(directory):
        before = _read_summary(directory)
        settings = resumed_settings(before.settings, changes)
        check_layout(settings, before.layout)
        histories = _read_histories(directory.path, before.layout.runs(settings))
        _check_epochs(directory.path, histories, settings.epochs)
        plan = make_plan(settings)
        yield MultiRun(directory.path, before.layout, plan, is_resumed=True, histories=histories)


def train_multirun(
    multirun: MultiRun,
    examples: Examples,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    on_run: OnRunStart | None = None,
) -> Iterator[RunResult]:
    """Train what remains of every run, and write the summary after each.

    `examples` are the whole training set. In a process group only the main process
    writes. Raises what `resume_run`, `split_for_training` and `train_run` raise.
    """
    if multirun.is_resumed:
        _collect_finished_runs(multirun, examples)
        if group.is_main:
            _write_summary(multirun)
    for name, settings in multirun.runs.items():
        with ExitStack() as stack:
            open_run = partial(stack.enter_context, _open_run(multirun, name, settings))
            training_run = group.broadcast_from_main(open_run)
            train, val = split_for_training(training_run.plan, examples, group=group)
            on_step = on_run(training_run) if on_run else None
            for _ in train_run(training_run, train, val, group=group, on_step=on_step):
                pass
        result = _run_result(name, settings, training_run.history, num_val=len(val))
        multirun.finished[name] = result
        if group.is_main:
            _write_summary(multirun)
        yield result


@contextmanager
def _open_run(multirun: MultiRun, name: str, settings: TrainSettings) -> Iterator[TrainingRun]:
    """The run called `name`, new or resumed."""
    if not (multirun.path / name / "settings.json").exists():
        with start_run(settings, name=name, out=multirun.path) as training_run:
            yield training_run
        return
    changes = {setting: getattr(settings, setting) for setting in RESUMABLE}
    if settings.own_data:  # which may have been moved
        changes["dataset"] = settings.dataset
    with resume_run(name, changes=changes, out=multirun.path) as training_run:
        yield training_run


def _read_histories(path: Path, runs: Mapping[str, TrainSettings]) -> dict[str, list[EpochResult]]:
    """The finished epochs of every run that has been started in `path`, by its name."""
    histories = {}
    for name, settings in runs.items():
        run = Run(path / name)
        if (run.path / "settings.json").exists():
            before = read_settings(run)
            _check_same_settings(run, before, settings)
            saved = read_state(run, before)
            histories[name] = list(saved.history) if saved else []
    return histories


def _check_same_settings(run: Run, before: TrainSettings, settings: TrainSettings) -> None:
    if changed := differing_settings(settings, before):
        raise DataError(
            f"{run.path} does not belong to this multi-run.",
            why=f"Its settings differ: {', '.join(changed)}.",
            fix=f"Move it elsewhere, then resume: mnist train --resume {run.path.parent}",
        )


def _check_epochs(path: Path, histories: Mapping[str, list[EpochResult]], num_epochs: int) -> None:
    """Refuse fewer epochs than a run has, for example one that was resumed by itself."""
    name = max(histories, key=lambda name: len(histories[name]), default="")
    if name and len(histories[name]) > num_epochs:
        num_done = len(histories[name])
        raise SettingsError(
            f"{path / name} has more than {num_epochs} epochs.",
            why=f"It has finished {num_done} epochs, which cannot be removed.",
            fix=f"Train every run that long: mnist train --resume {path} --epochs {num_done}",
        )


def _collect_finished_runs(multirun: MultiRun, examples: Examples) -> None:
    """Add the runs that were finished before, so that no summary ever lacks one of them."""
    for name, history in multirun.histories.items():
        settings = multirun.runs[name]
        if is_finished(history, settings):
            _, val = split_examples(examples, settings)
            multirun.finished[name] = _run_result(name, settings, history, num_val=len(val))


def _run_result(
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
        seconds=training_seconds(history),
    )


def _epoch_score(epoch: EpochResult) -> EpochScore:
    assert epoch.val_accuracy is not None
    assert epoch.val_loss is not None
    return EpochScore(epoch.epoch, epoch.val_accuracy, epoch.val_loss)


def _write_summary(multirun: MultiRun) -> None:
    record = {"schema_version": SCHEMA_VERSION, **multirun.record}
    write_record(Run(multirun.path), MULTIRUN_RECORD, record)


def _read_summary(directory: Run) -> _MultiRunRecord:
    record = read_record(directory, MULTIRUN_RECORD)
    try:
        return _MultiRunRecord.model_validate(record)
    except ValidationError as error:
        path = directory.path / MULTIRUN_RECORD
        raise DataError(
            f"{path} is damaged.",
            why=f"{first_problem(error)}.",
            fix="Repair that file, or resume one of the runs: "
            f"mnist train --resume {directory.path}/RUN",
        ) from error
