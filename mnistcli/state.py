"""Everything that changes while a network is trained: to be built, saved and taken up again."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from mnistcli.device import DTYPES
from mnistcli.distributed import SINGLE_PROCESS, ProcessGroup
from mnistcli.errors import DataError, first_mismatch
from mnistcli.examples import steps_per_epoch
from mnistcli.optim import SGD, Adam, AdamW
from mnistcli.registry import build_network
from mnistcli.settings import TrainSettings


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


class WeightEMA:
    """An exponential moving average of a network's weights and of batch norm's statistics.

    The decay starts low and grows to its value within about 10 / (1 - decay)
    steps, so that the random initial weights are soon forgotten and a short
    run has a useful average too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay = decay
        self._num_updates = 0
        # Gathered once: to walk through the network after each of thousands of short steps
        # takes as long as to average.
        self._averaged, self._counts = _split_tensors(self.module)
        self._live, self._live_counts = _split_tensors(model)

    def update(self) -> None:
        """Move the average towards the weights as they are after a step."""
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        # The first takes the weights as they are.
        weight = 1 - decay if self._num_updates else 1.0
        torch._foreach_lerp_(self._averaged, self._live, weight)
        for count, live in zip(self._counts, self._live_counts, strict=True):
            count.copy_(live)
        self._num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that `update` changes; the tensors are the live ones."""
        return {"num_updates": self._num_updates, "average": self.module.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; raises as PyTorch does if it is of another network."""
        self._num_updates = int(saved["num_updates"])
        if self._num_updates < 0:
            raise ValueError("its average counts fewer than no updates")
        self.module.load_state_dict(saved["average"])


def _split_tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Those of a network that can be averaged, and those that only count."""
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
    return (
        [tensor for tensor in tensors if tensor.is_floating_point()],
        [tensor for tensor in tensors if not tensor.is_floating_point()],
    )


class TrainState:
    """Everything that changes while a network is trained.

    Building one seeds PyTorch's global generator, from which initial weights
    and dropout are drawn. Of several processes each builds its own; they differ
    in nothing but their dropout.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        num_examples: int,
        device: str,
        precision: str,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.group = group
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.model = build_network(settings.arch, settings.network)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.train_model = group.wrap_model(self.model)
        self.ema = WeightEMA(self.model, settings.ema) if settings.ema else None
        self.optimizer = build_optimizer(self.model, settings)
        steps = steps_per_epoch(num_examples, settings.batch_size)
        self.lr_schedule = LRSchedule(self.optimizer, settings, steps=steps)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
        self.shuffle_rng = torch.Generator(self.device).manual_seed(settings.seed)
        self.augment_rng = torch.Generator(self.device).manual_seed(settings.seed + 1)
        # What every epoch so far ended with, as the schedule was told.
        self.losses: list[float] = []

    @property
    def num_epochs_done(self) -> int:
        """How many epochs have been trained."""
        return len(self.losses)

    @property
    def eval_model(self) -> nn.Module:
        """The network that is judged and saved: the averaged weights where there are any."""
        return self.ema.module if self.ema else self.model

    def state_dict(self) -> dict[str, Any]:
        """All of it between two epochs, as plain types and tensors; the tensors are the live ones.

        A state that takes it up goes on to the same bits as this one would, on
        the same kind of CPU with as many threads.
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
        """Take up what `state_dict` gave, of the same settings but for the number of epochs.

        On another kind of device the random choices begin anew.

        Raises:
            DataError: it is of another network, or damaged.
        """
        try:
            self._load(saved)
        # Whatever PyTorch makes of a state that is not its own.
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
                fix="Train anew: mnist train --config RUN/settings.json",
            ) from error

    def _load(self, saved: Mapping[str, Any]) -> None:
        if saved.get("teacher"):
            raise ValueError("it was trained with --teacher, which this version does not have")
        self.model.load_state_dict(saved["model"])
        if self.ema:
            self.ema.load_state_dict(saved["average"])
        self.losses = [float(loss) for loss in saved["losses"]]
        self.lr_schedule.replay(self.losses)
        # The groups' rates and momenta are those that the schedule has just set.
        groups = self.optimizer.state_dict()["param_groups"]
        moments = copy_moments(self.optimizer, saved["optimizer"])
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.scaler.is_enabled() and saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        if saved["device"] == self.device.type:
            for generator, state in zip(self._generators(), saved["generators"], strict=True):
                generator.set_state(state)
        else:
            for index, generator in enumerate(self._generators()):
                generator.manual_seed(self.settings.seed + self.num_epochs_done + 1_000_003 * index)

    def _generators(self) -> list[torch.Generator]:
        """Those that are drawn from: for dropout, for shuffling, for augmentation."""
        return [_default_generator(self.device), self.shuffle_rng, self.augment_rng]


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimiser, with weight decay on weight matrices and kernels only.

    Decaying a bias or a batch-norm scale limits what the network can express
    and regularises nothing.
    """
    parameters = list(model.parameters())
    groups = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        sgd = SGD(groups, settings.lr, momentum, nesterov=momentum > 0, fused=True)
        if momentum:
            # PyTorch's own first step leaves it uninitialised where the scaled loss overflows.
            for parameter in parameters:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    if settings.optimizer == "adamw":
        return AdamW(groups, settings.lr, fused=True)
    return Adam(groups, settings.lr, fused=True)


def _default_generator(device: torch.device) -> torch.Generator:
    """The generator that PyTorch's own random layers draw from on `device`."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device()]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()  # noqa: SLF001 (there is no other way)
    return torch.default_generator


def copy_moments(
    optimizer: Optimizer, saved: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, Tensor]]:
    """Copies of saved moments, each laid out in memory as its parameter is.

    PyTorch looks at neither names nor shapes, and its fused steps would read
    and write beyond the end.

    Raises:
        ValueError: they are of another network or another optimiser.
    """
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    is_sgd = isinstance(optimizer, torch.optim.SGD)
    names = {"momentum_buffer"} if is_sgd else {"step", "exp_avg", "exp_avg_sq"}
    remembers = not is_sgd or optimizer.defaults["momentum"] > 0
    if sorted(saved) != list(range(len(parameters) * remembers)):
        raise ValueError(f"the optimizer remembers {len(saved)} parameters")
    own: dict[int, dict[str, Tensor]] = {}
    for number, moments in saved.items():
        if set(moments) != names:
            raise ValueError(f"the optimizer remembers {', '.join(map(str, moments))}")
        own[number] = {
            name: _copy_with_layout(
                value, torch.zeros(()) if name == "step" else parameters[number]
            )
            for name, value in moments.items()
        }
    return own


def _copy_with_layout(value: Tensor, like: Tensor) -> Tensor:
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(f"a moment is {value.dtype} of the shape {tuple(value.shape)}")
    return torch.empty_like(like).copy_(value)
