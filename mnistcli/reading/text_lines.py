"""Parts of ink -> lines of writing, in the reading order."""

import itertools
from statistics import median

from mnistcli.reading.parts import Part, usual_height

# A part at least this share of the usual height starts or continues a line.
MAIN_HEIGHT = 0.42
# A part is in a line if its vertical overlap with the nearest of the line's last parts, this many
# of them, exceeds this share of the lower one's height.
LOOK_BACK, IN_LINE = 6, 0.35
# If it could be in several, the nearest counts: by its pixels up or down, and this share of those
# across, because spaces within a line may be wide.
ACROSS_COST = 0.15
# A small part belongs to a line if its distance to one of the line's parts is at most these
# shares of that part's height. A pixel up or down counts like `DOWN_COST` across.
REACH_X, REACH_Y, DOWN_COST = 1.2, 0.3, 2
# Two parts above each other are a broken digit if the gap is at most this share of their common
# height, if they overlap by that share of the narrower one, and if their common height is at most
# this many times that of the tallest part.
STACKED_GAP, STACKED_OVERLAP, STACKED_HEIGHT = 0.1, 0.6, 1.8


def arrange_lines(parts: list[Part]) -> tuple[list[list[Part]], list[Part]]:
    """The lines from the top, each from the left; and small parts that are near none."""
    least = MAIN_HEIGHT * usual_height(parts)
    mains = [part for part in parts if part.height >= least]
    lines: list[list[Part]] = []
    for part in sorted(mains, key=lambda part: part.center[0]):
        near = [
            (line, distance)
            for line in lines
            if (distance := _distance_in_line(part, line)) is not None
        ]
        if near:
            min(near, key=lambda item: item[1])[0].append(part)
        else:
            lines.append([part])
    lines = _join_stacked(lines, max((part.height for part in mains), default=0))
    lines.sort(key=lambda line: median(part.center[1] for part in line))
    apart = []
    members = [list(line) for line in lines]
    for part in parts:
        if part.height < least:
            distances = [_distance_to_small(part, line) for line in lines]
            reached = [n for n, distance in enumerate(distances) if distance is not None]
            if reached:
                members[min(reached, key=lambda n: distances[n] or 0)].append(part)
            else:
                apart.append(part)
    return [sorted(line, key=lambda part: part.center[0]) for line in members], apart


def _join_stacked(lines: list[list[Part]], tallest: int) -> list[list[Part]]:
    """The lines with two of one part each joined if they are halves of a digit that is broken."""
    for upper, lower in itertools.permutations(lines, 2):
        if len(upper) == len(lower) == 1 and _is_broken_digit(upper[0], lower[0], tallest):
            rest = [line for line in lines if line is not upper and line is not lower]
            return [*rest, [*upper, *lower]]
    return lines


def _is_broken_digit(upper: Part, lower: Part, tallest: int) -> bool:
    """Whether a part is close above another, and they are no higher together than a digit."""
    height = lower.box[3] - upper.box[1]
    gap = lower.box[1] - upper.box[3]
    overlap = min(upper.box[2], lower.box[2]) - max(upper.box[0], lower.box[0])
    is_above = 0 <= gap <= STACKED_GAP * height
    is_aligned = overlap > STACKED_OVERLAP * min(upper.width, lower.width)
    return is_above and is_aligned and height <= STACKED_HEIGHT * tallest


def line_height(line: list[Part]) -> float:
    """The height in pixels of a line's digits: the median of its tall parts."""
    tallest = max(part.height for part in line)
    return float(median(part.height for part in line if part.height >= MAIN_HEIGHT * tallest))


def _distance_in_line(part: Part, line: list[Part]) -> float | None:
    """How far a part is from the nearest of a line's last parts; None if it is not level."""
    near = min(line[-LOOK_BACK:], key=lambda other: abs(other.center[0] - part.center[0]))
    overlap = min(part.box[3], near.box[3]) - max(part.box[1], near.box[1])
    if overlap <= IN_LINE * min(part.height, near.height):
        return None
    gap = max(0, part.box[0] - near.box[2])
    return abs(part.center[1] - near.center[1]) + ACROSS_COST * gap


def _distance_to_small(small: Part, line: list[Part]) -> float | None:
    """How far a small part is from a line's nearest part; None if too far."""

    def gaps(other: Part) -> tuple[int, int]:
        across = max(other.box[0] - small.box[2], small.box[0] - other.box[2], 0)
        return across, max(other.box[1] - small.box[3], small.box[1] - other.box[3], 0)

    near = min(line, key=lambda other: gaps(other)[0] + DOWN_COST * gaps(other)[1])
    across, down = gaps(near)
    if across > REACH_X * near.height or down > REACH_Y * near.height:
        return None
    return across + DOWN_COST * down
