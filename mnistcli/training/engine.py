"""The training loop. Knows no disk, no screen and no flags.

`fit` is a generator: it yields one EpochResult after another, and its caller decides what
to do with them. Losses and counts add up on the device; the host waits for it once an epoch.

Shapes: N images, C channels (1), H rows, W columns, K classes, S steps.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from mnistcli.config.settings import TrainSettings
from mnistcli.data.augment import random_affine_maps, warp_affine
from mnistcli.data.batches import shuffled_batches, steps_per_epoch
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.errors import RunError
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.models.registry import has_batch_norm
from mnistcli.runs.history import EpochResult
from mnistcli.training.losses import batch_loss, with_no_digit
from mnistcli.training.state import TrainState

# As good as all 60,000 (docs/results.md).
_NUM_RECOMPUTING_IMAGES = 5_000

# Called after every step.
OnStep = Callable[["StepProgress"], None]


@dataclass(frozen=True)
class StepProgress:
    """How far an epoch is after step `number` of `num_steps`, with `num_images` seen in it.

    `totals` is the epoch's running (sum of losses, number correct), float32 on the
    device. Reading it makes the host wait, so read it no more often than a person
    looks; the next step changes it in place. In a process group, each process
    counts the images of its own share.
    """

    number: int
    num_steps: int
    num_images: int
    totals: Tensor


def fit(
    state: TrainState,
    train: Examples,
    val: Examples,
    normalization: Normalization,
    *,
    on_step: OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train epoch by epoch until the settings' number of epochs is done.

    The examples are on `state.device`, and in a process group every process has all
    of them. Between two results the caller may read `state.eval_model` and
    `state.state_dict()`, but must not change them.

    Raises:
        RunError: the loss, the weights or the optimizer's state are no longer finite.
    """
    settings, group = state.settings, state.group
    while state.num_epochs_done < settings.epochs:
        start_time = time.perf_counter()
        number = state.num_epochs_done + 1
        lr = state.optimizer.param_groups[0]["lr"]
        if not group.is_main:  # a dropout of its own, which resuming does not change
            torch.manual_seed(settings.seed + 1_000_003 * group.rank + number)
        train_totals = _train_epoch(state, train, normalization, on_step)
        train_seconds = time.perf_counter() - start_time
        _recompute_batch_norm(state, train, normalization)
        val_loss, val_accuracy = _validate(state, val, normalization)
        _raise_if_diverged(state, train_totals, val_loss, lr=lr)
        loss = train_totals.loss if val_loss is None else val_loss
        state.lr_schedule.after_epoch(loss)
        state.losses.append(loss)
        yield EpochResult(
            epoch=number,
            lr=lr,
            train_loss=train_totals.loss,
            train_accuracy=train_totals.accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=time.perf_counter() - start_time,
            images_per_second=train_totals.num_images / train_seconds,
        )


@dataclass(frozen=True)
class _EpochTotals:
    """An epoch's images, their mean loss (nats) and accuracy (0..1), and its first bad step.

    `bad_step` counts from 1 and is 0 if every loss was finite.
    """

    num_images: int
    loss: float
    accuracy: float
    bad_step: int


def _train_epoch(
    state: TrainState, train: Examples, normalization: Normalization, on_step: OnStep | None
) -> _EpochTotals:
    """Train on every batch once; in a process group, on this process's share of each."""
    batch_size, group = state.settings.batch_size, state.group
    num_steps = steps_per_epoch(len(train), batch_size)
    totals = torch.zeros(2, device=state.device)
    losses_S = torch.zeros(num_steps, device=state.device)
    num_images = num_images_here = 0
    state.model.train()
    batches = shuffled_batches(train, batch_size, state.shuffle_rng)
    for step, (images_NHW, labels_N) in enumerate(batches, start=1):
        state.settle_batch_norm(state.num_epochs_done * num_steps + step)
        shard = group.shard(len(labels_N))
        loss, num_correct = _train_step(state, images_NHW, labels_N, normalization, shard)
        losses_S[step - 1] = loss
        num_in_shard = shard.stop - shard.start
        totals += torch.stack([loss * num_in_shard, num_correct])
        num_images += len(labels_N)
        num_images_here += num_in_shard
        if on_step:
            on_step(StepProgress(step, num_steps, num_images_here, totals))
    # A step is bad if any process has a bad loss; argmax finds the first.
    bad_S = (group.all_reduce_sum((~losses_S.isfinite()).float()) > 0).float()
    loss_sum, num_correct_sum, first_bad, num_bad = torch.cat(
        [group.all_reduce_sum(totals), torch.stack([bad_S.argmax(), bad_S.count_nonzero()])]
    ).tolist()
    bad_step = int(first_bad) + 1 if num_bad else 0
    return _EpochTotals(num_images, loss_sum / num_images, num_correct_sum / num_images, bad_step)


def _train_step(
    state: TrainState,
    images_NHW: Tensor,
    labels_N: Tensor,
    normalization: Normalization,
    shard: slice,
) -> tuple[Tensor, Tensor]:
    """One optimizer step on a process's share of a batch; its mean loss and number correct."""
    group = state.group
    x_NCHW = _network_input(state, images_NHW, normalization, shard)
    shard_labels_N = labels_N[shard]
    # Mixed precision (AMP): forward and backward pass in state.dtype, all else in float32.
    with torch.autocast(state.device.type, state.dtype, enabled=state.dtype != torch.float32):
        logits_NK = state.train_model(x_NCHW)
    if state.settings.composed:
        logits_NK = with_no_digit(logits_NK)
    loss = batch_loss(logits_NK.float(), shard_labels_N, state.settings)
    state.optimizer.zero_grad()
    # DDP averages the gradients over the processes, whose shares may differ by one image.
    weight = len(shard_labels_N) * group.world_size / len(labels_N)
    state.scaler.scale(loss if group.world_size == 1 else loss * weight).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.lr_schedule.after_step()
    if state.ema:
        state.ema.update()
    return loss.detach(), (logits_NK.detach().argmax(dim=1) == shard_labels_N).sum()


def _network_input(
    state: TrainState, images_NHW: Tensor, normalization: Normalization, shard: slice
) -> Tensor:
    """A share of a batch as the network's input (N, 1, H, W), augmented if the settings say so.

    The random maps are drawn for the whole batch, so that an image is augmented in the
    same way in any number of processes.
    """
    settings, shard_NHW = state.settings, images_NHW[shard]
    if settings.augment:
        num, size_px = images_NHW.shape[0], images_NHW.shape[-1]
        maps_N23 = random_affine_maps(
            num, size_px, strength=settings.augmentation, generator=state.augment_rng
        )
        shard_NHW = warp_affine(shard_NHW, maps_N23[shard])
    return normalize(shard_NHW, normalization)


def num_recomputing_batches(settings: TrainSettings, num_examples: int) -> int:
    """How many batches an epoch ends with to recompute batch norm's statistics."""
    # Not in fine-tuning, which has few images: the running averages of its start move slowly.
    recomputes = settings.augment and settings.start is None
    if not recomputes or not has_batch_norm(settings.arch, settings.network):
        return 0
    num_batches = max(1, _NUM_RECOMPUTING_IMAGES // settings.batch_size)
    return min(num_batches, steps_per_epoch(num_examples, settings.batch_size))


def _recompute_batch_norm(state: TrainState, train: Examples, normalization: Normalization) -> None:
    """Recompute batch norm's statistics on training images that are not augmented.

    Images to classify are not augmented, so their means and variances differ from those of
    training (precise batch norm: Wu and Johnson 2021; the mismatch: Touvron et al. 2019).
    """
    if num_batches := num_recomputing_batches(state.settings, len(train)):
        batches = shuffled_batches(train, state.settings.batch_size, state.shuffle_rng)
        state.recompute_batch_norm(
            normalize(images_NHW[state.group.shard(len(images_NHW))], normalization)
            for images_NHW, _ in islice(batches, num_batches)
        )


def _validate(
    state: TrainState, val: Examples, normalization: Normalization
) -> tuple[float | None, float | None]:
    """Mean validation loss (nats) and accuracy (0..1); None if nothing is held out."""
    if not len(val):
        return None, None
    if state.group.world_size == 1:
        predictions = evaluate_network(state.eval_model, val, normalization)
        return predictions.loss, predictions.accuracy
    indices = state.group.shard(len(val))
    shard = Examples(val.images_NHW[indices], val.labels_N[indices])
    sums = torch.zeros(2, dtype=torch.float64)
    if len(shard):
        predictions = evaluate_network(state.eval_model, shard, normalization)
        means = torch.tensor([predictions.loss, predictions.accuracy], dtype=torch.float64)
        sums += means * len(shard)
    loss, accuracy = (state.group.all_reduce_sum(sums) / len(val)).tolist()
    return loss, accuracy


def _raise_if_diverged(
    state: TrainState, train_totals: _EpochTotals, val_loss: float | None, *, lr: float
) -> None:
    """Raise RunError if a loss, or a tensor that is saved, has become NaN or infinite."""
    # Also batch norm's statistics and the optimizer's state: a square can overflow where no
    # weight and no loss does.
    tensors = [
        *state.model.state_dict().values(),
        *state.eval_model.state_dict().values(),
        *(value for moments in state.optimizer.state.values() for value in moments.values()),
    ]
    are_finite = torch.stack([tensor.isfinite().all() for tensor in tensors]).all()
    losses = (train_totals.loss, val_loss or 0.0)
    if all(map(math.isfinite, losses)) and are_finite and not train_totals.bad_step:
        return
    step = f"in step {train_totals.bad_step}" if train_totals.bad_step else "after the last step"
    in_float32 = "" if state.dtype == torch.float32 else ", or use --precision float32"
    raise RunError(
        f"The loss became NaN or infinite {step} of epoch {state.num_epochs_done + 1}.",
        why=f"The learning rate is probably too high (it was {lr:g} at the start of this epoch).",
        fix=f"Train with a lower one: --lr {state.settings.lr / 10:g}{in_float32}",
    )
