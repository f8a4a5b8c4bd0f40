"""Where ink may be cut into digits that touch: paths from top to bottom through little ink.

Shapes: H rows, W columns.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.data.arrays import GrayImage, Mask
from mnistcli.reading.parts import LOW_INK, MIN_PART_PX

# No piece narrower than this share of the height is cut off.
MIN_PIECE_WIDTH = 0.14
# In smaller ink, the halves would be dust.
MIN_SIDE_PX = 2 * MIN_PART_PX
# Ink that a path's step to the side costs.
SIDE_STEP = 0.8
# At a neck the ink is lower than this share of what is higher on either side. At most this share of
# the cuts are at necks.
NECK, NECK_CUTS = 0.9, 0.5


def find_cuts(ink_HW: GrayImage, max_cuts: int) -> list[NDArray[np.intp]]:
    """The paths with the least ink, at most `max_cuts`, from the left.

    A path is the cheapest from the top to a pixel of the middle row and on to the bottom
    (seam carving: Avidan and Shamir 2007); those are kept that no neighbor is cheaper than.

    Returns:
        For each path, the first column to the right of the cut in every row, (H,).
    """
    height, width = ink_HW.shape
    if min(width, height) < MIN_SIDE_PX:
        return []
    middle = height // 2
    above_W, steps_above_HW = _cheapest_paths(ink_HW[: middle + 1])
    below_W, steps_below_HW = _cheapest_paths(ink_HW[middle:][::-1])
    cost_W = above_W + below_W - ink_HW[middle]
    reach = max(2, round(MIN_PIECE_WIDTH * height))
    least_W = ndimage.minimum_filter1d(cost_W, 2 * (reach // 2) + 1)
    is_least_W = cost_W <= least_W + 1e-6  # of rounding
    is_least_W[:reach] = is_least_W[width - reach :] = False
    starts = _middles(is_least_W)
    cheapest = sorted(starts, key=lambda column: cost_W[column])[:max_cuts]
    # Where round digits touch, their holes are cheaper, but the ink reaches less far up and down.
    is_neck_W = _is_neck(ink_HW, reach)
    is_neck_W[:reach] = is_neck_W[width - reach :] = False
    necks = [x for x in _middles(is_neck_W) if all(abs(x - y) >= reach // 2 for y in cheapest)]
    necks.sort(key=lambda column: cost_W[column])
    necks = necks[: int(NECK_CUTS * max_cuts)]
    cheapest = sorted([*cheapest[: max_cuts - len(necks)], *necks])
    return [
        np.concatenate([_trace(steps_above_HW, column)[::-1], _trace(steps_below_HW, column)[1:]])
        for column in cheapest
    ]


def _middles(mask_W: Mask) -> list[int]:
    """The middle column of each run of columns."""
    runs = ndimage.find_objects(ndimage.label(mask_W)[0])
    return [(run.start + run.stop - 1) // 2 for (run,) in runs]


def _is_neck(ink_HW: GrayImage, reach: int) -> Mask:
    """Where the ink's height from its top to its foot is less than on both sides, (W,)."""
    is_ink_HW = ink_HW > LOW_INK
    extent_W = len(ink_HW) - is_ink_HW.argmax(axis=0) - is_ink_HW[::-1].argmax(axis=0)
    extent_W = np.where(is_ink_HW.any(axis=0), extent_W, 0)
    left_W = ndimage.maximum_filter1d(extent_W, reach, origin=(reach - 1) // 2)
    right_W = ndimage.maximum_filter1d(extent_W, reach, origin=-(reach // 2))
    least_W = ndimage.minimum_filter1d(extent_W, 2 * (reach // 2) + 1)
    is_low_W = extent_W < NECK * np.minimum(left_W, right_W)
    return np.asarray(is_low_W & (extent_W == least_W))


def _cheapest_paths(ink_HW: GrayImage) -> tuple[GrayImage, NDArray[np.intp]]:
    """The cost of the cheapest path from the first row to each pixel of the last, (W,).

    And from where each row's pixels are reached: -1, 0 or 1 columns aside, (H, W).
    """
    cost_W = ink_HW[0]
    steps_HW = np.zeros(ink_HW.shape, np.intp)
    for row in range(1, len(ink_HW)):
        padded_W = np.pad(cost_W, 1, constant_values=np.inf)
        ways_3W = np.stack([padded_W[:-2] + SIDE_STEP, padded_W[1:-1], padded_W[2:] + SIDE_STEP])
        choice_W = ways_3W.argmin(axis=0)
        # Straight on where all ways cost the same.
        choice_W[ways_3W[1] <= ways_3W.min(axis=0)] = 1
        steps_HW[row] = choice_W - 1
        cost_W = ink_HW[row] + ways_3W.min(axis=0)
    return cost_W, steps_HW


def _trace(steps_HW: NDArray[np.intp], column: int) -> NDArray[np.intp]:
    """The columns of the path that ends at `column` of the last row, from the last row, (H,)."""
    columns = [column]
    for row in range(len(steps_HW) - 1, 0, -1):
        columns.append(columns[-1] + int(steps_HW[row, columns[-1]]))
    return np.array(columns)
