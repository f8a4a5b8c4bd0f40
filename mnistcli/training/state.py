"""Everything that changes while a network is trained: building, saving and resuming it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.config.settings import TrainSettings
from mnistcli.data.batches import steps_per_epoch
from mnistcli.errors import DataError, first_mismatch
from mnistcli.models.registry import build_network
from mnistcli.training.device import DTYPES
from mnistcli.training.distributed import SINGLE_PROCESS, ProcessGroup
from mnistcli.training.ema import WeightEMA
from mnistcli.training.lr_scheduler import LRSchedule
from mnistcli.training.optim import build_optimizer, copy_state

# The share of a new batch in batch norm's statistics, as PyTorch sets it.
_NORM_MOMENTUM = 0.1


class TrainState:
    """Everything that changes while a network is trained.

    Building one seeds PyTorch's global generator, which initial weights and dropout are
    drawn from; those in `start` replace them. In a process group each process builds its own;
    they differ in their dropout only.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        num_examples: int,
        device: str,
        precision: str,
        start: Mapping[str, Tensor] | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.group = group
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.model = build_network(settings.arch, settings.network)
        if start:
            self.model.load_state_dict({**self.model.state_dict(), **start})
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.train_model = group.wrap_model(self.model)
        self._norms = _batch_norms(self.model)
        self.ema = WeightEMA(self.model, settings.ema) if settings.ema else None
        self.optimizer = build_optimizer(self.model, settings)
        self.lr_schedule = LRSchedule(
            self.optimizer,
            settings,
            steps_per_epoch=steps_per_epoch(num_examples, settings.batch_size),
        )
        # Small gradients would vanish in float16 unless the loss is scaled up.
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
        self.shuffle_rng = torch.Generator(self.device).manual_seed(settings.seed)
        self.augment_rng = torch.Generator(self.device).manual_seed(settings.seed + 1)
        # One for each finished epoch, as passed to the learning-rate schedule.
        self.losses: list[float] = []

    @property
    def num_epochs_done(self) -> int:
        """How many epochs have been trained."""
        return len(self.losses)

    @property
    def eval_model(self) -> nn.Module:
        """The network that is evaluated and saved: with the EMA of the weights if there is one."""
        return self.ema.module if self.ema else self.model

    def settle_batch_norm(self, step: int) -> None:
        """Make batch norm's statistics plain means over the first steps; `step` counts from 1.

        Their initial values, mean 0 and variance 1, would distort the first evaluations otherwise.
        Those of weights to start from are replaced slowly.
        """
        settles = self.settings.start is None
        for norm in self._norms:
            norm.momentum = max(_NORM_MOMENTUM, 1 / step) if settles else _NORM_MOMENTUM

    @torch.no_grad()
    def recompute_batch_norm(self, batches: Iterable[Tensor]) -> None:
        """Replace the batch-norm statistics of `eval_model` by plain means over some batches.

        In float32 and without dropout. Leaves `eval_model` in evaluation mode.

        Args:
            batches: inputs of the network, all of the same size.
        """
        # PyTorch's update_bn leaves dropout on.
        norms = _batch_norms(self.eval_model)
        self.eval_model.eval()
        for norm in norms:
            norm.train()
        # Without TF32, as in evaluation.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for step, x_NCHW in enumerate(batches, start=1):
                for norm in norms:
                    norm.momentum = 1 / step
                self.eval_model(x_NCHW)
        self.eval_model.eval()

    def state_dict(self) -> dict[str, Any]:
        """The state between two epochs, as plain types and tensors; the tensors are the live ones.

        A training that is resumed from it ends with the same bits on the same kind of CPU
        with as many threads.
        """
        return {
            "losses": list(self.losses),
            "model": self.model.state_dict(),
            "average": self.ema.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict()["state"],
            "scaler": self.scaler.state_dict(),
            "device": self.device.type,
            "generators": [generator.get_state() for generator in self._generators()],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned for the same settings, except for the epochs.

        On another kind of device the random generators start from new seeds.

        Raises:
            DataError: it is of another network, or damaged.
        """
        try:
            self._load(saved)
        # PyTorch raises any of these for a state that does not fit.
        except (
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
            AttributeError,
            ArithmeticError,
        ) as error:
            raise DataError(
                "The state of the training does not fit its settings.",
                why=f"{first_mismatch(error)}.",
                fix="Train again from the start: mnist train --config RUN/settings.json",
            ) from error

    def _load(self, saved: Mapping[str, Any]) -> None:
        if saved.get("teacher"):
            raise ValueError("it was trained with --teacher, which this version does not have")
        self.model.load_state_dict(saved["model"])
        if self.ema:
            self.ema.load_state_dict(saved["average"])
        self.losses = [float(loss) for loss in saved["losses"]]
        self.lr_schedule.replay(self.losses)
        # The learning rates and momenta in these groups are those the schedule has just set.
        groups = self.optimizer.state_dict()["param_groups"]
        tensors = copy_state(self.optimizer, saved["optimizer"])
        self.optimizer.load_state_dict({"state": tensors, "param_groups": groups})
        if self.scaler.is_enabled() and saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        if saved["device"] == self.device.type:
            for generator, state in zip(self._generators(), saved["generators"], strict=True):
                generator.set_state(state)
        else:
            for index, generator in enumerate(self._generators()):
                generator.manual_seed(self.settings.seed + self.num_epochs_done + 1_000_003 * index)

    def _generators(self) -> list[torch.Generator]:
        """The generators of dropout, shuffling and augmentation."""
        return [_default_generator(self.device), self.shuffle_rng, self.augment_rng]


def _batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    norm = nn.modules.batchnorm._BatchNorm  # noqa: SLF001 (of any dimension)
    return [module for module in model.modules() if isinstance(module, norm)]


def _default_generator(device: torch.device) -> torch.Generator:
    """The generator that PyTorch's own random layers draw from on `device`."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device()]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()  # noqa: SLF001 (there is no other way)
    return torch.default_generator
