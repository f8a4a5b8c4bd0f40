"""Ink -> MNIST's format: fitted into 20x20, centered by mass in 28x28.

MNIST was made from NIST's black-and-white scans: the digit's box was fitted into
20x20 with its aspect kept, anti-aliased, and its center of mass put in the middle
of 28x28 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document
recognition, Proc. IEEE 86, 1998, section III.A). A network trained on MNIST reads
nothing else, so the digits of every picture have to be brought to this format.

Shapes: H rows, W columns, S output pixels. Ink is float32, 0 background to 1 full ink.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnistcli.data.arrays import FIT_PX, IMAGE_PX, Box, GrayImage, mask_box, quantile

# Where the center of mass is, counted from pixel 0. The training set's centers average 14.0.
CENTER_PX = 14
# Less ink than this share of the darkest is not a visible part of a stroke.
VISIBLE_INK = 0.05

# As measured by `stroke_width_px`, MNIST's training digits have strokes of 2.5 px on
# average, 98 % of them within the first two bounds. Others are brought to the second two.
THIN_PX, THICK_PX = 1.45, 4.6
WIDENED_PX, NARROWED_PX = 2.3, 3.0
# Strokes are widened or narrowed on a square with this many times the output's side.
OVERSAMPLING = 5


def is_mnist_format(contrast_HW: GrayImage) -> bool:
    """Whether a picture is one of MNIST's, or made like them.

    It is 28x28, its ink fully black or white, 20 pixels long on the longer side and
    centered by mass, on a background of one level. 99.98 % of MNIST's images are,
    and others only by accident.
    """
    if (
        contrast_HW.shape != (IMAGE_PX, IMAGE_PX)
        or contrast_HW.min() < 0
        or contrast_HW.max() < 0.9
    ):
        return False
    left, top, right, bottom = ink_box(contrast_HW, visible=0)
    if max(right - left, bottom - top) != FIT_PX:
        return False
    y, x = ndimage.center_of_mass(contrast_HW)
    return bool(max(abs(y - CENTER_PX), abs(x - CENTER_PX)) <= 0.51)


def normalize_ink(ink_HW: GrayImage) -> NDArray[np.uint8]:
    """Ink of any size in MNIST's format, uint8 (28, 28), 0 background to 255 ink."""
    return np.rint(255 * center_by_mass(fit_to_box(ink_HW))).astype(np.uint8)


def ink_box(ink_HW: GrayImage, *, visible: float = VISIBLE_INK) -> Box:
    """The box of the pixels with more than this share of the darkest ink."""
    return mask_box(ink_HW > visible * ink_HW.max())


def fit_to_box(ink_HW: GrayImage) -> GrayImage:
    """Ink -> (20, 20), filling it with its aspect kept, strokes about as wide as MNIST's."""
    square_HW = to_square(ink_HW)
    width_px = stroke_width_px(square_HW) * FIT_PX / len(square_HW)
    # Ink of exactly this size was fitted before: MNIST's own thick strokes stay.
    if width_px < THIN_PX or (width_px > THICK_PX and len(square_HW) != FIT_PX):
        square_HW = adjust_stroke_width(square_HW)
    fitted_HW = resize_square(square_HW, FIT_PX)
    # A stroke much thinner than the ink is long has nearly averaged away.
    return np.asarray(fitted_HW / fitted_HW.max())


def adjust_stroke_width(ink_HW: GrayImage) -> GrayImage:
    """Widen or narrow strokes so that they have MNIST's usual width after fitting.

    A disc of radius r changes side s and stroke w to s + 2r and w + 2r; r is chosen
    so that 20 (w + 2r) / (s + 2r) is the target width.
    """
    ink_HW = resize_square(ink_HW, FIT_PX * OVERSAMPLING)
    side_px, width_px = len(ink_HW), stroke_width_px(ink_HW)
    target_px = WIDENED_PX if width_px < THIN_PX * OVERSAMPLING else NARROWED_PX
    radius_px = (target_px * side_px - FIT_PX * width_px) / (2 * (FIT_PX - target_px))
    ink_HW = np.pad(ink_HW, 1 + math.ceil(abs(radius_px)))
    # Half of the usual darkness, because a thin stroke is gray all over when scaled down.
    visible_N = ink_HW[ink_HW > VISIBLE_INK * ink_HW.max()]
    stroke_HW = ink_HW > quantile(visible_N, 0.9) / 2
    # Distances are between the centers of pixels; the edge is half a pixel off.
    if radius_px > 0:
        reach_HW = radius_px + 1 - ndimage.distance_transform_edt(~stroke_HW)
    else:
        reach_HW = radius_px + ndimage.distance_transform_edt(stroke_HW)
    return to_square(np.clip(reach_HW, 0, 1).astype(np.float32))


def stroke_width_px(ink_HW: GrayImage) -> float:
    """The mean width of the strokes: twice the ink over its total variation.

    A stroke of length L, width w and any darkness d has L w d of ink, and its two
    edges have a total variation of 2 L d.
    """
    height, width = ink_HW.shape
    padded_HW = np.zeros((height + 2, width + 2), np.float32)
    padded_HW[1:-1, 1:-1] = ink_HW
    here_HW = padded_HW[1:, 1:]
    down_HW, right_HW = here_HW - padded_HW[:-1, 1:], here_HW - padded_HW[1:, :-1]
    return 2 * float(ink_HW.sum()) / max(float(np.hypot(down_HW, right_HW).sum()), 1e-6)


def to_square(ink_HW: GrayImage) -> GrayImage:
    """Crop to the ink and pad with background to a square."""
    left, top, right, bottom = ink_box(ink_HW)
    height, width = bottom - top, right - left
    side = max(height, width)
    square_HW = np.zeros((side, side), np.float32)
    y, x = (side - height) // 2, (side - width) // 2
    square_HW[y : y + height, x : x + width] = ink_HW[top:bottom, left:right]
    return square_HW


def resize_square(ink_HW: GrayImage, side_px: int) -> GrayImage:
    """Scale a square to (side_px, side_px): area averages to shrink, bicubic to enlarge."""
    if len(ink_HW) == side_px:
        return ink_HW
    if len(ink_HW) > side_px:
        shares_SH = area_shares(len(ink_HW), side_px)
        return np.asarray(shares_SH @ ink_HW @ shares_SH.T)
    enlarged = Image.fromarray(ink_HW).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float32).clip(0, 1)


@lru_cache(maxsize=64)
def area_shares(from_px: int, to_px: int) -> GrayImage:
    """The share of each output pixel that each input pixel covers, float32 (to_px, from_px).

    Pillow's box filter assigns a pixel to one output pixel or to none, and loses a
    line of one pixel that falls between two.
    """
    scale = from_px / to_px
    start_S1 = scale * np.arange(to_px)[:, None]
    pixel_H = np.arange(from_px)[None, :]
    overlap_SH = np.minimum(start_S1 + scale, pixel_H + 1) - np.maximum(start_S1, pixel_H)
    return np.asarray(overlap_SH.clip(min=0) / scale, dtype=np.float32)


def center_by_mass(ink_HW: GrayImage) -> GrayImage:
    """Move ink by whole pixels so that its center of mass is in the middle of (28, 28).

    It is moved less where ink would leave the image.
    """
    left, top, right, bottom = ink_box(ink_HW)
    y = centered_start(ink_HW.sum(axis=1), top, bottom)
    x = centered_start(ink_HW.sum(axis=0), left, right)
    centered_HW = np.zeros((IMAGE_PX, IMAGE_PX), np.float32)
    centered_HW[y : y + bottom - top, x : x + right - left] = ink_HW[top:bottom, left:right]
    return centered_HW


def centered_start(ink_N: GrayImage, first: int, end: int) -> int:
    """Where ink from `first` to `end` begins in `IMAGE_PX` pixels if its mean is in the middle."""
    mean = float(ink_N @ np.arange(len(ink_N), dtype=np.float32)) / float(ink_N.sum())
    return min(max(CENTER_PX - round(mean) + first, 0), IMAGE_PX - (end - first))
