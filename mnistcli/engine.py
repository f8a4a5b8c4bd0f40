"""Training and evaluation. Knows no disk, no screen and no flags.

`fit` is a generator: it yields one EpochResult after another and leaves what
to do with them to its caller. Losses and counts add up on the device; the host
waits for it once an epoch.

Shapes: N images, C channels (1), H rows, W columns, K classes.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnistcli import registry
from mnistcli.batches import (
    Examples,
    Normalisation,
    draw_maps,
    normalise,
    num_steps,
    shuffled,
    warp,
)
from mnistcli.distributed import ALONE, Workers
from mnistcli.errors import DataError, RunError, brief
from mnistcli.metrics import EpochResult
from mnistcli.precision import DTYPES
from mnistcli.settings import TrainSettings

# Called after every step.
OnStep = Callable[["Step"], None]

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Step:
    """How far an epoch is after a step: `number` of `num_steps`, `num_images` seen in it.

    `totals` is the epoch's running (sum of losses, number right), float32 on the
    device. Reading it makes the host wait, so read it no oftener than a person
    looks; it goes on changing, so read it before the next step. Of several
    processes, each counts the images of its own share.
    """

    number: int
    num_steps: int
    num_images: int
    totals: Tensor


@dataclass(frozen=True)
class Evaluation:
    """Class probabilities float32 (N, 10) and labels int64 (N,), on the CPU; mean loss in nats."""

    loss: float
    probabilities_NK: Tensor
    labels_N: Tensor

    @property
    def accuracy(self) -> float:
        """The share of images whose most probable class is their label, in 0..1."""
        predicted_N = self.probabilities_NK.argmax(dim=1)
        return int((predicted_N == self.labels_N).sum()) / len(self.labels_N)


class Schedule:
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

    def after_step(self) -> None:
        """Move on by one batch."""
        if self._by_step:
            self._by_step.step()

    def after_epoch(self, loss: float) -> None:
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
                    self.after_step()
                self.after_epoch(loss)


class MovingAverage:
    """An exponential moving average of a network's weights and of batch norm's statistics.

    The decay starts low and grows to its value within about 10 / (1 - decay)
    steps, so that the random initial weights are soon forgotten and a short
    run has a useful average too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._average = AveragedModel(model, use_buffers=True)
        # Counted here: to read the count that PyTorch keeps would make the host wait.
        self._num_updates = 0

    @property
    def module(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._average.module

    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model` after a step."""
        warmed_up = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        self._average.multi_avg_fn = get_ema_multi_avg_fn(warmed_up)
        self._average.update_parameters(model)
        self._num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that `update` changes; the tensors are the live ones."""
        return {"num_updates": self._num_updates, "average": self._average.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; raises as PyTorch does if it is of another network."""
        self._num_updates = int(saved["num_updates"])
        if self._num_updates < 0:
            raise ValueError("its average counts fewer than no updates")
        self._average.load_state_dict(saved["average"])


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
        workers: Workers = ALONE,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.workers = workers
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.model = registry.build(settings.arch, settings.network)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.parallel = workers.parallel(self.model)
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        self.optimizer = _optimizer(self.model, settings)
        steps = num_steps(num_examples, settings.batch_size)
        self.schedule = Schedule(self.optimizer, settings, steps=steps)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
        self.shuffling = torch.Generator(self.device).manual_seed(settings.seed)
        self.augmenting = torch.Generator(self.device).manual_seed(settings.seed + 1)
        # What every epoch so far ended with, as the schedule was told.
        self.losses: list[float] = []

    @property
    def num_epochs_done(self) -> int:
        """How many epochs have been trained."""
        return len(self.losses)

    @property
    def result(self) -> nn.Module:
        """The network that is judged and saved: the averaged weights where there are any."""
        return self.average.module if self.average else self.model

    def state_dict(self) -> dict[str, Any]:
        """All of it between two epochs, as plain types and tensors; the tensors are the live ones.

        A state that takes it up goes on to the same bits as this one would, on
        the same kind of CPU with as many threads.
        """
        return {
            "losses": list(self.losses),
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
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
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = brief(lines[min(1, len(lines) - 1)] if lines else type(error).__name__)
            raise DataError(
                "The state of the training does not fit its settings.",
                why=f"{why.rstrip('. ')}.",
                fix="Train anew: mnist train --config RUN/settings.json",
            ) from error

    def _load(self, saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.losses = [float(loss) for loss in saved["losses"]]
        self.schedule.replay(self.losses)
        # The groups' rates and momenta are those that the schedule has just set.
        groups = self.optimizer.state_dict()["param_groups"]
        moments = _own_moments(self.optimizer, saved["optimizer"])
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.scaler.is_enabled() and saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])
        if saved["device"] == self.device.type:
            for generator, state in zip(self._generators(), saved["generators"], strict=True):
                generator.set_state(state)
        else:
            for generator in self._generators():
                generator.manual_seed(self.settings.seed + self.num_epochs_done)

    def _generators(self) -> list[torch.Generator]:
        """Those that are drawn from: for dropout, for shuffling, for augmentation."""
        return [_default_generator(self.device), self.shuffling, self.augmenting]


def _default_generator(device: torch.device) -> torch.Generator:
    """The generator that PyTorch's own random layers draw from on `device`."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device()]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()  # noqa: SLF001 (there is no other way)
    return torch.default_generator


def _own_moments(
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
            name: _laid_out(value, torch.zeros(()) if name == "step" else parameters[number])
            for name, value in moments.items()
        }
    return own


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(f"a moment is {value.dtype} of the shape {tuple(value.shape)}")
    return torch.empty_like(like).copy_(value)


def fit(
    state: TrainState,
    train: Examples,
    val: Examples,
    normalisation: Normalisation,
    *,
    on_step: OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train epoch by epoch until the settings' number of epochs is done.

    The examples lie on `state.device`; of several processes each has all of
    them. Between two results the caller may read `state.result` and
    `state.state_dict()`; it must not change them.

    Raises:
        RunError: the loss or the weights are no longer finite.
    """
    settings, workers = state.settings, state.workers
    while state.num_epochs_done < settings.epochs:
        started = time.perf_counter()
        number = state.num_epochs_done + 1
        lr = state.optimizer.param_groups[0]["lr"]
        if not workers.leads:  # each its own dropout, the same however often it is resumed
            torch.manual_seed(settings.seed + 1_000_003 * workers.rank + number)
        trained_on = _train_epoch(state, train, normalisation, on_step)
        trained = time.perf_counter()
        val_loss, val_accuracy = _validate(state, val, normalisation)
        _check_finite(state, trained_on, val_loss, lr=lr)
        loss = trained_on.loss if val_loss is None else val_loss
        state.schedule.after_epoch(loss)
        state.losses.append(loss)
        yield EpochResult(
            epoch=number,
            lr=lr,
            train_loss=trained_on.loss,
            train_accuracy=trained_on.accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - started,
            images_per_second=trained_on.num_images / (trained - started),
        )


@dataclass(frozen=True)
class _TrainedOn:
    """An epoch's images, their mean loss (nats) and accuracy (0..1), and its first bad step.

    `bad_step` counts from 1 and is 0 if every loss was finite.
    """

    num_images: int
    loss: float
    accuracy: float
    bad_step: int


def _train_epoch(
    state: TrainState, train: Examples, normalisation: Normalisation, on_step: OnStep | None
) -> _TrainedOn:
    """Train on every batch once, of several processes each on its share of it."""
    settings, device, workers = state.settings, state.device, state.workers
    steps = num_steps(len(train), settings.batch_size)
    totals = torch.zeros(2, device=device)
    losses_S = torch.zeros(steps, device=device)
    num_seen = num_seen_here = 0
    state.model.train()
    batches = shuffled(train, settings.batch_size, state.shuffling)
    for step, (images_NHW, labels_N) in enumerate(batches, start=1):
        num = len(labels_N)
        mine = workers.share(num)
        loss, num_right = _train_step(state, images_NHW, labels_N, normalisation, mine)
        num_here = mine.stop - mine.start
        num_seen += num
        num_seen_here += num_here
        losses_S[step - 1] = loss
        totals += torch.stack([loss * num_here, num_right])
        if on_step:
            on_step(Step(step, steps, num_seen_here, totals))
    bad_S = workers.total((~losses_S.isfinite()).float())
    loss_sum, num_right_sum, first_bad, num_bad = torch.cat(
        [workers.total(totals), torch.stack([bad_S.argmax(), bad_S.count_nonzero()])]
    ).tolist()
    bad_step = int(first_bad) + 1 if num_bad else 0
    return _TrainedOn(num_seen, loss_sum / num_seen, num_right_sum / num_seen, bad_step)


def _train_step(
    state: TrainState,
    images_NHW: Tensor,
    labels_N: Tensor,
    normalisation: Normalisation,
    mine: slice,
) -> tuple[Tensor, Tensor]:
    """One step on the part `mine` of a batch; the part's mean loss, and how many were right.

    The random maps are drawn for the whole batch, so that every picture meets
    the same one however many processes there are.
    """
    settings, device, workers = state.settings, state.device, state.workers
    seen_NHW, wanted_N = images_NHW[mine], labels_N[mine]
    if settings.augment:
        num, size_px = images_NHW.shape[0], images_NHW.shape[-1]
        maps_N23 = draw_maps(num, size_px, how=settings.augmentation, generator=state.augmenting)
        seen_NHW = warp(seen_NHW, maps_N23[mine])
    x_NCHW = normalise(seen_NHW, normalisation).to(memory_format=torch.channels_last)
    with torch.autocast(device.type, state.dtype, enabled=state.dtype != torch.float32):
        logits_NK = state.parallel(x_NCHW)
    loss = _loss(logits_NK.float(), wanted_N, settings)
    state.optimizer.zero_grad()
    # The gradients are averaged over the processes, whose parts may differ by a picture.
    weight = len(wanted_N) * workers.count / len(labels_N)
    state.scaler.scale(loss if workers.count == 1 else loss * weight).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.after_step()
    if state.average:
        state.average.update(state.model)
    return loss.detach(), (logits_NK.detach().argmax(dim=1) == wanted_N).sum()


def _validate(
    state: TrainState, val: Examples, normalisation: Normalisation
) -> tuple[float | None, float | None]:
    """Mean loss (nats) and accuracy (0..1) of the result on `val`; None where it is empty."""
    if not len(val):
        return None, None
    if state.workers.count == 1:
        judged = evaluate(state.result, val, normalisation)
        return judged.loss, judged.accuracy
    mine = state.workers.share(len(val))
    part = Examples(val.images_NHW[mine], val.labels_N[mine])
    sums = torch.zeros(2, dtype=torch.float64)
    if len(part):
        judged = evaluate(state.result, part, normalisation)
        sums += torch.tensor([judged.loss, judged.accuracy], dtype=torch.float64) * len(part)
    loss, accuracy = (state.workers.total(sums) / len(val)).tolist()
    return loss, accuracy


def _check_finite(
    state: TrainState, trained_on: _TrainedOn, val_loss: float | None, *, lr: float
) -> None:
    """Raise RunError if a loss or a weight has become NaN or infinite in this epoch."""
    losses = [trained_on.loss, val_loss or 0.0]
    # Batch norm's statistics too: a square can overflow where no weight and no loss does.
    tensors = state.result.state_dict().values()
    are_finite = torch.stack([each.isfinite().all() for each in tensors]).all()
    if all(map(math.isfinite, losses)) and are_finite and not trained_on.bad_step:
        return
    epoch = state.num_epochs_done + 1
    where = f" in step {trained_on.bad_step}" if trained_on.bad_step else " after the last step"
    half = "" if state.dtype == torch.float32 else ", or compute in float32: --precision float32"
    raise RunError(
        f"The loss became NaN or infinite{where} of epoch {epoch}.",
        why=f"The steps were too large (learning rate {lr:g} as the epoch began).",
        fix=f"Train anew with smaller steps: --lr {state.settings.lr / 10:g}{half}",
    )


@torch.inference_mode()
def evaluate(model: nn.Module, examples: Examples, normalisation: Normalisation) -> Evaluation:
    """Judge `model` on `examples`, both on one device, in float32 and without dropout.

    Uses no randomness and leaves the model in the mode it was in. Float32 on
    every device, so that a count of errors means the same everywhere.
    """
    was_training = model.training
    model.eval()
    # Tensor cores would round the inputs of a float32 convolution to 10 bits (TF32).
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logits_NK = torch.cat(
            [
                model(normalise(images_NHW, normalisation))
                for images_NHW in examples.images_NHW.split(EVALUATION_BATCH)
            ]
        )
    model.train(was_training)
    loss = F.cross_entropy(logits_NK, examples.labels_N).item()
    return Evaluation(loss, logits_NK.softmax(dim=1).cpu(), examples.labels_N.cpu())


def _loss(logits_NK: Tensor, labels_N: Tensor, settings: TrainSettings) -> Tensor:
    """The mean loss of a batch. Both kinds take logits; without smoothing they are equal."""
    if settings.loss == "nll":
        return F.nll_loss(F.log_softmax(logits_NK, dim=1), labels_N)
    return F.cross_entropy(logits_NK, labels_N, label_smoothing=settings.label_smoothing)


def _optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
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
        return torch.optim.SGD(groups, settings.lr, momentum, nesterov=momentum > 0, fused=True)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, settings.lr, fused=True)
    return torch.optim.Adam(groups, settings.lr, fused=True)
