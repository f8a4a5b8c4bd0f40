"""Training and evaluation. Knows no disk, no screen and no flags.

`fit` is a generator: it yields one EpochResult after another and leaves what
to do with them to its caller. Losses and counts add up on the device; the host
waits for it once an epoch.

Shapes: N images, C channels (1), H rows, W columns, K classes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnistcli import registry
from mnistcli.batches import Examples, Normalisation, augment, normalise, num_steps, shuffled
from mnistcli.errors import RunError
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
    looks; it goes on changing, so read it before the next step.
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


class TrainState:
    """Everything that changes while a network is trained.

    Building one seeds PyTorch's global generator, from which initial weights
    and dropout are drawn.
    """

    def __init__(
        self, settings: TrainSettings, *, num_examples: int, device: str, precision: str
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device = torch.device(device)
        self.dtype = DTYPES[precision]
        self.model = registry.build(settings.arch, settings.network)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        self.optimizer = _optimizer(self.model, settings)
        steps = num_steps(num_examples, settings.batch_size)
        self.schedule = Schedule(self.optimizer, settings, steps=steps)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
        self.shuffling = torch.Generator(self.device).manual_seed(settings.seed)
        self.augmenting = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self.num_epochs_done = 0

    @property
    def result(self) -> nn.Module:
        """The network that is judged and saved: the averaged weights where there are any."""
        return self.average.module if self.average else self.model


def fit(
    state: TrainState,
    train: Examples,
    val: Examples,
    normalisation: Normalisation,
    *,
    on_step: OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train epoch by epoch until the settings' number of epochs is done.

    The examples lie on `state.device`. Between two results the caller may
    read `state.result`; it must not change it.

    Raises:
        RunError: the loss is no longer finite.
    """
    settings = state.settings
    while state.num_epochs_done < settings.epochs:
        started = time.perf_counter()
        lr = state.optimizer.param_groups[0]["lr"]
        num_seen, train_loss, train_accuracy = _train_epoch(state, train, normalisation, on_step)
        trained = time.perf_counter()
        state.num_epochs_done += 1
        judged = evaluate(state.result, val, normalisation) if len(val) else None
        loss = judged.loss if judged else train_loss
        if not math.isfinite(train_loss + loss):
            raise RunError(
                f"The loss became {train_loss + loss} in epoch {state.num_epochs_done}.",
                why=f"The steps were too large (learning rate {lr:g}).",
                fix=f"Train with smaller steps: --lr {settings.lr / 10:g}",
            )
        state.schedule.after_epoch(loss)
        yield EpochResult(
            epoch=state.num_epochs_done,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=judged.loss if judged else None,
            val_accuracy=judged.accuracy if judged else None,
            seconds=time.perf_counter() - started,
            images_per_second=num_seen / (trained - started),
        )


def _train_epoch(
    state: TrainState, train: Examples, normalisation: Normalisation, on_step: OnStep | None
) -> tuple[int, float, float]:
    """Train on every batch once; the images seen, their mean loss (nats) and accuracy (0..1)."""
    settings, device = state.settings, state.device
    steps = num_steps(len(train), settings.batch_size)
    totals = torch.zeros(2, device=device)
    num_seen = 0
    state.model.train()
    batches = shuffled(train, settings.batch_size, state.shuffling)
    for step, (images_NHW, labels_N) in enumerate(batches, start=1):
        seen_NHW = (
            augment(images_NHW, settings.augmentation, state.augmenting)
            if settings.augment
            else images_NHW
        )
        x_NCHW = normalise(seen_NHW, normalisation).to(memory_format=torch.channels_last)
        with torch.autocast(device.type, state.dtype, enabled=state.dtype != torch.float32):
            logits_NK = state.model(x_NCHW)
        loss = _loss(logits_NK.float(), labels_N, settings)
        state.optimizer.zero_grad()
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.schedule.after_step()
        if state.average:
            state.average.update(state.model)
        num_seen += len(labels_N)
        num_right = (logits_NK.detach().argmax(dim=1) == labels_N).sum()
        totals += torch.stack([loss.detach() * len(labels_N), num_right])
        if on_step:
            on_step(Step(step, steps, num_seen, totals))
    loss_sum, num_right_sum = totals.tolist()
    return num_seen, loss_sum / num_seen, num_right_sum / num_seen


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
