"""Connected components of the ink -> digits, in the reading order, and text lines.

Shapes: H rows, W columns, K connected components (number 0 is the background).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from mnistcli.reading.arrays import GrayImage, Labels

# Smaller both ways, ink is dust.
MIN_INK_PX = 3
# The lines of a frame are this close to its outside, as a share of its shorter side.
FRAME_SHARE = 0.1
# No page of digits has more parts: the rest is texture.
MAX_PARTS = 400
# One part above another belongs to the same digit if the gap is at most this share of their
# common height, or if that is at most so many times the height of the tallest part.
STACKED_GAP, STACKED_HEIGHT = 0.1, 1.3
# With more than two parts of at least this share of the tallest one's height, each is a digit.
LINE_HEIGHT = 0.8
# Shares of a digit's height: a fragment of a digit is lower than the first, and at most the
# second away from the digit.
FRAGMENT_HEIGHT, FRAGMENT_GAP = 0.6, 0.15
# Parts whose vertical overlap is less than this share of the lower one are above each other.
SIDE_BY_SIDE = 0.3
# A part is inside another's box with this share of its width and of its height.
INSIDE = 0.6
# A digit has at least these shares of the largest one's height and ink.
DIGIT_HEIGHT, DIGIT_INK = 0.45, 0.12
# Digits are in one line if their vertical overlap exceeds this share of the lower one.
IN_LINE = 0.4


@dataclass(frozen=True)
class Part:
    """Connected ink, or several parts of one digit; `ink` is the sum over its pixels."""

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


# The parts of one digit.
Group = list[Part]


@dataclass(frozen=True, eq=False)
class Piece:
    """The ink of one digit, or of several that touch, cut out at `left`, `top`.

    `line` counts the text lines from 0.
    """

    ink_HW: GrayImage
    left: int
    top: int
    line: int

    def columns(self, first: int, end: int) -> "Piece":
        """The part of it from column `first` to `end` (exclusive)."""
        return replace(self, ink_HW=self.ink_HW[:, first:end], left=self.left + first)


def find_digits(ink_HW: GrayImage, parts_HW: Labels, *, single: bool) -> tuple[Labels, list[int]]:
    """Number the pixels of each digit from 1 in the reading order.

    Args:
        ink_HW: 0 background to 1 full ink.
        parts_HW: the numbers of the connected components.
        single: all ink is one digit.

    Returns:
        The digits' numbers, (H, W), and the text line of each digit, from 0.
    """
    parts = measure_parts(ink_HW, parts_HW)
    parts = [
        part
        for part in parts
        if max(part.width, part.height) >= MIN_INK_PX and not is_frame(part, parts, parts_HW)
    ]
    digit_of_part_K = np.zeros(int(parts_HW.max()) + 1, np.int32)
    lines: list[int] = []
    groups_by_line = [[parts]] if single and parts else order_by_line(group_parts(parts))
    for line, groups in enumerate(groups_by_line):
        for group in groups:
            lines.append(line)
            digit_of_part_K[[part.number for part in group]] = len(lines)
    labels_HW = digit_of_part_K[parts_HW]
    # One pixel more all around: the blurred edges of the strokes.
    return np.where(labels_HW, labels_HW, ndimage.maximum_filter(labels_HW, 3)), lines


def cut_out_digits(ink_HW: GrayImage, labels_HW: Labels, lines: list[int]) -> list[Piece]:
    """The ink of each digit in `labels_HW`, without that of its neighbors."""
    boxes = [box for box in ndimage.find_objects(labels_HW) if box]
    return [
        Piece(
            np.where(labels_HW[rows, columns] == number, ink_HW[rows, columns], np.float32(0)),
            columns.start,
            rows.start,
            line,
        )
        for number, ((rows, columns), line) in enumerate(zip(boxes, lines, strict=True), start=1)
    ]


def measure_parts(ink_HW: GrayImage, labels_HW: Labels) -> list[Part]:
    """The parts numbered in `labels_HW`, at most `MAX_PARTS`, most ink first."""
    ink_K = np.bincount(labels_HW.ravel(), ink_HW.ravel())
    parts = [
        Part(number, x.start, y.start, x.stop, y.stop, float(ink_K[number]))
        for number, box in enumerate(ndimage.find_objects(labels_HW), start=1)
        if box is not None
        for y, x in [box]
    ]
    return sorted(parts, key=lambda part: -part.ink)[:MAX_PARTS]


def is_frame(part: Part, parts: list[Part], parts_HW: Labels) -> bool:
    """Whether a part is a box drawn around others: all of it is at its own edge."""
    margin = max(2, round(FRAME_SHARE * min(part.width, part.height)))
    top, bottom = part.top + margin, part.bottom - margin
    left, right = part.left + margin, part.right - margin
    encloses = any(
        left <= other.left and top <= other.top and other.right <= right and other.bottom <= bottom
        for other in parts
    )
    return encloses and not (parts_HW[top:bottom, left:right] == part.number).any()


def group_parts(parts: list[Part]) -> list[Group]:
    """The parts of each digit; parts that belong to no digit are left out."""
    tallest = max((part.height for part in parts), default=0)
    crowded = sum(part.height > LINE_HEIGHT * tallest for part in parts) > 2
    groups: list[Group] = []
    for part in sorted(parts, key=lambda part: -part.height):
        joined, others = [part], []
        for group in groups:
            if any(is_same_digit(part, p, tallest=tallest, crowded=crowded) for p in group):
                joined += group
            else:
                others.append(group)
        groups = [*others, joined]
    wholes = [merge_parts(group) for group in groups]
    min_height = DIGIT_HEIGHT * max((whole.height for whole in wholes), default=0)
    min_ink = DIGIT_INK * max((whole.ink for whole in wholes), default=0)
    return [
        group
        for group, whole in zip(groups, wholes, strict=True)
        if whole.height >= min_height and whole.ink >= min_ink
    ]


def merge_parts(parts: Group) -> Part:
    """The parts of a digit as one, numbered like the first."""
    return Part(
        parts[0].number,
        min(part.left for part in parts),
        min(part.top for part in parts),
        max(part.right for part in parts),
        max(part.bottom for part in parts),
        sum(part.ink for part in parts),
    )


def is_same_digit(low: Part, high: Part, *, tallest: int, crowded: bool) -> bool:
    """Whether two parts belong to one digit.

    Args:
        low: the lower of the two.
        high: the taller of the two.
        tallest: the height of the tallest part of the picture.
        crowded: several parts are about as tall, so that tall parts above each
            other are in two text lines.
    """
    gap_x = max(low.left, high.left) - min(low.right, high.right)
    gap_y = max(low.top, high.top) - min(low.bottom, high.bottom)
    # Digits of one line are side by side over most of their height.
    if gap_x <= 0 and -gap_y < SIDE_BY_SIDE * low.height:
        height = max(low.bottom, high.bottom) - min(low.top, high.top)
        close = gap_y <= STACKED_GAP * height and not crowded
        return close or height <= STACKED_HEIGHT * tallest
    above = -gap_x > INSIDE * min(low.width, high.width) and -gap_y < INSIDE * low.height
    inside = -gap_x > INSIDE * low.width and -gap_y > INSIDE * low.height
    fragment = low.height < FRAGMENT_HEIGHT * high.height and low.width < high.height
    return above or inside or (fragment and max(gap_x, gap_y) <= FRAGMENT_GAP * high.height)


def order_by_line(groups: list[Group]) -> list[list[Group]]:
    """The digits line by line from the top, in each line from the left."""
    lines: list[list[Group]] = []
    for group in sorted(groups, key=lambda group: merge_parts(group).top):
        line = next((line for line in lines if is_in_line(group, line)), None)
        if line is None:
            lines.append([group])
        else:
            line.append(group)
    return [sorted(line, key=lambda group: merge_parts(group).left) for line in lines]


def is_in_line(digit: Group, line: list[Group]) -> bool:
    """Whether a digit is level with the horizontally nearest digit of the line."""
    new = merge_parts(digit)
    near = min(map(merge_parts, line), key=lambda part: abs(part.left - new.left))
    overlap = min(new.bottom, near.bottom) - max(new.top, near.top)
    return overlap > IN_LINE * min(new.height, near.height)
