"""Which parts make a digit, by boxes and amounts of ink."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mnistcli.reading import segment
from mnistcli.reading.arrays import Box
from mnistcli.reading.segment import (
    Group,
    Part,
    cut_out_digits,
    find_digits,
    group_parts,
    measure_parts,
    merge_parts,
    order_by_line,
)

# Left, top, right, bottom: three digits of a line, and one of the line below.
DIGIT, NEXT, THIRD = (10, 10, 50, 70), (60, 12, 100, 72), (110, 8, 150, 68)
BELOW = (10, 110, 50, 170)


def parts(*boxes: Box) -> list[Part]:
    """Parts full of ink, numbered from 1."""
    return [
        Part(number, *box, ink=float((box[2] - box[0]) * (box[3] - box[1])))
        for number, box in enumerate(boxes, start=1)
    ]


def numbers(groups: list[Group]) -> set[frozenset[int]]:
    return {frozenset(part.number for part in group) for group in groups}


def grouped(*boxes: Box) -> set[frozenset[int]]:
    return numbers(group_parts(parts(*boxes)))


def sets(*groups: set[int]) -> set[frozenset[int]]:
    return set(map(frozenset, groups))


def lines_of(*boxes: Box) -> list[list[int]]:
    groups = [[part] for part in parts(*boxes)]
    return [[group[0].number for group in line] for line in order_by_line(groups)]


def test_parts_are_measured_and_sorted_by_ink(monkeypatch: pytest.MonkeyPatch) -> None:
    labels_HW = np.array([[1, 0, 0, 4], [1, 0, 0, 4], [0, 0, 4, 4]], np.int32)
    ink_HW = np.array([[1, 0.25, 0, 1], [0.5, 0, 0, 1], [0, 0, 1, 0.25]], np.float32)
    first, second = measure_parts(ink_HW, labels_HW)
    assert (first, second) == (Part(4, 2, 0, 4, 3, 3.25), Part(1, 0, 0, 1, 2, 1.5))
    assert (first.width, first.height) == (2, 3)
    monkeypatch.setattr(segment, "MAX_PARTS", 1)
    assert measure_parts(ink_HW, labels_HW) == [first]


def test_without_ink_there_are_no_digits() -> None:
    labels_HW, lines = find_digits(
        np.zeros((3, 4), np.float32), np.zeros((3, 4), np.int32), single=False
    )
    assert not labels_HW.any()
    assert lines == []
    assert group_parts([]) == []
    assert order_by_line([]) == []


def test_digits_are_numbered_in_the_order_of_reading() -> None:
    parts_HW = np.zeros((100, 60), np.int32)
    # A digit on the second line, and two on the first: the left one last, in two halves.
    parts_HW[60:90, 5:20] = 1
    parts_HW[10:40, 30:50] = 2
    parts_HW[10:24, 5:20], parts_HW[26:40, 5:20] = 3, 4
    ink_HW = (parts_HW > 0).astype(np.float32)
    labels_HW, lines = find_digits(ink_HW, parts_HW, single=False)
    assert lines == [0, 0, 1]
    assert [labels_HW[y, x] for y, x in ((15, 10), (30, 10), (15, 40), (70, 10))] == [1, 1, 2, 3]
    # One pixel more all around, for the blurred edges.
    pieces = cut_out_digits(ink_HW, labels_HW, lines)
    assert [(piece.left, piece.top, piece.line) for piece in pieces] == [
        (4, 9, 0),
        (29, 9, 0),
        (4, 59, 1),
    ]
    assert [piece.ink_HW.sum() for piece in pieces] == [420, 600, 450]
    assert find_digits(ink_HW, parts_HW, single=True)[1] == [0]


def test_the_whole_of_a_group() -> None:
    first, second = Part(7, 5, 6, 20, 30, 40.0), Part(2, 10, 1, 25, 9, 2.5)
    assert merge_parts([first, second]) == Part(7, 5, 1, 25, 30, 42.5)


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param((DIGIT, NEXT), id="side by side"),
        pytest.param((DIGIT, (42, 10, 82, 70)), id="slanted, boxes overlap"),
        pytest.param((DIGIT, BELOW), id="two lines"),
        pytest.param((DIGIT, (58, 12, 66, 70)), id="a one beside a wide digit"),
    ],
)
def test_two_digits(boxes: tuple[Box, Box]) -> None:
    assert grouped(*boxes) == sets({1}, {2})


@pytest.mark.parametrize(
    "fragment",
    [
        pytest.param((20, -6, 60, 6), id="the bar above a five"),
        pytest.param((20, 20, 55, 28), id="a bar that sticks out"),
        pytest.param((53, 12, 70, 22), id="a bar beside its top"),
        pytest.param((25, 35, 31, 41), id="a dot inside a zero"),
        pytest.param((25, 20, 35, 60), id="a long stroke inside a zero"),
        pytest.param((12, 73, 48, 84), id="a stroke below"),
        pytest.param((52, 72, 60, 80), id="the end of a tail, across the corner"),
    ],
)
def test_fragments_belong_to_the_digit_next_to_them(fragment: Box) -> None:
    assert grouped(DIGIT, fragment) == sets({1, 2})
    # Also with another digit beside it, in whichever order they are found.
    for shuffled in itertools.permutations(parts(DIGIT, fragment, (-60, 10, -20, 70))):
        assert numbers(group_parts(list(shuffled))) == sets({1, 2}, {3})


def test_halves_of_a_digit() -> None:
    assert grouped((10, 10, 50, 38), (14, 41, 52, 70)) == sets({1, 2})
    apart = (40, 10, 80, 40), (40, 70, 80, 100)
    assert grouped(*apart) == sets({1}, {2})
    assert grouped(*apart, (55, 44, 65, 66)) == sets({1, 2, 3})


@pytest.mark.parametrize("speck", [(80, 30, 86, 36), (10, 130, 30, 136), (200, 200, 215, 210)])
def test_a_fragment_far_from_any_digit_is_left_out(speck: Box) -> None:
    assert grouped(DIGIT, speck) == sets({1})


def test_a_faint_scratch_is_left_out_however_long() -> None:
    digit, _ = parts(DIGIT, NEXT)
    scratch = Part(2, 80, 0, 90, 80, digit.ink / 50)
    assert numbers(group_parts([digit, scratch])) == sets({1})


def test_lines_are_read_from_the_top_and_the_left() -> None:
    assert lines_of((62, 108, 98, 168), NEXT, BELOW, DIGIT) == [[4, 2], [3, 1]]


@pytest.mark.parametrize("rise", [-12, 12])
def test_a_slanted_line_is_one_line(rise: int) -> None:
    boxes = [(50 * n, 200 + rise * n, 50 * n + 40, 260 + rise * n) for n in range(10)]
    assert lines_of(*boxes) == [list(range(1, 11))]


def test_lines_of_different_lengths_and_indents() -> None:
    first = [(300 + 50 * n, 0, 340 + 50 * n, 60) for n in range(2)]
    second = [(50 * n, 90, 50 * n + 40, 150) for n in range(8)]
    assert lines_of((150, 180, 190, 240), *first, *second) == [[2, 3], list(range(4, 12)), [1]]


def test_small_digits_stay_in_their_line() -> None:
    assert lines_of(DIGIT, (60, 40, 80, 70), THIRD) == [[1, 2, 3]]


SIDES, STARTS = st.integers(1, 80), st.integers(0, 300)
BOXES = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), STARTS, STARTS, SIDES, SIDES)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=100)
@hypothesis.given(boxes=st.lists(BOXES, min_size=1, max_size=8), x=STARTS, y=STARTS)
def test_digits_share_no_parts_and_moving_them_changes_nothing(
    boxes: list[Box], x: int, y: int
) -> None:
    groups = group_parts(parts(*boxes))
    used = [part.number for group in groups for part in group]
    assert len(used) == len(set(used)) > 0
    assert sorted(map(id, groups)) == sorted(map(id, itertools.chain(*order_by_line(groups))))
    moved = [(box[0] + x, box[1] + y, box[2] + x, box[3] + y) for box in boxes]
    assert grouped(*moved) == numbers(groups)
    assert lines_of(*moved) == lines_of(*boxes)
