"""Dark ink on light paper and light ink on dark paper."""

import numpy as np
import pytest

from mnistcli.reading.polarity import fills_corners, subtract_background


@pytest.mark.parametrize(("ink", "contrast"), [(0.1, 0.8), (0.9, 0.4)], ids=["dark", "light"])
def test_ink_has_positive_contrast(ink: float, contrast: float) -> None:
    background_HW = np.full((10, 10), 0.5, np.float32)
    gray_HW = background_HW.copy()
    gray_HW[2:8, 4:6] = ink
    contrast_HW = subtract_background(gray_HW, background_HW)
    # Dark ink absorbs 80 % of the light; light ink is brighter by 0.4 of white.
    assert contrast_HW[4, 4] == pytest.approx(contrast)
    assert contrast_HW[0, 0] == 0


def test_dark_ink_in_three_corners_is_background() -> None:
    no_ink_HW, dark_HW = np.zeros((2, 40, 40), np.float32)
    dark_HW[:, :5] = 0.8  # the edge of a table
    assert not fills_corners(dark_HW, no_ink_HW)
    dark_HW[:5] = 0.8
    assert fills_corners(dark_HW, no_ink_HW)
    assert not fills_corners(dark_HW, dark_HW)
