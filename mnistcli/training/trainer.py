"""One training run, from its settings to the files of its run directory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mnistcli.config.resolve import fit_budget, resumed_settings
from mnistcli.config.settings import OwnData, TrainSettings
from mnistcli.data.datasets import DIGITS, Dataset, get_dataset, load_dataset, open_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, input_normalization
from mnistcli.data.splits import split_examples
from mnistcli.errors import DataError, RunError, SettingsError
from mnistcli.models.registry import (
    LAST_LAYER,
    count_parameters,
    get_architecture,
    has_batch_norm,
)
from mnistcli.runs.checkpoint import (
    CheckpointCard,
    LoadedModel,
    is_valid_checkpoint,
    load_start,
    save_best,
    save_checkpoint,
    software_versions,
)
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

    Its settings are complete: a width chosen by the parameter budget, and what identifies a user's
    own data set, are filled in. `start` has the weights to start from; None for random ones, and
    for a resumed run.
    """

    settings: TrainSettings
    num_params: int
    device: Choice
    precision: Choice
    dataset: Dataset
    start: LoadedModel | None = None

    @property
    def normalization(self) -> Normalization:
        """How images become this network's input: as before, if it starts from other weights."""
        normalization = input_normalization(self.dataset, self.settings.arch)
        start = self.settings.start
        return replace(normalization, mean=start.mean, std=start.std) if start else normalization

    def build_state(self, num_examples: int, *, group: ProcessGroup = SINGLE_PROCESS) -> TrainState:
        """The network with its initial weights, and everything else that training changes."""
        return TrainState(
            self.settings,
            num_examples=num_examples,
            device=self.device.value,
            precision=self.precision.value,
            start=self.start_weights,
            group=group,
        )

    @property
    def start_weights(self) -> dict[str, torch.Tensor]:
        """The weights to start from; without the last layer's if its classes are others."""
        if self.start is None:
            return {}
        has_same_classes = self.start.card.classes == self.dataset.classes
        return {
            name: tensor
            for name, tensor in self.start.network.state_dict().items()
            if has_same_classes or not name.startswith(f"{LAST_LAYER}.")
        }

    def card(self, epoch: EpochResult) -> CheckpointCard:
        """The description of a checkpoint of the weights after `epoch`."""
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
    """A run in training: its plan, its directory, and its finished epochs.

    `saved` is the state it is resumed from; `history` grows with every finished epoch.
    """

    plan: TrainingPlan
    run: Run
    is_resumed: bool = False
    saved: SavedState | None = None
    history: list[EpochResult] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the last one has reached the target accuracy."""
        return is_finished(self.history, self.plan.settings)

    @property
    def has_reached_target(self) -> bool:
        """Whether the last epoch has reached the target accuracy `until`, if there is one."""
        return has_reached_target(self.history, self.plan.settings.until)


@contextmanager
def start_run(settings: TrainSettings, *, name: str | None, out: Path) -> Iterator[TrainingRun]:
    """A new run in the directory `out`; raises what `make_plan` and `create_run` raise."""
    plan = make_plan(settings)
    with create_run(out, name, plan.settings) as run:
        yield TrainingRun(plan, run)


@contextmanager
def resume_run(name: str, *, changes: Mapping[str, Any], out: Path) -> Iterator[TrainingRun]:
    """The run called `name` with its saved state, and with `changes` such as more epochs.

    Raises:
        DataError: there is no such run, or its records are damaged.
        SettingsError: one of the changes is not possible for a resumed run.
        RunError: another process is training the run, or it cannot be written.
        DeviceError: its device does not work on this machine.
    """
    with open_for_resuming(name, out) as run:
        before = read_settings(run)
        settings = resumed_settings(before, changes)
        saved = read_state(run, before)
        history = list(saved.history) if saved else []
        if settings.epochs < len(history):
            raise SettingsError(
                f"--epochs {settings.epochs} is less than {run.path} has.",
                why=f"It has finished {len(history)} epochs, which cannot be removed.",
                fix=f"Use --epochs {len(history)} or more, or leave --epochs out.",
            )
        plan = make_plan(settings, starts=saved is None)
        yield TrainingRun(plan, run, is_resumed=True, saved=saved, history=history)


def make_plan(settings: TrainSettings, *, starts: bool = True) -> TrainingPlan:
    """Open the data set, check the parameter budget, choose the device and the precision.

    A run that `starts` may do so from the weights of a checkpoint, which has to be there.

    Raises:
        DataError: the checkpoint to start from or a user's own data set is missing or has changed.
        SettingsError: the checkpoint to start from has another network, a user's own data set has
            a single class, or the network does not fit the machine's memory.
        GateError: the network does not fit `max_params`.
        DeviceError: the device or the precision of the settings does not work on this machine.
    """
    dataset = open_dataset(settings)
    start = load_start(settings.start) if settings.start and starts else None
    if dataset.digest:
        if start and not settings.own_data:
            dataset = _continue_with(dataset, start)
        settings = settings.model_copy(update={"own_data": _own_data(dataset)})
    settings = fit_budget(settings)
    if start:
        _check_same_network(settings, start)
    device = pick_device(settings.device)
    num_params = count_parameters(settings.arch, settings.network)
    _check_memory(num_params)
    gains_on_cpu = get_architecture(settings.arch).gains_from_bfloat16
    return TrainingPlan(
        settings=settings,
        num_params=num_params,
        device=device,
        precision=pick_precision(settings.precision, device.value, gains_on_cpu=gains_on_cpu),
        dataset=dataset,
        start=start,
    )


def _continue_with(dataset: Dataset, start: LoadedModel) -> Dataset:
    """A user's own data set as the network to start from knows it: its test images, its classes."""
    before = start.card.settings.own_data
    if before and before.digest == dataset.digest:
        # The images that were held out for testing stay unseen.
        dataset = get_dataset(dataset.name, test_seed=before.test_seed)
    if set(dataset.classes) <= set(start.card.classes):
        dataset = dataset.with_classes(start.card.classes)
    return dataset


def _own_data(dataset: Dataset) -> OwnData:
    """What a run records of a user's own data set."""
    if len(dataset.classes) < 2:
        raise SettingsError(
            f"{dataset.title} has one class only: {dataset.classes[0]}.",
            why="A network learns to tell classes apart.",
            fix="Add images of other classes, or start from a network that knows some: --from RUN",
        )
    return OwnData(digest=dataset.digest, classes=dataset.classes, test_seed=dataset.test_seed)


def _check_same_network(settings: TrainSettings, start: LoadedModel) -> None:
    """Refuse settings of another network than the one whose weights it starts from."""
    before = start.card.settings
    if (settings.arch, settings.model) != (before.arch, before.model):
        raise SettingsError(
            f"The settings are not those of {start.path}.",
            why="A network that starts from the weights of another has its shape.",
            fix="Leave out what changes the network, such as MNIST_ARCH or MNIST_HIDDEN.",
        )


def load_training_data(
    plan: TrainingPlan, data_dir: Path, *, group: ProcessGroup = SINGLE_PROCESS
) -> tuple[Examples, Examples]:
    """The training and validation examples of a plan, on its device.

    Raises:
        DataError: the data set is missing or damaged.
        SettingsError: there are too few examples, or too few images per batch.
    """
    return split_for_training(plan, load_dataset(plan.dataset, "train", data_dir), group=group)


def split_for_training(
    plan: TrainingPlan, examples: Examples, *, group: ProcessGroup = SINGLE_PROCESS
) -> tuple[Examples, Examples]:
    """A plan's training and validation examples from a whole training set, on its device.

    Raises:
        SettingsError: there are too few examples, or too few images per batch.
    """
    device, settings = torch.device(plan.device.value), plan.settings
    train, val = split_examples(examples, settings)
    if settings.composed:
        train = _add_composed(plan, train)
    batch_size = min(settings.batch_size, len(train))
    if batch_size < group.world_size:
        raise SettingsError(
            f"{group.world_size} processes cannot share a batch of {batch_size}.",
            why="Each process trains on its share of every batch.",
            fix=f"Use a --batch-size of {group.world_size} or more, or fewer processes.",
        )
    if batch_size == 1 and has_batch_norm(settings.arch, settings.network):
        raise SettingsError(
            f"{settings.arch} cannot be trained with one image per batch.",
            why="Batch norm needs at least two images.",
            fix="Use a --batch-size of 2 or more, or a smaller --val-size.",
        )
    return train.to(device), val.to(device)


def _add_composed(plan: TrainingPlan, train: Examples) -> Examples:
    """The training examples and those that are composed of them for reading pictures."""
    if plan.dataset.classes != DIGITS:
        raise SettingsError(
            f"--composed cannot be used with {plan.dataset.name}.",
            why="It composes numbers of the digits 0 to 9.",
            fix="Leave --composed out, or use --dataset mnist",
        )
    from mnistcli.synthesis.examples import compose_examples

    composed = compose_examples(train, plan.settings.composed, plan.settings.seed)
    return Examples(
        torch.cat([train.images_NHW, composed.images_NHW]),
        torch.cat([train.labels_N, composed.labels_N]),
    )


def train_run(
    training_run: TrainingRun,
    train: Examples,
    val: Examples,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    on_step: OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train the remaining epochs, and write the run's files after each.

    `last.pth` has the weights of the last epoch, `best.pth` those of the epoch that
    `best_epoch` chooses. In a process group only the main process writes.

    Raises:
        RunError: the run directory cannot be written, the loss is not finite, or
            there is not enough memory.
        DataError: the state of a resumed run does not fit its settings.
    """
    plan, run, history = training_run.plan, training_run.run, training_run.history
    with translate_out_of_memory(plan), translate_lost_process(str(run.path)):
        state = plan.build_state(len(train), group=group)
        if training_run.saved:
            _restore_state(state, training_run.saved, run)
        if group.is_main:
            _write_first_files(training_run, state)
        if training_run.is_finished:
            return
        for epoch in fit(state, train, val, plan.normalization, on_step=on_step):
            with defer_interrupts():
                if group.is_main:
                    _save_state(training_run, state, [*history, epoch])
                history.append(epoch)
                if group.is_main:
                    _write_checkpoints(training_run, state)
            yield epoch
            if training_run.is_finished:
                return


def _restore_state(state: TrainState, saved: SavedState, run: Run) -> None:
    try:
        state.load_state_dict(saved.state)
    except DataError as error:
        settings_file = run.path / "settings.json"
        raise DataError(
            f"{run.state} does not fit {settings_file}.",
            why=error.why,
            fix=f"Train again from the start: mnist train --config {settings_file}",
        ) from error


def _write_first_files(training_run: TrainingRun, state: TrainState) -> None:
    """Write what is known before the first epoch; a resumed run may have lost files to a crash."""
    plan, run, history = training_run.plan, training_run.run, training_run.history
    if training_run.is_resumed:
        _write_changed_settings(training_run)
    if not training_run.is_finished:
        environment = describe_environment(
            num_params=plan.num_params,
            num_processes=state.group.world_size,
            device=asdict(plan.device),
            precision=asdict(plan.precision),
        )
        write_environment(run, len(history), environment)
    if history and not _has_current_checkpoints(training_run):
        _write_checkpoints(training_run, state)


def _write_changed_settings(training_run: TrainingRun) -> None:
    """Write the changed settings of a resumed run.

    A finished run keeps the device and the precision that it was trained with.
    """
    before, settings = read_settings(training_run.run), training_run.plan.settings
    if training_run.is_finished:
        changes = {"epochs": settings.epochs, "until": settings.until}
        settings = before.model_copy(update=changes)
    if settings != before:
        write_record(training_run.run, "settings.json", settings.model_dump(mode="json"))


def _save_state(training_run: TrainingRun, state: TrainState, history: list[EpochResult]) -> None:
    """Write what a resumed run continues from: from now on, the last epoch counts as finished."""
    settings = training_run.plan.settings
    saved = SavedState(settings=settings, history=history, state=state.state_dict())
    save_state(training_run.run, saved)


def _write_checkpoints(training_run: TrainingRun, state: TrainState) -> None:
    """Write the checkpoints of the last epoch and, at the end, the metrics."""
    run, history = training_run.run, training_run.history
    card = training_run.plan.card(history[-1])
    save_checkpoint(run.last, state.eval_model, card)
    if best_epoch(history) is history[-1]:
        save_best(run, state.eval_model, card)
    write_metrics(run, history)


def _has_current_checkpoints(training_run: TrainingRun) -> bool:
    """Whether the checkpoints and the metrics are those of the saved state.

    Then they are not written again: their times are true, and scores of the best
    checkpoint remain valid.
    """
    run = training_run.run
    try:
        has_checkpoints = is_valid_checkpoint(run.last) and is_valid_checkpoint(run.best)
        return has_checkpoints and read_metrics(run) == training_run.history
    except DataError:
        return False


def _check_memory(num_params: int) -> None:
    """Refuse a network whose weights, gradients and two moments exceed the machine's memory.

    Linux grants more memory than it has and kills the process that uses it, so there
    would be no exception to catch. On Windows the allocation fails.
    """
    available_bytes, needed_bytes = memory_bytes(), 4 * 4 * num_params
    if available_bytes is not None and needed_bytes > available_bytes:
        raise SettingsError(
            f"The network's {num_params:,} parameters do not fit in memory.",
            why=f"Training them takes {needed_bytes / 1e9:,.0f} GB; "
            f"this machine has {available_bytes / 1e9:,.0f} GB.",
            fix="Use smaller layers: --hidden, --channels, --width or --max-params.",
        )


@contextmanager
def translate_out_of_memory(plan: TrainingPlan) -> Iterator[None]:
    """Raise RunError if PyTorch runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU PyTorch has no exception class for it.
        is_out_of_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not is_out_of_memory and "can't allocate memory" not in str(error):
            raise
        batch_size = plan.settings.batch_size
        raise RunError(
            f"The {plan.device.value} is out of memory.",
            why=f"The network has {plan.num_params:,} parameters, a batch {batch_size:,} images.",
            fix=f"Try --batch-size {max(1, batch_size // 4)}, or a smaller network.",
        ) from error
