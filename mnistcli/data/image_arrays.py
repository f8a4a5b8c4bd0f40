"""Arrays of images in the sizes and ranges that files have -> uint8 (N, 28, 28).

Shapes: N images, H rows, W columns, D pixels of an image.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mnistcli.data.arrays import FIT_PX, IMAGE_PX

# Images at a time, so that their float copies stay small.
_CHUNK = 2000


class ImageArrayError(ValueError):
    """An array is not one of images that can be used; the message says why."""


def as_images(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The array as (N, H, W) with H = W, from that, (N, H, W, 1), (N, 1, H, W) or (N, D).

    Raises:
        ImageArrayError: it has another shape.
    """
    if array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array.squeeze(1 if array.shape[1] == 1 else 3)
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        if side * side == array.shape[1]:
            array = array.reshape(len(array), side, side)
    if array.ndim != 3 or array.shape[1] != array.shape[2] or not 4 <= array.shape[1] <= IMAGE_PX:
        shape = "x".join(map(str, array.shape))
        raise ImageArrayError(
            f"Its images have the shape {shape}; they should be squares of 4 to {IMAGE_PX} pixels"
        )
    return array


def to_uint8(images_NHW: NDArray[np.generic], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """Images (N, H, W) of any type as uint8 (N, 28, 28), 0 background to 255 ink.

    A value v becomes (v + offset) * factor, where `scale` is (offset, factor). Smaller images are
    enlarged to 20x20 and centered by mass, as MNIST's are.
    """
    side = images_NHW.shape[1]
    if side == IMAGE_PX and images_NHW.dtype == np.uint8 and scale == (0, 1):
        return np.ascontiguousarray(images_NHW)
    result_NHW = np.empty((len(images_NHW), IMAGE_PX, IMAGE_PX), np.uint8)
    for first in range(0, len(images_NHW), _CHUNK):
        part_NHW = images_NHW[first : first + _CHUNK].astype(np.float32)
        ink_NHW = torch.from_numpy(((part_NHW + scale[0]) * scale[1]).clip(0, 255))
        chunk_NHW = enlarge(ink_NHW) if side < IMAGE_PX else ink_NHW.round().to(torch.uint8)
        result_NHW[first : first + _CHUNK] = chunk_NHW.numpy()
    return result_NHW


def find_scale(images_NHW: NDArray[np.generic]) -> tuple[float, float]:
    """The offset and the factor that bring the values of images to 0..255.

    Known ranges are 0..255, 0..1, -1..1 and, of 8x8 images, 0..16.

    Raises:
        ImageArrayError: the values are in none of them.
    """
    if not images_NHW.size:
        raise ImageArrayError("It has no images")
    low, high = float(images_NHW.min()), float(images_NHW.max())
    if low == high:
        raise ImageArrayError("Its images are blank: all pixels are the same")
    if -1 <= low < 0 and high <= 1:
        return 1.0, 127.5
    if not (low >= 0 and high <= 255):  # also for NaN
        raise ImageArrayError(f"Its pixels are from {low:g} to {high:g}; they should be 0 to 255")
    if high <= 1:
        return 0.0, 255.0
    if high <= 16 and images_NHW.shape[1] == 8:
        return 0.0, 255 / 16
    return 0.0, 1.0


def enlarge(ink_NHW: Tensor, *, factor: float = 1.0) -> Tensor:
    """Small images (N, H, W), float32, in MNIST's format: uint8 (N, 28, 28).

    They are enlarged to 20x20 and centered by mass; times `factor`, their values are in 0..255.
    """
    large_NHW = F.interpolate(ink_NHW.unsqueeze(1), size=(FIT_PX, FIT_PX), mode="bicubic")
    return _center_by_mass((large_NHW.squeeze(1) * factor).clamp(0, 255))


def _center_by_mass(ink_NHW: Tensor) -> Tensor:
    """Ink (N, 20, 20) in 0..255, placed in uint8 (N, 28, 28) with its center of mass central."""
    positions, middle = torch.arange(float(FIT_PX)), (IMAGE_PX - 1) / 2
    mass_N = ink_NHW.sum(dim=(1, 2)).clamp_min(1e-6)  # a blank image has none

    def starts_of(across: int) -> Tensor:
        """Where the ink begins along one axis, from its sums along the other."""
        center_N = (ink_NHW.sum(dim=across) * positions).sum(dim=1) / mass_N
        return (middle - center_N).round().clamp(0, IMAGE_PX - FIT_PX)

    top_N, left_N = starts_of(2), starts_of(1)
    images_NHW = torch.zeros(len(ink_NHW), IMAGE_PX, IMAGE_PX, dtype=torch.uint8)
    offsets = zip(top_N.int().tolist(), left_N.int().tolist(), strict=True)
    for image_HW, ink_HW, (top, left) in zip(images_NHW, ink_NHW, offsets, strict=True):
        image_HW[top : top + FIT_PX, left : left + FIT_PX] = ink_HW.round().to(torch.uint8)
    return images_NHW
