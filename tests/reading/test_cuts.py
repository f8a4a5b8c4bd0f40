"""Ink is cut along paths from top to bottom that meet little of it."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mnistcli.data.arrays import GrayImage
from mnistcli.reading.cuts import SIDE_STEP, CutPath, find_cuts
from tests.helpers.ink import discs


def ink_on(path: CutPath, ink_HW: GrayImage) -> float:
    return float(ink_HW[np.arange(len(ink_HW)), path.columns_H].sum())


def test_touching_ink_is_cut_between_its_parts() -> None:
    [path] = find_cuts(discs(2), 1)
    assert path.columns_H.shape == (40,)
    assert path.columns_H == pytest.approx(40, abs=1.5)
    assert ink_on(path, discs(2)) == discs(2).sum(axis=0)[40]


def test_paths_come_from_the_left_and_lead_through_thick_necks_too() -> None:
    ink_HW = discs(5)
    ink_HW[8:32, 75:85] = 1  # a thicker bridge between the second and the third
    paths = find_cuts(ink_HW, 4)
    assert [path.columns_H[20] for path in paths] == pytest.approx([40, 80, 120, 160], abs=1)


def test_a_diagonal_gap_needs_a_bent_path() -> None:
    y_H1, x_1W = np.ogrid[:40, :80]
    gap_HW = np.abs(x_1W - (25 + 0.7 * y_H1)) <= 2
    ink_HW = np.where(gap_HW, 0, 1).astype(np.float32)
    [path] = find_cuts(ink_HW, 1)
    assert ink_on(path, ink_HW) == 0
    assert path.ink == pytest.approx(SIDE_STEP * (path.columns_H[-1] - path.columns_H[0]))
    assert path.columns_H[-1] - path.columns_H[0] > 20
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
    middles = [path.columns_H[height // 2] for path in paths]
    assert middles == sorted(set(middles))
    for path in paths:
        assert path.columns_H.shape == (height,)
        assert 0 <= path.columns_H.min() <= path.columns_H.max() < width
        steps_H = np.abs(np.diff(path.columns_H))
        assert steps_H.max() <= 1
        cost = ink_on(path, ink_HW) + SIDE_STEP * steps_H.sum()
        assert path.ink == pytest.approx(cost, abs=1e-3)
