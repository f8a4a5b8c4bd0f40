"""Learning-rate schedules."""

import warnings
from collections.abc import Sequence

from torch.optim import Optimizer, lr_scheduler

from mnistcli.config.settings import TrainSettings


class LRSchedule:
    """A learning-rate schedule that may move after every step, every epoch, or both."""

    def __init__(self, optimizer: Optimizer, settings: TrainSettings, *, steps: int) -> None:
        self._steps = steps
        total = steps * settings.epochs
        # The rise of one cycle takes 0.3 of the steps: of fewer than this, less than one.
        kind = settings.schedule
        if kind == "onecycle" and total < 4:
            kind = "cosine"
        self._by_step: lr_scheduler.LRScheduler | None = None
        self._by_epoch: lr_scheduler.MultiStepLR | None = None
        self._by_loss: lr_scheduler.ReduceLROnPlateau | None = None
        if kind == "onecycle":
            # For SGD the momentum is a setting; it is not the schedule's to cycle.
            self._by_step = lr_scheduler.OneCycleLR(
                optimizer,
                settings.lr,
                total_steps=total,
                cycle_momentum=settings.optimizer != "sgd",
            )
        elif kind == "cosine":
            self._by_step = lr_scheduler.CosineAnnealingLR(optimizer, total)
        elif kind == "step":
            # Two cuts to a tenth, at one and two thirds of the way.
            cuts = sorted({max(1, round(settings.epochs * part / 3)) for part in (1, 2)})
            self._by_epoch = lr_scheduler.MultiStepLR(optimizer, cuts, gamma=0.1)
        elif kind == "plateau":
            self._by_loss = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=1)

    def step_batch(self) -> None:
        """Move on by one batch."""
        if self._by_step:
            self._by_step.step()

    def step_epoch(self, loss: float) -> None:
        """Move on by one epoch that ended with `loss`: validation's, else training's."""
        if self._by_epoch:
            self._by_epoch.step()
        if self._by_loss:
            self._by_loss.step(loss)

    def replay(self, losses: Sequence[float]) -> None:
        """Move on by as many epochs as there are `losses`, which they ended with.

        A schedule has no other memory. So a run that is continued with more
        epochs follows the schedule of the longer run from there on.
        """
        # About steps of the schedule before the optimiser's first: it made them long ago.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            for loss in losses:
                for _ in range(self._steps):
                    self.step_batch()
                self.step_epoch(loss)
