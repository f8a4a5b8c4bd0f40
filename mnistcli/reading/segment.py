"""Parts of the ink to digits, and digits to lines of writing.

Shapes: H rows, W columns.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.reading.decode import GrayImage
from mnistcli.reading.ink import Labels

Box = tuple[int, int, int, int]

# Ink that is smaller both ways is dust.
MIN_INK_PX = 3
# The lines of a frame lie this close to its outside, of its shorter side.
FRAME_SHARE = 0.1
# More parts than any page of digits has: the rest is texture.
MAX_PARTS = 400
# One part above another is of the same digit if the gap is this share of both, or if both
# are together no more than so much higher than the tallest part.
STACKED_GAP, STACKED_HEIGHT = 0.1, 1.3
# With more than two parts of at least this share of the tallest one's height, each is a digit.
LINE_HEIGHT = 0.8
# Of a digit's height: what is lower is a fragment of a digit, and this far off it may lie.
FRAGMENT_HEIGHT, FRAGMENT_GAP = 0.6, 0.15
# Parts of which less than this share of the lower one is beside the other are above each other.
BESIDE = 0.3
# A part lies inside another's box with this share of its width and of its height.
INSIDE = 0.6
# A digit has at least these shares of the largest one's height and ink.
DIGIT_HEIGHT, DIGIT_INK = 0.45, 0.12
# Wider than high by this factor, a digit may be several that touch. So wide is each of
# them at least, against its height; and so many cuts are tried.
WIDE, PIECE_WIDTH, MAX_CUTS = 1.1, 0.2, 5


@dataclass(frozen=True)
class Part:
    """A connected part of the ink: its number, its box, how much ink it has."""

    number: int
    left: int
    top: int
    right: int
    bottom: int
    ink: float

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top


Group = list[Part]


def measure_parts(ink_HW: NDArray[np.float32], labels_HW: NDArray[np.int32]) -> list[Part]:
    """The parts numbered in `labels_HW`, the one with the most ink first."""
    ink_K = np.bincount(labels_HW.ravel(), ink_HW.ravel())
    parts = [
        Part(number, x.start, y.start, x.stop, y.stop, float(ink_K[number]))
        for number, box in enumerate(ndimage.find_objects(labels_HW), start=1)
        if box is not None
        for y, x in [box]
    ]
    return sorted(parts, key=lambda part: -part.ink)[:MAX_PARTS]


def group_parts(parts: list[Part]) -> list[Group]:
    """The parts that make a digit each; parts of no digit are left out."""
    tallest = max((part.height for part in parts), default=0)
    crowded = sum(part.height > LINE_HEIGHT * tallest for part in parts) > 2
    groups: list[Group] = []
    for part in sorted(parts, key=lambda part: -part.height):
        mine = [
            each
            for each in groups
            if any(is_same_digit(part, other, tallest=tallest, crowded=crowded) for other in each)
        ]
        groups = [each for each in groups if each not in mine]
        groups.append([part, *(other for each in mine for other in each)])
    high = DIGIT_HEIGHT * max((merge_parts(each).height for each in groups), default=0)
    much = DIGIT_INK * max((merge_parts(each).ink for each in groups), default=0)
    return [
        each
        for each in groups
        if merge_parts(each).height >= high and merge_parts(each).ink >= much
    ]


def merge_parts(parts: Group) -> Part:
    """The parts of a group as one."""
    return Part(
        parts[0].number,
        min(part.left for part in parts),
        min(part.top for part in parts),
        max(part.right for part in parts),
        max(part.bottom for part in parts),
        sum(part.ink for part in parts),
    )


def is_same_digit(low: Part, high: Part, *, tallest: int, crowded: bool) -> bool:
    """Whether two parts are of one digit; `high` is the taller.

    `tallest` is the height of the tallest part of all; in a `crowded` picture
    others are about as tall, so that tall parts above each other are two lines.
    """
    gap_x = max(low.left, high.left) - min(low.right, high.right)
    gap_y = max(low.top, high.top) - min(low.bottom, high.bottom)
    # Digits of one line stand beside each other over most of their height.
    if gap_x <= 0 and -gap_y < BESIDE * low.height:
        height = max(low.bottom, high.bottom) - min(low.top, high.top)
        close = gap_y <= STACKED_GAP * height and not crowded
        return close or height <= STACKED_HEIGHT * tallest
    above = -gap_x > INSIDE * min(low.width, high.width) and -gap_y < INSIDE * low.height
    inside = -gap_x > INSIDE * low.width and -gap_y > INSIDE * low.height
    fragment = low.height < FRAGMENT_HEIGHT * high.height and low.width < high.height
    return above or inside or (fragment and max(gap_x, gap_y) <= FRAGMENT_GAP * high.height)


def order_by_line(groups: list[Group]) -> list[list[Group]]:
    """The digits line by line from the top, in each line from the left."""
    found: list[list[Group]] = []
    for each in sorted(groups, key=lambda each: merge_parts(each).top):
        line = next((line for line in found if is_in_line(each, line)), None)
        if line is None:
            found.append([each])
        else:
            line.append(each)
    return [sorted(line, key=lambda each: merge_parts(each).left) for line in found]


def is_in_line(digit: Group, line: list[Group]) -> bool:
    """Whether a digit stands beside the digit of the line that is nearest to it."""
    new = merge_parts(digit)
    near = min(map(merge_parts, line), key=lambda part: abs(part.left - new.left))
    overlap = min(new.bottom, near.bottom) - max(new.top, near.top)
    return overlap > 0.4 * min(new.height, near.height)


def find_digits(ink_HW: GrayImage, parts_HW: Labels, *, single: bool) -> tuple[Labels, list[int]]:
    """The parts put together to digits, numbered as they are read, (H, W); the line of each."""
    parts = measure_parts(ink_HW, parts_HW)
    parts = [
        part
        for part in parts
        if max(part.width, part.height) >= MIN_INK_PX and not is_frame(part, parts, parts_HW)
    ]
    number_of_part_K = np.zeros(int(parts_HW.max()) + 1, np.int32)
    lines: list[int] = []
    groups = [[parts]] if single and parts else order_by_line(group_parts(parts))
    for line, digits in enumerate(groups):
        for digit in digits:
            lines.append(line)
            number_of_part_K[[part.number for part in digit]] = len(lines)
    labels_HW = number_of_part_K[parts_HW]
    # One pixel more all round: the grey edges of the strokes.
    return np.where(labels_HW, labels_HW, ndimage.maximum_filter(labels_HW, 3)), lines


def is_frame(part: Part, parts: list[Part], parts_HW: Labels) -> bool:
    """Whether a part is a box drawn around others: all of it lies at its own edge."""
    margin = max(2, round(FRAME_SHARE * min(part.width, part.height)))
    top, bottom = part.top + margin, part.bottom - margin
    left, right = part.left + margin, part.right - margin
    encloses = any(
        left <= each.left and top <= each.top and each.right <= right and each.bottom <= bottom
        for each in parts
    )
    return encloses and not (parts_HW[top:bottom, left:right] == part.number).any()


def cut_columns(ink_HW: NDArray[np.float32]) -> list[int]:
    """The columns at which digits that touch may meet, from the left; none if the ink is not wide.

    They are the columns with the least ink in their surroundings, `MAX_CUTS` at
    most. Which of them are right is for the reader of the pieces to say.
    """
    height, width = ink_HW.shape
    if width < WIDE * height:
        return []
    reach = max(1, round(PIECE_WIDTH * height))
    ink_W = ndimage.uniform_filter1d(ink_HW.sum(axis=0), max(1, height // 12))
    least_W = ndimage.minimum_filter1d(ink_W, 2 * (reach // 2) + 1)
    minima = [x for x in range(reach, width - reach) if ink_W[x] == least_W[x]]
    apart = [x for n, x in enumerate(minima) if n == 0 or x - minima[n - 1] > 1]
    return sorted(sorted(apart, key=lambda x: ink_W[x])[:MAX_CUTS])


def enumerate_cuts(num_cuts: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every way to cut a stretch at some of `num_cuts` places: its pieces, each from-to.

    Place 0 is the left end, `num_cuts` + 1 the right one.
    """
    end = num_cuts + 1
    for number in range(end):
        for inner in itertools.combinations(range(1, end), number):
            yield tuple(itertools.pairwise((0, *inner, end)))
