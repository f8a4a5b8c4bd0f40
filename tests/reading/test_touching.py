"""Where wide ink is cut, and every way to cut it."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnistcli.reading.segment import Piece
from mnistcli.reading.touching import cut_touching, enumerate_spans, find_cuts


def discs(num: int, *, radius: int = 20) -> NDArray[np.float32]:
    """Discs of ink in a row, each touching the next."""
    center_W = 2 * radius * (np.arange(2 * radius * num) // (2 * radius)) + radius - 0.5
    x_W, y_H1 = np.arange(2 * radius * num), np.arange(2 * radius)[:, None]
    inside_HW: NDArray[np.bool_] = (x_W - center_W) ** 2 + (y_H1 - radius + 0.5) ** 2 <= radius**2
    return inside_HW.astype(np.float32)


def test_ink_is_cut_where_it_is_thin() -> None:
    assert find_cuts(discs(2)) == [pytest.approx(40, abs=1)]
    assert find_cuts(discs(3)) == [pytest.approx(40, abs=1), pytest.approx(80, abs=1)]


def test_ink_is_cut_once_at_a_bridge() -> None:
    ink_HW = np.zeros((40, 100), np.float32)
    ink_HW[:, :40] = ink_HW[:, 60:] = ink_HW[20, 40:60] = 1
    assert sum(38 <= x <= 62 for x in find_cuts(ink_HW)) == 1


def test_ink_that_is_not_wide_is_not_cut() -> None:
    for ink_HW in (discs(1), discs(2).T.copy(), np.ones((1, 1), np.float32)):
        assert find_cuts(ink_HW) == []


def test_long_ink_is_cut_at_the_thinnest_places() -> None:
    ink_HW = discs(12)
    thin = set(range(1, 12, 2))
    for place in set(range(1, 12)) - thin:
        ink_HW[10:30, 40 * place - 3 : 40 * place + 3] = 1  # a thicker bridge
    cuts = find_cuts(ink_HW)
    assert 1 < len(cuts) <= len(thin)
    assert {round(x / 40) for x in cuts} <= thin


def test_every_way_to_divide_columns() -> None:
    assert list(enumerate_spans([0, 9])) == [((0, 9),)]
    assert list(enumerate_spans([0, 3, 5, 9])) == [
        ((0, 9),),
        ((0, 3), (3, 9)),
        ((0, 5), (5, 9)),
        ((0, 3), (3, 5), (5, 9)),
    ]
    assert len(set(enumerate_spans(range(7)))) == 2**5


def test_segmentations_cover_all_ink_and_share_their_pieces() -> None:
    piece = Piece(discs(3), left=7, top=2, line=1)
    segmentations = cut_touching(piece)
    assert [len(pieces) for pieces in segmentations] == [1, 2, 2, 3]
    for pieces in segmentations:
        assert np.array_equal(np.hstack([part.ink_HW for part in pieces]), piece.ink_HW)
        assert pieces[0].left == 7
        assert all((part.top, part.line) == (2, 1) for part in pieces)
    assert len({*itertools.chain(*segmentations)}) == 6


def test_a_piece_without_a_stroke_is_not_a_digit() -> None:
    ink_HW = np.hstack([discs(1), np.full((40, 40), 0.3, np.float32)])
    ink_HW[:, 38:42] = 0.1
    assert len(find_cuts(ink_HW)) >= 1
    assert all(
        part.ink_HW.max() > 0.5
        for pieces in cut_touching(Piece(ink_HW, 0, 0, 0))
        for part in pieces
    )


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=100)
@hypothesis.given(
    height=st.integers(1, 30), width=st.integers(1, 90), seed=st.integers(0, 2**32 - 1)
)
def test_any_ink_is_cut_inside_and_in_order(height: int, width: int, seed: int) -> None:
    ink_HW = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    cuts = find_cuts(ink_HW * (ink_HW > 0.5))
    assert cuts == sorted(set(cuts))
    assert all(0 < x < width for x in cuts)
