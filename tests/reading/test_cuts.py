"""Ink is cut along paths from top to bottom that meet little of it."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnistcli.data.arrays import GrayImage
from mnistcli.reading.cuts import SIDE_STEP, find_cuts
from tests.helpers.ink import discs


def ink_on(path_H: NDArray[np.intp], ink_HW: GrayImage) -> float:
    return float(ink_HW[np.arange(len(ink_HW)), path_H].sum())


def test_touching_ink_is_cut_between_its_parts() -> None:
    [path_H] = find_cuts(discs(2), 1)
    assert path_H.shape == (40,)
    assert path_H == pytest.approx(40, abs=1.5)
    assert ink_on(path_H, discs(2)) == discs(2).sum(axis=0)[40]


def test_paths_come_from_the_left_and_lead_through_thick_necks_too() -> None:
    ink_HW = discs(5)
    ink_HW[8:32, 75:85] = 1  # a thicker bridge between the second and the third
    paths = find_cuts(ink_HW, 4)
    assert [path_H[20] for path_H in paths] == pytest.approx([40, 80, 120, 160], abs=1)


def test_a_diagonal_gap_needs_a_bent_path() -> None:
    y_H1, x_1W = np.ogrid[:40, :80]
    gap_HW = np.abs(x_1W - (25 + 0.7 * y_H1)) <= 2
    ink_HW = np.where(gap_HW, 0, 1).astype(np.float32)
    [path_H] = find_cuts(ink_HW, 1)
    assert ink_on(path_H, ink_HW) == 0
    assert path_H[-1] - path_H[0] > 20
    assert ink_HW.sum(axis=0).min() > 30, "no straight path is free of ink"


@pytest.mark.parametrize("shape", [(1, 1), (5, 50), (50, 5), (40, 11)])
def test_narrow_or_flat_ink_is_not_cut(shape: tuple[int, int]) -> None:
    ink_HW = np.ones(shape, np.float32)
    ink_HW[:, shape[1] // 2] = 0
    assert find_cuts(ink_HW, 10) == []


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=100)
@hypothesis.given(
    height=st.integers(1, 30), width=st.integers(1, 90), seed=st.integers(0, 2**32 - 1)
)
def test_paths_in_any_ink(height: int, width: int, seed: int) -> None:
    random_HW = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    ink_HW = random_HW * (random_HW > 0.5)
    paths = find_cuts(ink_HW, 4)
    assert len(paths) <= 4
    middles = [path_H[height // 2] for path_H in paths]
    assert middles == sorted(set(middles))
    for path_H, column in zip(paths, middles, strict=True):
        assert path_H.shape == (height,)
        assert 0 <= path_H.min() <= path_H.max() < width
        steps_H = np.abs(np.diff(path_H))
        assert steps_H.max() <= 1
        cost = ink_on(path_H, ink_HW) + SIDE_STEP * steps_H.sum()
        assert cost <= ink_HW[:, column].sum() + 1e-3, "cheaper than the straight path"
