"""Which parts make a digit, told by boxes and amounts of ink drawn up by hand."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnistcli.reading import segment as grouping
from mnistcli.reading.segment import (
    Box,
    Group,
    Part,
    cut_columns,
    enumerate_cuts,
    group_parts,
    measure_parts,
    merge_parts,
    order_by_line,
)

# Left, top, right, bottom. Three digits of a line, and one of the line below.
DIGIT, NEXT, THIRD, BELOW = (
    (10, 10, 50, 70),
    (60, 12, 100, 72),
    (110, 8, 150, 68),
    (10, 110, 50, 170),
)


def parts(*boxes: Box) -> list[Part]:
    """Parts full of ink, numbered from 1."""
    return [
        Part(number, *box, ink=float((box[2] - box[0]) * (box[3] - box[1])))
        for number, box in enumerate(boxes, start=1)
    ]


def numbers(groups: list[Group]) -> set[frozenset[int]]:
    return {frozenset(part.number for part in each) for each in groups}


def sets(*groups: set[int]) -> set[frozenset[int]]:
    return set(map(frozenset, groups))


def in_order(*boxes: Box) -> list[list[int]]:
    return [
        [each[0].number for each in line] for line in order_by_line([[p] for p in parts(*boxes)])
    ]


def discs(num: int, *, radius: int = 20) -> NDArray[np.float32]:
    """Discs of ink in a row, each touching the next."""
    middle_W = 2 * radius * (np.arange(2 * radius * num) // (2 * radius)) + radius - 0.5
    x_W, y_H1 = np.arange(2 * radius * num), np.arange(2 * radius)[:, None]
    inside_HW: NDArray[np.bool_] = (x_W - middle_W) ** 2 + (y_H1 - radius + 0.5) ** 2 <= radius**2
    return inside_HW.astype(np.float32)


def test_parts_are_measured_the_one_with_the_most_ink_first() -> None:
    labels_HW = np.array([[1, 0, 0, 4], [1, 0, 0, 4], [0, 0, 4, 4]], np.int32)
    ink_HW = np.array([[1, 0.25, 0, 1], [0.5, 0, 0, 1], [0, 0, 1, 0.25]], np.float32)
    assert measure_parts(ink_HW, labels_HW) == [Part(4, 2, 0, 4, 3, 3.25), Part(1, 0, 0, 1, 2, 1.5)]
    assert [(p.width, p.height) for p in measure_parts(ink_HW, labels_HW)] == [(2, 3), (1, 2)]


def test_paper_has_no_parts() -> None:
    assert measure_parts(np.zeros((3, 4), np.float32), np.zeros((3, 4), np.int32)) == []
    assert group_parts([]) == []
    assert order_by_line([]) == []


def test_of_texture_only_the_largest_parts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MAX_PARTS", 3)
    labels_HW = np.array([[1, 0, 2, 0, 3, 0, 4, 0, 5]], np.int32)
    ink_HW = np.array([[1, 0, 5, 0, 2, 0, 4, 0, 3]], np.float32)
    assert [part.number for part in measure_parts(ink_HW, labels_HW)] == [2, 4, 5]


def test_the_whole_of_a_group() -> None:
    first, second = Part(7, 5, 6, 20, 30, 40.0), Part(2, 10, 1, 25, 9, 2.5)
    assert merge_parts([first, second]) == Part(7, 5, 1, 25, 30, 42.5)


def test_digits_side_by_side_are_apart() -> None:
    assert numbers(group_parts(parts(DIGIT, NEXT, THIRD))) == sets({1}, {2}, {3})


def test_slanted_digits_whose_boxes_overlap_are_apart() -> None:
    assert numbers(group_parts(parts(DIGIT, (42, 10, 82, 70)))) == sets({1}, {2})


def test_digits_of_two_lines_are_apart() -> None:
    assert numbers(group_parts(parts(DIGIT, BELOW))) == sets({1}, {2})


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
def test_fragments_belong_to_the_digit_they_lie_at(fragment: Box) -> None:
    assert numbers(group_parts(parts(DIGIT, fragment))) == sets({1, 2})
    # Even where another digit stands beside it, and in whichever order they are found.
    beside = parts(DIGIT, fragment, (-60, 10, -20, 70))
    for shuffled in itertools.permutations(beside):
        assert numbers(group_parts(list(shuffled))) == sets({1, 2}, {3})


def test_two_halves_of_a_digit_are_one() -> None:
    assert numbers(group_parts(parts((10, 10, 50, 38), (14, 41, 52, 70)))) == sets({1, 2})


def test_a_fragment_between_two_halves_joins_them() -> None:
    halves = (40, 10, 80, 40), (40, 70, 80, 100)
    assert numbers(group_parts(parts(*halves))) == sets({1}, {2})
    assert numbers(group_parts(parts(*halves, (55, 44, 65, 66)))) == sets({1, 2, 3})


def test_a_fragment_far_from_any_digit_is_left_out() -> None:
    for speck in [(80, 30, 86, 36), (10, 130, 30, 136), (200, 200, 215, 210)]:
        assert numbers(group_parts(parts(DIGIT, speck))) == sets({1})


def test_a_faint_scratch_is_left_out_however_long() -> None:
    digit, scratch = parts(DIGIT, (80, 0, 90, 80))
    assert numbers(group_parts([digit, scratch])) == sets({1}, {2})
    scratch = Part(2, scratch.left, scratch.top, scratch.right, scratch.bottom, digit.ink / 50)
    assert numbers(group_parts([digit, scratch])) == sets({1})


def test_a_one_beside_a_wide_digit_is_a_digit() -> None:
    assert numbers(group_parts(parts(DIGIT, (58, 12, 66, 70)))) == sets({1}, {2})


def test_a_line_is_read_from_the_left() -> None:
    for order in itertools.permutations([(1, DIGIT), (2, NEXT), (3, THIRD)]):
        [line] = in_order(*(box for _, box in order))
        assert [order[number - 1][0] for number in line] == [1, 2, 3]


def test_lines_are_read_from_the_top() -> None:
    second = (62, 108, 98, 168)
    assert in_order(second, NEXT, BELOW, DIGIT) == [[4, 2], [3, 1]]


@pytest.mark.parametrize("rise", [-12, -5, 5, 12])
def test_a_slanted_line_is_one_line(rise: int) -> None:
    boxes = [(50 * n, 200 + rise * n, 50 * n + 40, 260 + rise * n) for n in range(10)]
    assert in_order(*boxes) == [list(range(1, 11))]


def test_lines_of_unlike_lengths_and_indents() -> None:
    first = [(300 + 50 * n, 0, 340 + 50 * n, 60) for n in range(2)]
    second = [(50 * n, 90, 50 * n + 40, 150) for n in range(8)]
    third = [(150, 180, 190, 240)]
    assert in_order(*third, *first, *second) == [[2, 3], list(range(4, 12)), [1]]


def test_small_digits_stay_in_their_line() -> None:
    assert in_order(DIGIT, (60, 40, 80, 70), THIRD) == [[1, 2, 3]]


def test_ink_is_cut_where_it_is_thin() -> None:
    [at] = cut_columns(discs(2))
    assert at in (39, 40, 41)
    first, second = cut_columns(discs(3))
    assert first in (39, 40, 41)
    assert second in (79, 80, 81)


def test_ink_is_cut_at_a_bridge() -> None:
    ink_HW = np.zeros((40, 100), np.float32)
    ink_HW[:, :40] = ink_HW[:, 60:] = ink_HW[20, 40:60] = 1
    assert sum(38 <= x <= 62 for x in cut_columns(ink_HW)) == 1


def test_ink_that_is_not_wide_is_not_cut() -> None:
    assert cut_columns(discs(1)) == []
    assert cut_columns(discs(2).T.copy()) == []
    assert cut_columns(np.ones((1, 1), np.float32)) == []


def test_long_ink_is_cut_at_the_thinnest_places() -> None:
    ink_HW = discs(12)
    kept = set(range(1, 12, 2))
    for place in set(range(1, 12)) - kept:
        ink_HW[10:30, 40 * place - 3 : 40 * place + 3] = 1  # a thicker bridge
    found = cut_columns(ink_HW)
    assert found == sorted(set(found))
    assert 1 < len(found) <= len(kept)
    assert {round(x / 40) for x in found} <= kept


def test_the_ways_to_cut() -> None:
    assert list(enumerate_cuts(0)) == [((0, 1),)]
    assert list(enumerate_cuts(1)) == [((0, 2),), ((0, 1), (1, 2))]
    assert list(enumerate_cuts(2)) == [
        ((0, 3),),
        ((0, 1), (1, 3)),
        ((0, 2), (2, 3)),
        ((0, 1), (1, 2), (2, 3)),
    ]


@pytest.mark.parametrize("num_cuts", range(8))
def test_every_way_is_there_once_and_covers_all(num_cuts: int) -> None:
    found = list(enumerate_cuts(num_cuts))
    assert len(found) == len(set(found)) == 2**num_cuts
    for way in found:
        assert (way[0][0], way[-1][1]) == (0, num_cuts + 1)
        assert all(first < last for first, last in way)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(way))


SIDES, STARTS = st.integers(1, 80), st.integers(0, 300)
BOXES = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), STARTS, STARTS, SIDES, SIDES)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=200)
@hypothesis.given(boxes=st.lists(BOXES, min_size=1, max_size=12))
def test_any_parts_make_digits_that_share_none(boxes: list[Box]) -> None:
    groups = group_parts(parts(*boxes))
    used = [part.number for each in groups for part in each]
    assert len(used) == len(set(used)) > 0
    read = order_by_line(groups)
    assert sorted(id(each) for line in read for each in line) == sorted(map(id, groups))
    for line in read:
        assert [merge_parts(each).left for each in line] == sorted(
            merge_parts(each).left for each in line
        )


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=100)
@hypothesis.given(boxes=st.lists(BOXES, min_size=1, max_size=8), x=STARTS, y=STARTS)
def test_moving_all_parts_changes_nothing(boxes: list[Box], x: int, y: int) -> None:
    moved = [(box[0] + x, box[1] + y, box[2] + x, box[3] + y) for box in boxes]
    assert numbers(group_parts(parts(*moved))) == numbers(group_parts(parts(*boxes)))
    assert in_order(*moved) == in_order(*boxes)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=100)
@hypothesis.given(
    height=st.integers(1, 30), width=st.integers(1, 90), seed=st.integers(0, 2**32 - 1)
)
def test_any_ink_is_cut_inside_and_in_order(height: int, width: int, seed: int) -> None:
    ink_HW = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    found = cut_columns(ink_HW * (ink_HW > 0.5))
    assert found == sorted(set(found))
    assert all(0 < x < width for x in found)
