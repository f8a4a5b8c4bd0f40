"""The ink of writing in a picture of any size, by the network that finds it.

Shapes: H rows, W columns.
"""

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from mnistcli.data.arrays import GrayImage, Labels, Mask, mask_box
from mnistcli.models.ink_finder import STRIDE_PX, InkFinder
from mnistcli.reading.background import estimate_background
from mnistcli.reading.ink import find_ink
from mnistcli.reading.noise import background_noise
from mnistcli.reading.parts import (
    CLEAR_INK,
    EIGHT_NEIGHBORS,
    LOW_INK,
    find_parts,
    reaches_across,
    usual_height,
)
from mnistcli.reading.polarity import DARKEST_BACKGROUND, subtract_background

# The network knows digits of 9 to 150 pixels. It sees the picture at its own size and at these
# sizes of its longer side, so that in one of them digits of any size are among those.
SIDES_PX = (320, 128)
# A size that is not smaller than this share of the last one would show the same.
NEXT_SIZE = 0.9
# Pictures up to this size are enlarged twofold if their digits are lower than this many pixels:
# where digits touch, finer ink is cut better.
ENLARGED_SIDE_PX, SMALL_DIGIT_PX = 400, 36
# Ink found in a smaller picture counts if it is higher than this in the next larger one, where it
# may be too large to be found.
LARGE_PX = 100
# Less ink than this share of a large digit's area is not taken for smaller writing in its place.
LITTLE_FOUND = 0.1
# Ink with less than this share of the usual contrast to the paper around is rather a printed line
# or the paper's texture. `FAINTNESS` times that, it is faint enough to be reported as left out. The
# paper around is what is at most this many pixels away.
LEAST_CONTRAST, FAINTNESS, RING_PX = 0.2, 0.5, 2
# Where parts with less than this share of it outnumber the others by that factor, they are not
# writing in a fainter ink but the remains of a grid, or texture. Parts of fewer pixels in height do
# not count.
WEAK_CONTRAST, OUTNUMBERED, COUNTED_PX = 0.65, 2, 5
# A dark part is completed if more than this share of it was found, and if it is no wider than a
# digit: not a frame with its digits. One from edge to edge of the picture, as ruled lines with the
# digits on them are, is completed only if what was found reaches over this share of that. The
# background is estimated at this size of the picture's longer side.
FOUND_SHARE, MAX_ASPECT, CROSSING_SHARE, BACKGROUND_SIDE_PX = 0.15, 2.0, 0.9, 320


def find_picture_ink(finder: InkFinder, gray_HW: GrayImage) -> GrayImage:
    """The ink of digits and marks, 0 none to 1 full ink.

    Args:
        finder: in evaluation mode.
        gray_HW: float32, 0 black to 1 white; dark writing on light or light on dark.

    Returns:
        float32 (H, W), or (2H, 2W) for a small picture with small digits.
    """
    ink_HW = _find_at_all_sizes(finder, gray_HW)
    if max(gray_HW.shape) > ENLARGED_SIDE_PX:
        return ink_HW
    _, parts = find_parts(ink_HW)
    if not parts or usual_height(parts) >= SMALL_DIGIT_PX:
        return ink_HW
    height, width = gray_HW.shape
    return _find_at_all_sizes(finder, _resize(gray_HW, (2 * height, 2 * width)))


def _find_at_all_sizes(finder: InkFinder, gray_HW: GrayImage) -> GrayImage:
    height, width = gray_HW.shape
    side_px = larger_px = max(height, width)
    found_HW = _find_ink(finder, gray_HW)
    for smaller_px in SIDES_PX:
        if smaller_px < NEXT_SIZE * larger_px:
            scale = smaller_px / side_px
            size = (max(1, round(scale * height)), max(1, round(scale * width)))
            ink_HW = _resize(_find_ink(finder, _resize(gray_HW, size)), (height, width))
            least_px = LARGE_PX * side_px / larger_px
            np.maximum(found_HW, _only_large_digits(ink_HW, found_HW, least_px), out=found_HW)
            larger_px = smaller_px
    return _complete(_fade_faint(found_HW, gray_HW), gray_HW)


def _complete(ink_HW: GrayImage, gray_HW: GrayImage) -> GrayImage:
    """The ink with the whole of each dark part that was found in part, such as a plain 1.

    Dark or light is what differs from the background as in thumbnails; lines, frames and
    shadows were hardly found, and are not added.
    """
    scale = min(1, BACKGROUND_SIDE_PX / max(gray_HW.shape))
    height, width = gray_HW.shape
    small_HW = _resize(gray_HW, (max(1, round(scale * height)), max(1, round(scale * width))))
    background_HW = _resize(estimate_background(small_HW), (height, width))
    contrast_HW = subtract_background(gray_HW, background_HW)
    dark_HW, labels_HW = find_ink(contrast_HW, background_noise(contrast_HW))
    num = int(labels_HW.max())
    areas_K = np.bincount(labels_HW.ravel(), minlength=num + 1)
    found_K = np.bincount(labels_HW.ravel(), ink_HW.ravel(), minlength=num + 1)
    is_found_K = found_K > FOUND_SHARE * areas_K
    is_found_K[0] = False
    boxes = ndimage.find_objects(labels_HW)
    for number in np.flatnonzero(is_found_K):
        box = boxes[number - 1]
        found_HW = (labels_HW[box] == number) & (ink_HW[box] > LOW_INK)
        is_found_K[number] = _may_be_digit(box, found_HW, gray_HW.shape)
    return np.where(is_found_K[labels_HW], np.maximum(ink_HW, dark_HW), ink_HW)


def _may_be_digit(box: tuple[slice, slice], found_HW: Mask, shape: tuple[int, ...]) -> bool:
    """Whether a dark part with this box, of which `found_HW` was found, may be a digit."""
    height, width = found_HW.shape
    if width >= MAX_ASPECT * height or not found_HW.any():
        return False
    left, top, right, bottom = mask_box(found_HW)
    return all(
        found > CROSSING_SHARE * (side.stop - side.start)
        for side, found, side_px in zip(box, (bottom - top, right - left), shape, strict=True)
        if reaches_across(side.start, side.stop, side_px)
    )


def _fade_faint(ink_HW: GrayImage, gray_HW: GrayImage) -> GrayImage:
    """The ink with less of it in parts that hardly differ from the paper around them."""
    labels_HW, num = ndimage.label(ink_HW > LOW_INK, EIGHT_NEIGHBORS)
    if num < 2:
        return ink_HW
    near_HW = _grow(labels_HW, RING_PX)
    contrast_K = _contrasts(gray_HW, labels_HW, np.where(labels_HW > 0, 0, near_HW), num)
    sizes_K = np.bincount(labels_HW.ravel(), ink_HW.ravel(), minlength=num + 1)[1:]
    boxes = ndimage.find_objects(labels_HW)
    is_sized_K = np.array([rows.stop - rows.start >= COUNTED_PX for rows, _ in boxes])
    # What is cut off at the edge may be something else than writing, and darker.
    is_inside_K = np.array([_is_inside(box, ink_HW.shape) for box in boxes])
    if (is_inside_K & is_sized_K).any():
        is_sized_K &= is_inside_K
    # A weighted median in which many faint parts weigh less than a few dark ones.
    order_K = contrast_K.argsort()
    weights_K = np.cumsum((is_sized_K * sizes_K * contrast_K**2)[order_K])
    usual = contrast_K[order_K][np.searchsorted(weights_K, weights_K[-1] / 2)]
    is_weak_K = contrast_K < WEAK_CONTRAST * usual
    num_weak, num_strong = (is_sized_K & is_weak_K).sum(), (is_sized_K & ~is_weak_K).sum()
    if num_weak <= OUTNUMBERED * num_strong:
        is_weak_K = contrast_K < LEAST_CONTRAST * usual
    factors_K = np.concatenate([[1], np.where(is_weak_K, FAINTNESS, 1)]).astype(np.float32)
    return np.asarray(ink_HW * factors_K[near_HW])


def _grow(labels_HW: Labels, by_px: int) -> Labels:
    """The parts grown by some pixels, but not into each other."""
    grown_HW = ndimage.maximum_filter(labels_HW, 2 * by_px + 1)
    return np.where(labels_HW > 0, labels_HW, grown_HW)


def _contrasts(gray_HW: GrayImage, labels_HW: Labels, around_HW: Labels, num: int) -> GrayImage:
    """By how much of the paper's brightness each part differs from what is around it, (K,).

    Parts with nothing but other parts around them are compared with white.
    """
    numbers_K = np.arange(1, num + 1)
    inside_K = ndimage.mean(gray_HW, labels_HW, numbers_K)
    num_around_K = np.bincount(around_HW.ravel(), minlength=num + 1)[1:]
    sum_around_K = ndimage.sum_labels(gray_HW, around_HW, numbers_K)
    outside_K = np.where(num_around_K, sum_around_K, 1) / np.maximum(num_around_K, 1)
    return np.asarray(np.abs(inside_K - outside_K) / np.maximum(outside_K, DARKEST_BACKGROUND))


def _is_inside(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    return all(side.start > 0 and side.stop < end for side, end in zip(box, shape, strict=True))


def _only_large_digits(ink_HW: GrayImage, found_HW: GrayImage, least_px: float) -> GrayImage:
    """The clear ink in connected parts at least `least_px` high, and not beside smaller writing.

    Ink that was found in the larger picture is inside a large digit's strokes, if anywhere.
    """
    labels_HW, num = ndimage.label(ink_HW > CLEAR_INK, EIGHT_NEIGHBORS)
    clear_HW = np.where(found_HW > CLEAR_INK, found_HW, 0)
    # With the blurred edges of its strokes.
    labels_HW = _grow(labels_HW, RING_PX)
    keep_K = np.zeros(num + 1, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(labels_HW), start=1):
        if box[0].stop - box[0].start >= least_px:
            is_own_HW = labels_HW[box] == number
            own, beside = clear_HW[box][is_own_HW].sum(), clear_HW[box][~is_own_HW].sum()
            hardly_any = own + beside < LITTLE_FOUND * is_own_HW.sum()
            keep_K[number] = own >= beside or hardly_any
    return np.where(keep_K[labels_HW], ink_HW, np.float32(0))


@torch.inference_mode()
def _find_ink(finder: InkFinder, gray_HW: GrayImage) -> GrayImage:
    height, width = gray_HW.shape
    padding = [(0, -side % STRIDE_PX) for side in (height, width)]
    padded_HW = np.pad(gray_HW, padding, mode="edge")
    x_N1HW = torch.from_numpy(padded_HW)[None, None].contiguous(memory_format=torch.channels_last)
    ink_N1HW = finder(x_N1HW).sigmoid().numpy()
    return np.array(ink_N1HW[0, 0, :height, :width])


def _resize(values_HW: GrayImage, size: tuple[int, int]) -> GrayImage:
    """Scale values in 0..1 to this height and width: averages to shrink, bicubic to enlarge."""
    method = Image.Resampling.BOX if size[0] < len(values_HW) else Image.Resampling.BICUBIC
    image = Image.fromarray(np.ascontiguousarray(values_HW)).resize(size[::-1], method)
    return np.asarray(image).clip(0, 1)
