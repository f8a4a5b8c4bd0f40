"""Array types of pictures, and measures that several steps of reading them need.

Array names end in their shape: H rows, W columns, C channels, N pixels, K connected components.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# The sides of MNIST's images, and of the square in them that the ink is scaled to.
IMAGE_PX, FIT_PX = 28, 20
# float32; brightness, contrast or ink of every pixel.
GrayImage = NDArray[np.float32]
Mask = NDArray[np.bool_]
# The number of the connected part or the digit that a pixel belongs to, from 1; 0 elsewhere.
Labels = NDArray[np.int32]
# Left, top, right, bottom in pixels; right and bottom are exclusive.
Box = tuple[int, int, int, int]
Scalar = TypeVar("Scalar", bound=np.generic)


def quantile(values: GrayImage, share: float) -> float:
    """The value at this share (0..1) of the sorted, non-empty `values`.

    It does not interpolate, and is much faster than NumPy's.
    """
    rank = round(share * (values.size - 1))
    return float(np.partition(values, rank, axis=None)[rank])


def mask_box(mask_HW: Mask) -> Box:
    """The box of the pixels that are set, at least one."""
    top, bottom = _first_and_end(np.logical_or.reduce(mask_HW, axis=1))
    left, right = _first_and_end(np.logical_or.reduce(mask_HW, axis=0))
    return left, top, right, bottom


def _first_and_end(mask_N: Mask) -> tuple[int, int]:
    return int(mask_N.argmax()), mask_N.size - int(mask_N[::-1].argmax())


def border_pixels(pixels: NDArray[Scalar], inset: int) -> NDArray[Scalar]:
    """The pixels `inset` pixels from the edge of (H, W) or (H, W, C), as (N,) or (N, C).

    The corners appear twice.
    """
    height, width = pixels.shape[:2]
    inner = pixels[inset : height - inset, inset : width - inset]
    return np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
