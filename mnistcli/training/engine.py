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
from torch import Tensor

from mnistcli.data.augment import random_affine_maps, warp_affine
from mnistcli.data.examples import (
    Examples,
    Normalization,
    normalize,
    shuffled_batches,
    steps_per_epoch,
)
from mnistcli.errors import RunError
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.runs.history import EpochResult
from mnistcli.training.losses import batch_loss
from mnistcli.training.state import TrainState

# Called after every step.
OnStep = Callable[["StepProgress"], None]


@dataclass(frozen=True)
class StepProgress:
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


def fit(
    state: TrainState,
    train: Examples,
    val: Examples,
    normalization: Normalization,
    *,
    on_step: OnStep | None = None,
) -> Iterator[EpochResult]:
    """Train epoch by epoch until the settings' number of epochs is done.

    The examples lie on `state.device`; of several processes each has all of
    them. Between two results the caller may read `state.eval_model` and
    `state.state_dict()`; it must not change them.

    Raises:
        RunError: the loss, the weights or the optimiser's memory are no longer finite.
    """
    settings, group = state.settings, state.group
    while state.num_epochs_done < settings.epochs:
        started = time.perf_counter()
        number = state.num_epochs_done + 1
        lr = state.optimizer.param_groups[0]["lr"]
        if not group.is_leader:  # each its own dropout, the same however often it is resumed
            torch.manual_seed(settings.seed + 1_000_003 * group.rank + number)
        trained_on = _train_epoch(state, train, normalization, on_step)
        trained = time.perf_counter()
        val_loss, val_accuracy = _validate(state, val, normalization)
        _check_finite(state, trained_on, val_loss, lr=lr)
        loss = trained_on.loss if val_loss is None else val_loss
        state.lr_schedule.step_epoch(loss)
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
    """Train on every batch once, of several processes each on its share of it."""
    settings, device, group = state.settings, state.device, state.group
    steps = steps_per_epoch(len(train), settings.batch_size)
    totals = torch.zeros(2, device=device)
    losses_S = torch.zeros(steps, device=device)
    num_seen = num_seen_here = 0
    state.model.train()
    batches = shuffled_batches(train, settings.batch_size, state.shuffle_rng)
    for step, (images_NHW, labels_N) in enumerate(batches, start=1):
        num = len(labels_N)
        mine = group.shard(num)
        loss, num_correct = _train_step(state, images_NHW, labels_N, normalization, mine)
        num_here = mine.stop - mine.start
        num_seen += num
        num_seen_here += num_here
        losses_S[step - 1] = loss
        totals += torch.stack([loss * num_here, num_correct])
        if on_step:
            on_step(StepProgress(step, steps, num_seen_here, totals))
    # Where any process has a bad one: argmax takes the first of equals.
    bad_S = (group.all_reduce_sum((~losses_S.isfinite()).float()) > 0).float()
    loss_sum, num_right_sum, first_bad, num_bad = torch.cat(
        [group.all_reduce_sum(totals), torch.stack([bad_S.argmax(), bad_S.count_nonzero()])]
    ).tolist()
    bad_step = int(first_bad) + 1 if num_bad else 0
    return _EpochTotals(num_seen, loss_sum / num_seen, num_right_sum / num_seen, bad_step)


def _train_step(
    state: TrainState,
    images_NHW: Tensor,
    labels_N: Tensor,
    normalization: Normalization,
    mine: slice,
) -> tuple[Tensor, Tensor]:
    """One step on the part `mine` of a batch; the part's mean loss, and how many were right.

    The random maps are drawn for the whole batch, so that every picture meets
    the same one however many processes there are.
    """
    settings, device, group = state.settings, state.device, state.group
    seen_NHW, wanted_N = images_NHW[mine], labels_N[mine]
    if settings.augment:
        num, size_px = images_NHW.shape[0], images_NHW.shape[-1]
        maps_N23 = random_affine_maps(
            num, size_px, how=settings.augmentation, generator=state.augment_rng
        )
        seen_NHW = warp_affine(seen_NHW, maps_N23[mine])
    x_NCHW = normalize(seen_NHW, normalization)
    with torch.autocast(device.type, state.dtype, enabled=state.dtype != torch.float32):
        logits_NK = state.train_model(x_NCHW)
    loss = batch_loss(logits_NK.float(), wanted_N, settings)
    state.optimizer.zero_grad()
    # The gradients are averaged over the processes, whose parts may differ by a picture.
    weight = len(wanted_N) * group.world_size / len(labels_N)
    state.scaler.scale(loss if group.world_size == 1 else loss * weight).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.lr_schedule.step_batch()
    if state.ema:
        state.ema.update()
    return loss.detach(), (logits_NK.detach().argmax(dim=1) == wanted_N).sum()


def _validate(
    state: TrainState, val: Examples, normalization: Normalization
) -> tuple[float | None, float | None]:
    """Mean loss (nats) and accuracy (0..1) of the result on `val`; None where it is empty."""
    if not len(val):
        return None, None
    if state.group.world_size == 1:
        judged = evaluate_network(state.eval_model, val, normalization)
        return judged.loss, judged.accuracy
    mine = state.group.shard(len(val))
    part = Examples(val.images_NHW[mine], val.labels_N[mine])
    sums = torch.zeros(2, dtype=torch.float64)
    if len(part):
        judged = evaluate_network(state.eval_model, part, normalization)
        sums += torch.tensor([judged.loss, judged.accuracy], dtype=torch.float64) * len(part)
    loss, accuracy = (state.group.all_reduce_sum(sums) / len(val)).tolist()
    return loss, accuracy


def _check_finite(
    state: TrainState, trained_on: _EpochTotals, val_loss: float | None, *, lr: float
) -> None:
    """Raise RunError if a loss, or anything that is kept, has become NaN or infinite."""
    losses = [trained_on.loss, val_loss or 0.0]
    # Batch norm's statistics and the optimiser's memory too: a square can overflow where no
    # weight and no loss does.
    tensors = [
        *state.model.state_dict().values(),
        *state.eval_model.state_dict().values(),
        *(value for moments in state.optimizer.state.values() for value in moments.values()),
    ]
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
