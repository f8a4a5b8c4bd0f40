"""One training run, from resolved settings to the files of its run directory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mnistcli.config.resolve import fit_budget, resumed_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import Dataset, get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization
from mnistcli.data.splits import split_examples
from mnistcli.errors import DataError, RunError, SettingsError
from mnistcli.models.registry import count_parameters, get_architecture, has_batch_norm
from mnistcli.runs.checkpoint import CheckpointCard, save_best, save_checkpoint, software_versions
from mnistcli.runs.directory import Run, create_run, read_settings, write_record
from mnistcli.runs.environment import describe_environment, write_environment
from mnistcli.runs.find import open_for_resuming
from mnistcli.runs.history import (
    EpochResult,
    best_epoch,
    has_reached_target,
    is_finished,
    read_metrics,
    write_metrics,
)
from mnistcli.runs.saved_state import SavedState, read_state, save_state
from mnistcli.system.machine import memory_bytes
from mnistcli.system.signals import defer_interrupts
from mnistcli.training.device import Choice, pick_device, pick_precision
from mnistcli.training.distributed import SINGLE_PROCESS, ProcessGroup, translate_lost_process
from mnistcli.training.engine import OnStep, fit
from mnistcli.training.state import TrainState


@dataclass(frozen=True)
class TrainingPlan:
    """A training run before its data are loaded or anything is written.

    Its settings are complete: a width chosen by the budget is filled in.
    """

    settings: TrainSettings
    num_params: int
    device: Choice
    precision: Choice
    dataset: Dataset

    @property
    def normalization(self) -> Normalization:
        """How this run's pictures become the network's input."""
        input_px = get_architecture(self.settings.arch).input_px
        return Normalization(self.dataset.mean, self.dataset.std, input_px)

    def state(self, num_examples: int, *, group: ProcessGroup = SINGLE_PROCESS) -> TrainState:
        """The network with its first weights, and all else that training changes."""
        return TrainState(
            self.settings,
            num_examples=num_examples,
            device=self.device.value,
            precision=self.precision.value,
            group=group,
        )

    def card(self, epoch: EpochResult) -> CheckpointCard:
        """What is said of the weights that `epoch` ended with."""
        normalization = self.normalization
        return CheckpointCard(
            settings=self.settings,
            classes=self.dataset.classes,
            mean=normalization.mean,
            std=normalization.std,
            input_px=normalization.input_px,
            epoch=epoch.epoch,
            val_accuracy=epoch.val_accuracy,
            versions=software_versions(),
        )


@dataclass(frozen=True)
class TrainingRun:
    """A run that is trained: what, where, and how far it has come.

    `history` holds the epochs that are done and kept, and grows with them.
    """

    plan: TrainingPlan
    run: Run
    is_resumed: bool = False
    saved: SavedState | None = None
    history: list[EpochResult] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last is as accurate as was asked for."""
        return is_finished(self.history, self.plan.settings)

    @property
    def has_reached(self) -> bool:
        """Whether the last epoch has the validation accuracy that was asked for, if any was."""
        return has_reached_target(self.history, self.plan.settings.until)


@contextmanager
def start_run(settings: TrainSettings, *, name: str | None, out: Path) -> Iterator[TrainingRun]:
    """A new run in the directory `out`. Raises what `plan` and `runs.created` raise."""
    made = make_plan(settings)
    with create_run(out, name, made.settings) as run:
        yield TrainingRun(made, run)


@contextmanager
def resume_run(name: str, *, changes: Mapping[str, Any], out: Path) -> Iterator[TrainingRun]:
    """The run called `name` where it was left, with `changes` such as more epochs.

    Raises:
        DataError: there is no such run, or its records are damaged.
        SettingsError: one of the changes is none that a run can take up.
        RunError: another process is training the run, or it cannot be written.
        DeviceError: its device does not work here.
    """
    with open_for_resuming(name, out) as run:
        before = read_settings(run)
        settings = resumed_settings(before, changes)
        saved = read_state(run, before)
        history = list(saved.history) if saved else []
        if settings.epochs < len(history):
            raise SettingsError(
                f"--epochs {settings.epochs} is less than {run.path} has.",
                why=f"It has finished {len(history)} epochs, and none is taken back.",
                fix=f"Name {len(history) + 1} or more, or leave --epochs out.",
            )
        yield TrainingRun(make_plan(settings), run, is_resumed=True, saved=saved, history=history)


def make_plan(settings: TrainSettings) -> TrainingPlan:
    """Check the budget, and choose the device and the precision.

    Raises:
        GateError: the network does not fit `max_params`.
        SettingsError: the network does not fit the machine's memory.
        DeviceError: the wanted device or precision does not work here.
    """
    settings = fit_budget(settings)
    device = pick_device(settings.device)
    num_params = count_parameters(settings.arch, settings.network)
    _check_memory(num_params)
    dataset = get_dataset(settings.dataset)
    return TrainingPlan(
        settings=settings,
        num_params=num_params,
        device=device,
        precision=pick_precision(
            settings.precision,
            device.value,
            gains_on_cpu=get_architecture(settings.arch).gains_from_bfloat16,
        ),
        dataset=dataset,
    )


def load_training_data(
    plan: TrainingPlan, data_dir: Path, *, group: ProcessGroup = SINGLE_PROCESS
) -> tuple[Examples, Examples]:
    """The training and validation examples of a plan, on its device.

    Raises:
        DataError: the data set is missing or damaged.
        SettingsError: the split or the batch is too small to train on.
    """
    return split_for_training(plan, load_dataset(plan.dataset, "train", data_dir), group=group)


def split_for_training(
    plan: TrainingPlan, examples: Examples, *, group: ProcessGroup = SINGLE_PROCESS
) -> tuple[Examples, Examples]:
    """What `load` gives, of a training set that is loaded already.

    Raises:
        SettingsError: the split or the batch is too small to train on.
    """
    device = torch.device(plan.device.value)
    settings = plan.settings
    train, val = split_examples(examples, settings)
    smallest = min(settings.batch_size, len(train))
    if smallest < group.world_size:
        raise SettingsError(
            f"{group.world_size} processes cannot share {smallest} pictures a step.",
            why="Each computes a part of every batch.",
            fix=f"Use a --batch-size of {group.world_size} or more, or fewer processes.",
        )
    if smallest == 1 and has_batch_norm(settings.arch, settings.network):
        raise SettingsError(
            f"{settings.arch} cannot be trained on one picture a step.",
            why="Batch norm compares the pictures of a batch.",
            fix="Use a --batch-size of 2 or more, and a smaller --val-size.",
        )
    return train.to(device), val.to(device)


def train_run(
    start: TrainingRun,
    train: Examples,
    val: Examples,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    on_step: OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train what is left, and after every epoch write the records and checkpoints of the run.

    `last.pth` is always the latest epoch; `best.pth` the one with the highest
    validation accuracy (of equals, the lowest loss), or the latest where
    nothing was held out. Of several processes the leader alone writes.

    Raises:
        RunError: the run directory cannot be written, the loss is not finite, or
            the memory does not suffice.
        DataError: the state of a resumed run does not fit its settings.
    """
    plan, run, history = start.plan, start.run, start.history
    with translate_errors(plan), translate_lost_process(str(run.path)):
        state = plan.state(len(train), group=group)
        if start.saved:
            _restore_state(state, start.saved, run)
        if group.is_main:
            _begin(start, state, group)
        if start.is_finished:
            return
        for epoch in fit(state, train, val, plan.normalization, on_step=on_step):
            with defer_interrupts():
                if group.is_main:
                    _save(start, state, [*history, epoch])
                history.append(epoch)
                if group.is_main:
                    _publish(start, state)
            yield epoch
            if start.is_finished:
                return


def _restore_state(state: TrainState, saved: SavedState, run: Run) -> None:
    try:
        state.load_state_dict(saved.state)
    except DataError as error:
        raise DataError(
            f"{run.state} does not fit {run.path / 'settings.json'}.",
            why=error.why,
            fix=f"Train it anew: mnist train --config {run.path / 'settings.json'}",
        ) from error


def _begin(start: TrainingRun, state: TrainState, group: ProcessGroup) -> None:
    """Bring the records of a run up to what is known of it, before it is trained."""
    run, history = start.run, start.history
    if start.is_resumed:
        _keep_changes(start)
    if not start.is_finished:
        write_environment(run, len(history), _describe_environment(start.plan, group))
    if history and not _is_published(start):
        _publish(start, state)


def _keep_changes(start: TrainingRun) -> None:
    """Write the settings that a resumed run takes up.

    A finished one keeps its device and its precision: with them it was trained.
    """
    before, settings = read_settings(start.run), start.plan.settings
    if start.is_finished:
        when = {"epochs": settings.epochs, "until": settings.until}
        settings = before.model_copy(update=when)
    if settings != before:
        write_record(start.run, "settings.json", settings.model_dump(mode="json"))


def _save(start: TrainingRun, state: TrainState, history: list[EpochResult]) -> None:
    """Write what the run goes on from; with this an epoch is kept."""
    saved = SavedState(settings=start.plan.settings, history=history, state=state.state_dict())
    save_state(start.run, saved)


def _publish(start: TrainingRun, state: TrainState) -> None:
    """Write what follows from a saved state: the checkpoints and, last, the metrics."""
    run, history = start.run, start.history
    card = start.plan.card(history[-1])
    save_checkpoint(run.last, state.eval_model, card)
    if best_epoch(history) is history[-1]:
        save_best(run, state.eval_model, card)
    write_metrics(run, history)


def _is_published(start: TrainingRun) -> bool:
    """Whether the checkpoints and the metrics are those of the saved state.

    If so they stay as they are: their times say when they were made, and what
    was found out about the best checkpoint is still true.
    """
    run = start.run
    try:
        return run.last.exists() and run.best.exists() and read_metrics(run) == start.history
    except DataError:
        return False


def _check_memory(num_params: int) -> None:
    """Refuse a network whose weights, gradients and two moments exceed the machine's memory.

    Linux promises memory that it does not have and kills the process that uses
    it, so there would be no error to catch. Windows fails by itself.
    """
    available_bytes, needed_bytes = memory_bytes(), 4 * 4 * num_params
    if available_bytes is not None and needed_bytes > available_bytes:
        raise SettingsError(
            f"The network's {num_params:,} parameters do not fit in memory.",
            why=f"To train them takes {needed_bytes / 1e9:,.0f} GB, "
            f"this machine has {available_bytes / 1e9:,.0f}.",
            fix="Use smaller layers: --hidden, --channels, --width or --max-params.",
        )


@contextmanager
def translate_errors(plan: TrainingPlan) -> Iterator[None]:
    """Raise RunError where PyTorch finds too little memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU PyTorch has no class of its own for it.
        full = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not full and "can't allocate memory" not in str(error):
            raise
        raise RunError(
            f"The memory of the {plan.device.value} is full.",
            why=f"The network has {plan.num_params:,} parameters, "
            f"a batch {plan.settings.batch_size:,} pictures.",
            fix=f"Try --batch-size {max(1, plan.settings.batch_size // 4)}, or a smaller network.",
        ) from error


def _describe_environment(plan: TrainingPlan, group: ProcessGroup) -> dict[str, object]:
    return describe_environment(
        num_params=plan.num_params,
        num_processes=group.world_size,
        device={"value": plan.device.value, "reason": plan.device.reason},
        precision={"value": plan.precision.value, "reason": plan.precision.reason},
    )
