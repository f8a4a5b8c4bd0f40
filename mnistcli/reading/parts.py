"""Connected parts of the ink, and how they lie: the height of digits, the tilt of the writing.

Shapes: H rows, W columns, K parts (number 0 is the background).
"""

import itertools
import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from mnistcli.data.arrays import Box, GrayImage, Labels

# A part's pixels have more ink than the first; it is clear if their mean is more than the second.
LOW_INK, CLEAR_INK = 0.35, 0.6
EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)
# Ink whose longer side is below this many pixels, or this share of a usual digit, is dust.
MIN_PART_PX, DUST_SHARE = 3, 0.12
# A part is a point between two digits, which have at least this share of the tallest part's height,
# and a gap of at most this many times that; if it is at these heights (0 the top, 1 the bottom);
# and if its size is at most this share of the tallest, and at least this many pixels.
POINT_NEIGHBOR, POINT_GAP, POINT_HEIGHTS, POINT_SIZE, POINT_PX = 0.5, 1.0, (0.25, 1.15), 0.2, 3
# A minus sign is at most this far from its digit, as a share of the digit's height, and at these
# heights of it (0 the top, 1 the bottom).
MINUS_GAP, MINUS_HEIGHTS = 1.0, (0.3, 0.7)
# The largest parts are read, up to this many: as many as a filled sheet has digits.
MAX_PARTS = 1000
# Digits have these shares of the usual height; other parts are fragments, marks, or drawings.
DIGIT_HEIGHTS = (0.5, 2.0)
# What comes this close to opposite edges of the picture, and is larger than digits by this factor,
# is a line, a frame or a shadow.
EDGE_PX, CROSSING_SIZE = 2, 1.5
# What has another part of at least this share of its height inside of it is a circle, not a 0.
INNER_HEIGHT = 0.4
# A digit's right neighbor is this far away, as multiples of the usual height.
NEIGHBOR_DISTANCES = (0.25, 6.0)
# It is no further up or down than the first share of that distance (the tangent of 31 degrees,
# about `MAX_TILT`) and the second of the usual height.
NEIGHBOR_SLOPE, NEIGHBOR_SHIFT = 0.6, 0.2
# The nearest is the neighbor; a pixel up or down counts like this many across, so that it is rather
# in the same line.
DRIFT_COST = 3
# The writing's tilt is the median of the angles between neighbors, if more than this share of them
# agree with it to this angle.
AGREEING_SHARE, TILT_AGREEMENT = 0.5, math.radians(7)
# Two digits may stand at different heights without being tilted: more than `SLIGHT_TILT` takes
# three pairs, and this share of them.
SLIGHT_TILT, MAX_TILT, STEEP_SHARE = 2 * TILT_AGREEMENT, math.radians(35), 0.6


@dataclass(frozen=True)
class Part:
    """Connected ink: its number in the labels, its box in pixels, its mean ink."""

    number: int
    box: Box
    mean_ink: float

    @property
    def is_clear(self) -> bool:
        """Whether it is surely ink."""
        return self.mean_ink > CLEAR_INK

    @property
    def width(self) -> int:
        """In pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.box[3] - self.box[1]

    @cached_property
    def center(self) -> tuple[float, float]:
        """The x and y of the box's middle."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def find_parts(ink_HW: GrayImage) -> tuple[Labels, list[Part]]:
    """The connected parts of ink (0..1): their numbers (H, W), 0 elsewhere, and their boxes.

    The largest come first; dust is left out.
    """
    labels_HW, parts = _all_parts(ink_HW)
    clear = [part for part in parts[:MAX_PARTS] if part.is_clear]
    smallest = max(MIN_PART_PX, DUST_SHARE * usual_height(clear))
    return labels_HW, [part for part in parts if max(part.width, part.height) >= smallest]


def find_points(ink_HW: GrayImage, lines: list[list[Part]]) -> list[Part]:
    """Clear parts between two digits of a line where a point, a comma or a colon would be."""
    if all(len(line) == 1 for line in lines):
        return []
    largest = POINT_SIZE * max(part.height for line in lines for part in line)
    small = [
        part
        for part in _all_parts(ink_HW)[1]
        if part.is_clear and max(part.width, part.height) <= largest
    ]
    return [part for part in small if any(_is_point(part, line) for line in lines)]


def _is_point(part: Part, line: list[Part]) -> bool:
    tallest = max(other.height for other in line)
    digits = [other for other in line if other.height >= POINT_NEIGHBOR * tallest]
    x, y = part.center
    before = max((digit for digit in digits if digit.box[2] <= x), key=_right, default=None)
    after = min((digit for digit in digits if digit.box[0] >= x), key=_left, default=None)
    if before is None or after is None:
        return False
    low, high = POINT_HEIGHTS
    top, bottom = min(before.box[1], after.box[1]), max(before.box[3], after.box[3])
    is_level = low <= (y - top) / (bottom - top) <= high
    is_sized = POINT_PX <= max(part.width, part.height) <= POINT_SIZE * tallest
    return is_level and is_sized and after.box[0] - before.box[2] <= POINT_GAP * tallest


def may_be_minus(part: Part, line: list[Part]) -> bool:
    """Whether a part is where a line's minus sign would be: before its first digit, halfway up."""
    first = min(line, key=_left)
    gap = first.box[0] - part.box[2]
    near, (low, high) = MINUS_GAP * first.height, MINUS_HEIGHTS
    middle = (part.center[1] - first.box[1]) / first.height
    return part.width > part.height and 0 < gap <= near and low <= middle <= high


def _left(part: Part) -> int:
    return part.box[0]


def _right(part: Part) -> int:
    return part.box[2]


def _all_parts(ink_HW: GrayImage) -> tuple[Labels, list[Part]]:
    """The connected parts of ink with their numbers (H, W), the largest first."""
    labels_HW, _ = ndimage.label(ink_HW > LOW_INK, EIGHT_NEIGHBORS)
    # A quarter of the time of `ndimage.mean`.
    labels_N = labels_HW.ravel()
    sizes_K, ink_K = np.bincount(labels_N), np.bincount(labels_N, ink_HW.ravel())
    parts = [
        Part(number, (x.start, y.start, x.stop, y.stop), float(ink_K[number] / sizes_K[number]))
        for number, (y, x) in enumerate(ndimage.find_objects(labels_HW), start=1)
    ]
    return labels_HW, sorted(parts, key=lambda part: -max(part.width, part.height))


def usual_height(parts: list[Part]) -> float:
    """The median height of parts in pixels, weighted by it, so that specks hardly count; or 0."""
    if not parts:
        return 0.0
    # Digits that touch, and strokes that lie flat, are wider than high.
    heights = sorted(max(part.height, part.width / 2) for part in parts)
    sums = list(itertools.accumulate(heights))
    return heights[bisect_left(sums, sums[-1] / 2)]


def is_digit_sized(part: Part, height: float) -> bool:
    """Whether a part alone may be a digit, in writing of this height."""
    low, high = DIGIT_HEIGHTS
    return low * height <= part.height <= high * height


def crosses_picture(part: Part, shape: tuple[int, ...], height: float) -> bool:
    """Whether a part reaches from edge to opposite edge, and is larger than writing this high."""
    left, top, right, bottom = part.box
    is_crossing = reaches_across(top, bottom, shape[0]) or reaches_across(left, right, shape[1])
    return is_crossing and max(part.width, part.height) > CROSSING_SIZE * height


def reaches_across(start: int, stop: int, side_px: int) -> bool:
    """Whether pixels from `start` to `stop` reach from edge to edge of a picture's side."""
    return start <= EDGE_PX and stop >= side_px - EDGE_PX


def find_circles(parts: list[Part], labels_HW: Labels) -> list[Part]:
    """The parts around others that are as high as digits."""
    if len(parts) < 2:
        return []
    boxes_K4 = np.array([part.box for part in parts])
    contains_KK = (boxes_K4[:, None, :2] < boxes_K4[:, :2]).all(axis=2)
    contains_KK &= (boxes_K4[:, None, 2:] > boxes_K4[:, 2:]).all(axis=2)
    circles = [
        parts[outer]
        for outer, inner in np.argwhere(contains_KK)
        if parts[inner].height >= INNER_HEIGHT * parts[outer].height
        and _is_around(parts[outer], parts[inner], labels_HW)
    ]
    return list(dict.fromkeys(circles))


def _is_around(outer: Part, inner: Part, labels_HW: Labels) -> bool:
    """Whether a part has pixels above, below and on both sides of another."""
    left, top, right, bottom = inner.box
    x, y = map(int, inner.center)
    beside = (labels_HW[:top, x], labels_HW[bottom:, x], labels_HW[y, :left], labels_HW[y, right:])
    return all((labels_N == outer.number).any() for labels_N in beside)


def estimate_tilt(parts: list[Part]) -> float:
    """The angle of the lines of writing in radians, positive if they descend; 0 if unclear."""
    parts = [part for part in parts if part.is_clear]
    height = usual_height(parts)
    digits = [part for part in parts if is_digit_sized(part, height)]
    steps = [step for digit in digits if (step := _step_to_next(digit, digits, height))]
    if not steps:
        return 0.0
    angles_N = np.array([math.atan2(dy, dx) for dx, dy in steps])
    tilt = float(np.median(angles_N))
    share = float(np.mean(np.abs(angles_N - tilt) < TILT_AGREEMENT))
    limit = MAX_TILT if len(steps) > 2 and share > STEEP_SHARE else SLIGHT_TILT
    return tilt if share > AGREEING_SHARE and abs(tilt) < limit else 0.0


def _step_to_next(part: Part, parts: list[Part], height: float) -> tuple[float, float] | None:
    """From a part's center to that of its right neighbor in the same line, x and y."""
    x, y = part.center
    steps = [(other.center[0] - x, other.center[1] - y) for other in parts if other is not part]
    nearest, farthest = NEIGHBOR_DISTANCES
    ahead = [
        (dx, dy)
        for dx, dy in steps
        if nearest * height < dx < farthest * height
        and abs(dy) < NEIGHBOR_SLOPE * dx + NEIGHBOR_SHIFT * height
    ]
    return min(ahead, key=lambda step: step[0] + DRIFT_COST * abs(step[1]), default=None)
