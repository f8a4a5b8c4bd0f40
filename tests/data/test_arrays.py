"""The border of an array and a quantile without interpolation."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mnistcli.data.arrays import border_pixels, quantile


def test_border_pixels_are_all_at_this_distance_from_the_edge() -> None:
    numbers_HW = np.arange(20).reshape(4, 5)
    assert set(border_pixels(numbers_HW, 1)) == {6, 7, 8, 11, 12, 13}
    outermost_N = border_pixels(numbers_HW, 0)
    assert set(outermost_N) == set(range(20)) - {6, 7, 8, 11, 12, 13}
    colors_HWC = np.stack([numbers_HW, -numbers_HW], axis=2)
    assert_array_equal(border_pixels(colors_HWC, 0), np.stack([outermost_N, -outermost_N], axis=1))


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.5, 3), (0.74, 4), (1, 9)])
def test_a_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile(np.array([[4, 1, 9, 2, 3]], np.float32), share) == expected
