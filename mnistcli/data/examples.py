"""Splits, shuffling, normalization and augmentation, on the device, a whole batch at a time.

The data set is one tensor that stays where the network is; a batch is one
gather. Every random choice here comes from a generator of its own, so that
drawing a batch never disturbs the initialisation, the dropout or another run.

Shapes: N images, C channels (1), H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.config.settings import Fold, TrainSettings
from mnistcli.errors import SettingsError


@dataclass(frozen=True)
class Examples:
    """Pictures as uint8 (N, H, W), 0 background to 255 ink, and their classes as int64 (N,)."""

    images_NHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.images_NHW.to(device), self.labels_N.to(device))

    def take(self, indices_N: Tensor) -> "Examples":
        """The examples at `indices_N` (int64), in that order."""
        # Of bytes, PyTorch copies whole pictures here, and single pixels for images_NHW[indices_N].
        return Examples(
            self.images_NHW.index_select(0, indices_N), self.labels_N.index_select(0, indices_N)
        )


@dataclass(frozen=True)
class Normalization:
    """How uint8 pictures become the network's input: mean and SD of a pixel in 0..1, side in px."""

    mean: float
    std: float
    input_px: int


def split_examples(examples: Examples, settings: TrainSettings) -> tuple[Examples, Examples]:
    """The training and validation examples of a run: by its fold, else by its `val_size`.

    Raises:
        SettingsError: too few examples would be left to train on, or to validate on.
    """
    if settings.fold:
        return split_by_fold(examples, settings.fold, settings.seed)
    return split_by_size(examples, settings.val_size, settings.seed)


def split_by_fold(examples: Examples, fold: Fold, seed: int) -> tuple[Examples, Examples]:
    """The examples outside and inside of a fold, as in cross-validation (Stone 1974).

    The folds of one seed are disjoint and together complete; their sizes differ
    by one at most.

    Raises:
        SettingsError: there are fewer examples than folds.
    """
    num_all = len(examples)
    if num_all < fold.of:
        raise SettingsError(
            f"{fold.of} folds leave nothing to validate on.",
            why=f"The training set has {num_all:,} pictures.",
            fix=f"Use --folds {num_all} or less.",
        )
    start, end = ((fold.number - 1) * num_all // fold.of, fold.number * num_all // fold.of)
    order_N = _permutation(num_all, seed)
    outside_N = torch.cat([order_N[:start], order_N[end:]])
    return examples.take(outside_N), examples.take(order_N[start:end])


def split_by_size(examples: Examples, val_size: float, seed: int) -> tuple[Examples, Examples]:
    """Training and validation examples, disjoint and together complete, by a seeded shuffle.

    `val_size` below 1 is a fraction of the examples, else their number. A
    `val_size` of 0 gives an empty validation set.

    Raises:
        SettingsError: no example would be left to train on, or to validate on though
            `val_size` is above 0.
    """
    num_all = len(examples)
    num_val = round(num_all * val_size) if val_size < 1 else int(val_size)
    problem = ""
    if num_val >= num_all:
        problem = "leaves nothing to train on"
    elif val_size >= 1 and num_val != val_size:
        problem = "is no whole number of pictures"
    elif val_size and not num_val:
        problem = "leaves nothing to validate on"
    if problem:
        raise SettingsError(
            f"--val-size {val_size:g} {problem}.",
            why=f"The training set has {num_all:,} pictures.",
            fix=f"Use 0, a fraction below 1, or a count below {num_all}.",
        )
    order_N = _permutation(num_all, seed)
    return examples.take(order_N[num_val:]), examples.take(order_N[:num_val])


def _permutation(num: int, seed: int) -> Tensor:
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Batches in an epoch: full ones only, or one smaller batch where there is no full one."""
    return max(1, num_examples // batch_size)


def shuffled_batches(
    examples: Examples, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of batches (images_NHW uint8, labels_N) in a fresh random order.

    The last, incomplete batch is dropped, so that all steps weigh the same and
    batch norm never sees a lone picture; the next epoch's order brings the
    pictures back. `generator` lives on the device of the examples.
    """
    order_N = torch.randperm(len(examples), generator=generator, device=generator.device)
    for step in range(steps_per_epoch(len(examples), batch_size)):
        chosen = examples.take(order_N[step * batch_size : (step + 1) * batch_size])
        yield chosen.images_NHW, chosen.labels_N


def evaluation_batch_size(device: torch.device) -> int:
    """How many images to evaluate at once, for speed."""
    # A CPU's caches hold what convolutions make of 100 (docs/performance.md; two cores).
    return 100 if device.type == "cpu" else 1000


def evaluation_batches(images_NHW: Tensor) -> tuple[Tensor, ...]:
    """The images (N, H, W), `evaluation_batch_size` at a time, in order; nothing is copied."""
    return torch.split(images_NHW, evaluation_batch_size(images_NHW.device))


def normalize(images_NHW: Tensor, normalization: Normalization) -> Tensor:
    """Float32 (N, 1, H, W) with mean 0 and SD 1 over the data set, from uint8 (N, H, W).

    Pictures of another size than `input_px` are resized by bilinear
    interpolation. Training, evaluation and prediction all come through here;
    what comes out is laid out as most convolutions are fastest (`channels_last`).
    """
    x_NCHW = images_NHW.unsqueeze(1).float()
    if x_NCHW.shape[-1] != normalization.input_px:
        size = (normalization.input_px, normalization.input_px)
        x_NCHW = F.interpolate(x_NCHW, size=size, mode="bilinear", align_corners=False)
    x_NCHW = (x_NCHW / 255 - normalization.mean) / normalization.std
    return x_NCHW.to(memory_format=torch.channels_last)
