"""Learning-rate schedules: how the learning rate changes from step to step or epoch to epoch."""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from mnistcli.config.choices import ScheduleName
from mnistcli.config.settings import TrainSettings


def _onecycle(optimizer: Optimizer, settings: TrainSettings, num_steps: int) -> LRScheduler:
    # The rate rises for 0.3 of the steps, which of fewer than 4 is less than one step.
    if num_steps < 4:
        return _cosine(optimizer, settings, num_steps)
    # SGD's momentum is a setting, which the schedule must not change.
    cycles_momentum = settings.optimizer != "sgd"
    return OneCycleLR(optimizer, settings.lr, total_steps=num_steps, cycle_momentum=cycles_momentum)


def _cosine(optimizer: Optimizer, _settings: TrainSettings, num_steps: int) -> LRScheduler:
    return CosineAnnealingLR(optimizer, num_steps)


def _step(optimizer: Optimizer, settings: TrainSettings, _num_steps: int) -> LRScheduler:
    # To a tenth after one third of the epochs, and again after two thirds.
    cuts = sorted({max(1, round(settings.epochs * part / 3)) for part in (1, 2)})
    return MultiStepLR(optimizer, cuts, gamma=0.1)


def _plateau(optimizer: Optimizer, _settings: TrainSettings, _num_steps: int) -> LRScheduler:
    return ReduceLROnPlateau(optimizer, factor=0.3, patience=1)


def _constant(optimizer: Optimizer, _settings: TrainSettings, _num_steps: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda _epoch: 1.0)


# A schedule's PyTorch scheduler, from the optimizer, the settings and the number of steps of the
# whole training; and whether the scheduler moves after every step or after every epoch.
SCHEDULES: dict[
    ScheduleName,
    tuple[Callable[[Optimizer, TrainSettings, int], LRScheduler], Literal["step", "epoch"]],
] = {
    "onecycle": (_onecycle, "step"),
    "cosine": (_cosine, "step"),
    "step": (_step, "epoch"),
    "plateau": (_plateau, "epoch"),
    "constant": (_constant, "epoch"),
}


class LRSchedule:
    """The learning-rate schedule of a training; the engine calls it after every step and epoch."""

    def __init__(
        self, optimizer: Optimizer, settings: TrainSettings, *, steps_per_epoch: int
    ) -> None:
        build, self._moves_every = SCHEDULES[settings.schedule]
        self._steps_per_epoch = steps_per_epoch
        self._scheduler = build(optimizer, settings, steps_per_epoch * settings.epochs)

    def after_step(self) -> None:
        """Set the learning rate of the next step."""
        if self._moves_every == "step":
            self._scheduler.step()

    def after_epoch(self, loss: float) -> None:
        """Set the learning rate of the next epoch.

        Args:
            loss: the validation loss of the epoch, or the training loss if nothing is held out.
        """
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(loss)
        elif self._moves_every == "epoch":
            self._scheduler.step()

    def replay(self, losses: Sequence[float]) -> None:
        """Move on by one epoch for each of the `losses` that those epochs ended with.

        The losses are all that a schedule remembers, so that a run that is continued
        with more epochs follows the longer run's schedule from there on.
        """
        # PyTorch warns of a schedule that moves before the optimizer does.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            for loss in losses:
                for _ in range(self._steps_per_epoch):
                    self.after_step()
                self.after_epoch(loss)
