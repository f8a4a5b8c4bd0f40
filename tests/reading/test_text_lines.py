"""Parts of ink are arranged in lines, from the top and from the left."""

import itertools

import pytest

from mnistcli.data.arrays import Box
from mnistcli.reading.text_lines import arrange_lines, line_height
from tests.helpers.ink import boxes_of, parts_of

# Left, top, right, bottom: three digits of a line, and one of the line below.
DIGIT, NEXT, THIRD = (10, 10, 50, 70), (60, 12, 100, 72), (110, 8, 150, 68)
BELOW = (10, 110, 50, 170)


def lines_of(*boxes: Box) -> list[list[Box]]:
    """The lines; nothing is apart from them."""
    lines, apart = arrange_lines(parts_of(*boxes))
    assert apart == []
    return [boxes_of(line) for line in lines]


def test_without_parts_there_are_no_lines() -> None:
    assert arrange_lines([]) == ([], [])


def test_lines_are_read_from_the_top_and_the_left() -> None:
    right = (62, 108, 98, 168)
    assert lines_of(right, NEXT, BELOW, DIGIT) == [[DIGIT, NEXT], [BELOW, right]]


def test_lines_of_different_lengths_and_indents() -> None:
    first = [(300 + 50 * n, 0, 340 + 50 * n, 60) for n in range(2)]
    second = [(50 * n, 90, 50 * n + 40, 150) for n in range(8)]
    third = [(150, 180, 190, 240)]
    assert lines_of(*third, *first, *second) == [first, second, third]


def test_lines_that_nearly_touch() -> None:
    rows = [[(50 * n, 64 * row, 50 * n + 40, 64 * row + 60) for n in range(4)] for row in range(3)]
    assert lines_of(*itertools.chain(*rows)) == rows


def test_digits_of_close_lines_may_reach_into_each_other() -> None:
    upper, lower = [DIGIT, (60, 10, 100, 84)], [(10, 80, 50, 140), (110, 78, 150, 138)]
    assert lines_of(*upper, *lower) == [upper, lower]


@pytest.mark.parametrize("rise", [-12, 12])
def test_a_line_may_rise_or_fall(rise: int) -> None:
    boxes = [(50 * n, 200 + rise * n, 50 * n + 40, 260 + rise * n) for n in range(10)]
    assert lines_of(*boxes) == [boxes]


def test_lower_digits_stay_in_their_line() -> None:
    low = (60, 40, 80, 70)
    assert lines_of(DIGIT, low, THIRD) == [[DIGIT, low, THIRD]]


@pytest.mark.parametrize(
    "small",
    [
        pytest.param((20, -4, 45, 4), id="the bar above a five"),
        pytest.param((53, 12, 58, 22), id="beside the top"),
        pytest.param((54, 66, 58, 78), id="a comma"),
        pytest.param((12, 73, 48, 84), id="a stroke below"),
        pytest.param((100, 30, 115, 40), id="a minus at some distance"),
    ],
)
def test_small_parts_join_the_nearest_line(small: Box) -> None:
    # Moved, because the bar is above the first row.
    digit, below, mark = ((x, y + 20, z, w + 20) for x, y, z, w in (DIGIT, BELOW, small))
    assert lines_of(digit, below, mark) == [[digit, mark], [below]]


@pytest.mark.parametrize("small", [(130, 30, 140, 40), (20, 220, 45, 230)])
def test_small_parts_far_from_any_line_are_apart(small: Box) -> None:
    lines, apart = arrange_lines(parts_of(DIGIT, BELOW, small))
    assert [boxes_of(line) for line in lines] == [[DIGIT], [BELOW]]
    assert boxes_of(apart) == [small]


def test_a_line_is_as_high_as_its_digits() -> None:
    mark, tall = (54, 66, 58, 78), (160, 0, 200, 90)
    assert line_height(parts_of(DIGIT)) == 60
    assert line_height(parts_of(DIGIT, NEXT, mark, THIRD, tall)) == 60
