"""Fragments of a line, and the candidates for digits that runs of them make."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mnistcli.data.arrays import Box, GrayImage
from mnistcli.data.mnist_format import normalize_ink
from mnistcli.reading.digit import Placement
from mnistcli.reading.lattice import (
    MAX_ASPECT,
    MAX_FRAGMENTS,
    TextLine,
    build_line,
    cut_out,
    cut_part,
    join,
    trim,
)
from mnistcli.reading.parts import find_parts
from tests.helpers.ink import bars, discs

CUT_WIDTH = 0.55


def line_of(ink_HW: GrayImage, placement: Placement | None = None) -> TextLine:
    """The lattice of all ink as one line."""
    labels_HW, parts = find_parts(ink_HW)
    size = ink_HW.shape[1], ink_HW.shape[0]
    parts.sort(key=lambda part: part.center)
    placement = placement or Placement(size, size, 1.0)
    return build_line(parts, ink_HW, labels_HW, placement, cut_width=CUT_WIDTH)


def row(num: int, *, width: int, gap: int) -> list[Box]:
    """Bars of 40 pixels side by side."""
    return [(5 + n * (width + gap), 5, 5 + n * (width + gap) + width, 45) for n in range(num)]


@pytest.mark.parametrize("num", [1, 2, 3])
def test_fragments_together_are_the_ink(num: int) -> None:
    ink_HW = np.pad(discs(num), 5)
    labels_HW, [part] = find_parts(ink_HW)
    fragments = cut_part(part, ink_HW, labels_HW, 40)
    assert len(fragments) >= num
    together = join(fragments)
    assert together.box == (5, 5, 5 + 40 * num, 45)
    assert_array_equal(together.ink_HW, discs(num))
    for piece, following in itertools.pairwise(fragments):
        assert piece.box[0] < following.box[0]


def test_a_fragment_has_no_ink_of_other_parts_and_its_own_blurred_edges() -> None:
    ink_HW = bars((10, 10, 20, 50))
    ink_HW[10:50, 20] = 0.2  # a blurred edge
    ink_HW[30:40, 22] = 1
    labels_HW, parts = find_parts(ink_HW)
    fragment = cut_out([parts[0]], ink_HW, labels_HW)
    assert fragment.box == (9, 9, 21, 51)
    assert fragment.ink_HW[20, -1] == pytest.approx(0.2)
    assert fragment.ink_HW.sum() == pytest.approx(400 + 40 * 0.2)
    assert trim(fragment).box == (10, 10, 20, 50)


def test_every_run_of_neighbors_is_a_candidate() -> None:
    line = line_of(bars(*row(3, width=8, gap=4)))
    assert line.num_fragments == 3
    assert sorted(line.candidates) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert line.candidates[0, 2].box == (5, 5, 25, 45)
    assert line.candidates[1, 2].box == (17, 5, 25, 45)
    both_HW = bars(*row(2, width=8, gap=4))[5:45, 5:25]
    assert_array_equal(line.candidates[0, 2].pixels_HW, normalize_ink(both_HW))


def test_candidates_are_not_too_wide_and_not_of_too_many_fragments() -> None:
    apart = line_of(bars(*row(5, width=20, gap=30)))
    assert sorted(apart.candidates) == [(n, n + 1) for n in range(5)]
    # Runs of bars of 8 pixels that are 8 pixels apart: four are 56 pixels wide, five 72.
    wide = line_of(bars(*row(7, width=8, gap=8)))
    assert max(end - first for first, end in wide.candidates) == 4 == (40 * MAX_ASPECT + 8) // 16
    narrow = line_of(bars(*row(9, width=3, gap=3)))
    assert max(end - first for first, end in narrow.candidates) == MAX_FRAGMENTS


def test_heights_are_shares_of_the_lines() -> None:
    digit, mark = (5, 5, 17, 45), (22, 35, 28, 45)
    line = line_of(bars(digit, (35, 5, 47, 45), mark))
    assert line.heights == {
        (0, 1): 1,
        (0, 2): 1,
        (0, 3): 1,
        (1, 2): 0.25,
        (1, 3): 1,
        (2, 3): 1,
    }


def test_only_wide_and_high_parts_are_cut() -> None:
    assert line_of(np.pad(discs(2), 5)).num_fragments > 1
    narrow, digit, flat = (5, 5, 26, 45), (40, 5, 52, 45), (60, 20, 95, 30)
    assert line_of(bars(narrow, digit, flat)).num_fragments == 3


def test_boxes_are_in_pixels_of_the_picture() -> None:
    ink_HW = bars(*row(2, width=8, gap=30))
    size = ink_HW.shape[1], ink_HW.shape[0]
    placement = Placement((3 * size[0], 3 * size[1]), size, 3.0)
    line = line_of(ink_HW, placement)
    assert line.candidates[0, 1].box == (15, 15, 39, 135)
    assert line.candidates[1, 2].box == (129, 15, 153, 135)
