"""One training run, from resolved settings to the files of its run directory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mnistcli import batches, datasets, engine, precision, registry, runs
from mnistcli.errors import RunError
from mnistcli.metrics import EpochResult
from mnistcli.settings import TrainSettings, fit_budget


@dataclass(frozen=True)
class Plan:
    """A training run before anything is loaded or written.

    Its settings are complete: a width chosen by the budget is filled in.
    """

    settings: TrainSettings
    num_params: int
    device: precision.Choice
    precision: precision.Choice
    dataset: datasets.Dataset

    @property
    def normalisation(self) -> batches.Normalisation:
        """How this run's pictures become the network's input."""
        input_px = registry.architecture(self.settings.arch).input_px
        return batches.Normalisation(self.dataset.mean, self.dataset.std, input_px)


def plan(settings: TrainSettings) -> Plan:
    """Check the budget, and choose the device and the precision.

    Raises:
        GateError: the network does not fit `max_params`.
        DeviceError: the wanted device or precision does not work here.
    """
    settings = fit_budget(settings)
    device = precision.pick_device(settings.device)
    return Plan(
        settings=settings,
        num_params=registry.num_params(settings.arch, settings.network),
        device=device,
        precision=precision.pick_precision(
            settings.precision,
            device.value,
            gains_on_cpu=registry.architecture(settings.arch).gains_from_bfloat16,
        ),
        dataset=datasets.dataset(settings.dataset),
    )


def load(plan: Plan, data_dir: Path) -> tuple[batches.Examples, batches.Examples]:
    """The training and validation examples of a plan, on its device.

    Raises:
        DataError: the data set is missing or damaged.
    """
    device = torch.device(plan.device.value)
    settings = plan.settings
    examples = datasets.load(plan.dataset, "train", data_dir).to(device)
    return batches.split(examples, settings.val_size, settings.seed)


def execute(
    plan: Plan,
    run: runs.Run,
    train: batches.Examples,
    val: batches.Examples,
    *,
    on_step: engine.OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train, and after every epoch write the records and checkpoints of the run.

    `last.pth` is always the latest epoch; `best.pth` the one with the highest
    validation accuracy (of equals, the lowest loss), or the latest where
    nothing was held out.

    Raises:
        RunError: the run directory cannot be written, or the loss is not finite.
    """
    runs.write_record(run, "environment.json", _environment(plan))
    state = engine.TrainState(
        plan.settings,
        num_examples=len(train),
        device=plan.device.value,
        precision=plan.precision.value,
    )
    history: list[EpochResult] = []
    for epoch in engine.fit(state, train, val, plan.normalisation, on_step=on_step):
        history.append(epoch)
        card = _card(plan, epoch)
        runs.save_checkpoint(run.last, state.result, card)
        if best(history) is epoch:
            runs.save_checkpoint(run.best, state.result, card)
        runs.write_metrics(run, history)
        yield epoch


def best(history: list[EpochResult]) -> EpochResult:
    """The epoch whose weights are kept as the best."""
    if not history:
        raise RunError("No epoch was finished.", fix="Train again: mnist train")
    if history[-1].val_accuracy is None:
        return history[-1]
    return max(history, key=lambda epoch: (epoch.val_accuracy or 0, -(epoch.val_loss or 0)))


def _environment(plan: Plan) -> dict[str, object]:
    return runs.environment(
        device={"value": plan.device.value, "reason": plan.device.reason},
        precision={"value": plan.precision.value, "reason": plan.precision.reason},
    )


def _card(plan: Plan, epoch: EpochResult) -> runs.CheckpointCard:
    normalisation = plan.normalisation
    return runs.CheckpointCard(
        settings=plan.settings,
        classes=plan.dataset.classes,
        mean=normalisation.mean,
        std=normalisation.std,
        input_px=normalisation.input_px,
        epoch=epoch.epoch,
        val_accuracy=epoch.val_accuracy,
        versions=runs.versions(),
    )
