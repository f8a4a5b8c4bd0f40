"""Splits, shuffling, normalization and augmentation, on the device, a whole batch at a time.

The data set is one tensor that stays where the network is; a batch is one
gather. Every random choice here comes from a generator of its own, so that
drawing a batch never disturbs the initialisation, the dropout or another run.

Shapes: N images, C channels (1), H rows, W columns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.errors import SettingsError
from mnistcli.settings import Augmentation, Fold, TrainSettings


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


def augment(images_NHW: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Every uint8 picture (N, H, W) turned, scaled, sheared and shifted by its own random map.

    What comes in from outside the picture is background (0). The result is
    float32 in 0..255, of the same shape.
    """
    num, size_px = images_NHW.shape[0], images_NHW.shape[-1]
    return warp_affine(images_NHW, random_affine_maps(num, size_px, how=how, generator=generator))


def random_affine_maps(
    num: int, size_px: int, *, how: Augmentation, generator: torch.Generator
) -> Tensor:
    """Random affine maps, float32 (N, 2, 3), for pictures of `size_px`, on the generator's device.

    A map takes a place in the result to the place in the picture that is seen
    there, both in half pictures from the middle, as `affine_grid` counts.
    """

    def uniform(limit: float) -> Tensor:
        draw_N = torch.rand(num, generator=generator, device=generator.device)
        return (2 * draw_N - 1) * limit

    angle_N = uniform(math.radians(how.rotate_degrees))
    shear_N = torch.tan(uniform(math.radians(how.shear_degrees)))
    scale_x_N, scale_y_N = 1 + uniform(how.scale_fraction), 1 + uniform(how.scale_fraction)
    shift_x_N, shift_y_N = (uniform(2 * how.shift_px / size_px) for _ in range(2))

    cos_N, sin_N = torch.cos(angle_N), torch.sin(angle_N)
    row_x_N3 = torch.stack(
        [scale_x_N * cos_N, scale_y_N * (shear_N * cos_N - sin_N), shift_x_N], dim=1
    )
    row_y_N3 = torch.stack(
        [scale_x_N * sin_N, scale_y_N * (shear_N * sin_N + cos_N), shift_y_N], dim=1
    )
    return torch.stack([row_x_N3, row_y_N3], dim=1)


def _pixel_centers(size_px: int, device: torch.device) -> Tensor:
    """Where the middles of pixels lie, in half pictures from the middle."""
    return (2 * torch.arange(size_px, device=device) + 1) / size_px - 1


def warp_affine(images_NHW: Tensor, maps_N23: Tensor) -> Tensor:
    """Every picture (N, H, W) seen through its own affine map, all by one bilinear resampling."""
    x_NCHW = images_NHW.unsqueeze(1).float()
    # A row's part and a column's part of every place, in a third of the time of `affine_grid`.
    x_N112, y_N112, shift_N112 = maps_N23[:, None, None].unbind(dim=-1)
    across_N1W2 = x_N112 * _pixel_centers(x_NCHW.shape[3], maps_N23.device)[:, None]
    down_NH12 = (
        y_N112 * _pixel_centers(x_NCHW.shape[2], maps_N23.device)[:, None, None] + shift_N112
    )
    grid_NHW2 = across_N1W2 + down_NH12
    return F.grid_sample(x_NCHW, grid_NHW2, align_corners=False).squeeze(1)
