"""Training the network that finds ink (`models.ink_finder`) on pages that are composed meanwhile.

Shapes: N pages, H rows, W columns.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from mnistcli.data.examples import Examples
from mnistcli.errors import RunError
from mnistcli.models.ink_finder import STRIDE_PX, InkFinder
from mnistcli.synthesis.page import PAGE_PX, compose_page
from mnistcli.synthesis.shapes import DigitShapes

BATCH_SIZE = 16
# On this share of the steps the pages are cropped, the sides no smaller than this many pixels.
CROPPED_SHARE, MIN_SIDE_PX = 0.4, 48
# Enough handwriting; each digit's skeleton is found once.
NUM_DIGITS = 6000
MAX_LR, WEIGHT_DECAY, WARMUP_STEPS = 3e-3, 0.01, 100
# A pixel of ink counts as much as this many others.
INK_WEIGHT = 2.0


@dataclass(frozen=True)
class FinderStep:
    """After step `number` of `num_steps`, `seconds` after the first began.

    `loss` is the mean over the steps since the last report, in nats per pixel.
    """

    number: int
    num_steps: int
    loss: float
    seconds: float


class PageStream(IterableDataset[tuple[NDArray[np.uint8], NDArray[np.uint8]]]):
    """Endless batches of random pages: gray and ink, both uint8 (N, 1, H, W)."""

    def __init__(self, shapes: DigitShapes, seed: int) -> None:
        self._shapes, self._seed = shapes, seed

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        rng = np.random.default_rng(self._seed)
        sides_px = range(MIN_SIDE_PX, PAGE_PX + 1, STRIDE_PX)
        while True:
            size_px = (PAGE_PX, PAGE_PX)
            if rng.random() < CROPPED_SHARE:
                size_px = tuple(rng.choice(sides_px, 2).tolist())
            pages = [compose_page(self._shapes, rng, size_px) for _ in range(BATCH_SIZE)]
            yield (
                np.stack([page.gray_HW[None] for page in pages]),
                np.stack([page.ink_HW[None] for page in pages]),
            )


def fit_finder(
    model: InkFinder,
    digits: Examples,
    *,
    num_steps: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    report_every: int = 100,
) -> Iterator[FinderStep]:
    """Train `model` in place on pages with some of these digits; yields every `report_every` steps.

    Raises:
        RunError: the loss is no longer finite.
    """
    shapes = DigitShapes.from_examples(digits, NUM_DIGITS, np.random.default_rng(seed))
    stream = PageStream(shapes, seed)
    # One process composes pages about as fast as two cores train on them.
    pages = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8))
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: _lr_factor(n, num_steps))
    start, losses = time.perf_counter(), []
    for number in range(1, num_steps + 1):
        gray_N1HW, ink_N1HW = (_to_unit(batch, device) for batch in next(pages))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits_N1HW = model(gray_N1HW)
        loss = F.binary_cross_entropy_with_logits(
            logits_N1HW.float(), ink_N1HW, pos_weight=ink_N1HW.new_tensor(INK_WEIGHT)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RunError(
                f"The loss became NaN or infinite in step {number}.",
                fix="Train again with another --seed.",
            )
        if number % report_every == 0 or number == num_steps:
            mean = sum(losses) / len(losses)
            yield FinderStep(number, num_steps, mean, time.perf_counter() - start)
            losses.clear()
    model.eval()


def _lr_factor(step: int, num_steps: int) -> float:
    """Linear warm-up and linear decay."""
    return min((step + 1) / WARMUP_STEPS, 1 - step / num_steps)


def _to_unit(batch_N1HW: Tensor, device: torch.device) -> Tensor:
    unit_N1HW = batch_N1HW.to(device).float() / 255
    return unit_N1HW.to(memory_format=torch.channels_last)
