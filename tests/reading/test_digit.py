"""Digits as a PNG file, and where in the picture they are."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from mnistcli.data.mnist_format import ink_box
from mnistcli.reading.digit import DigitImage, Placement, save_digits
from mnistcli.reading.pipeline import rotate


def test_digits_are_saved_side_by_side(tmp_path: Path) -> None:
    pixels_NHW = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    digits = [DigitImage(pixels_HW, (0, 0, 28, 28)) for pixels_HW in pixels_NHW]
    save_digits(tmp_path / "digits.png", digits)
    with Image.open(tmp_path / "digits.png") as saved:
        assert (saved.size, saved.mode, saved.format) == ((56, 28), "L", "PNG")
        assert_array_equal(np.asarray(saved), np.hstack([*pixels_NHW]))


def test_ink_is_between_0_and_1() -> None:
    pixels_HW = np.arange(784, dtype=np.uint8).reshape(28, 28)
    ink_HW = DigitImage(pixels_HW, (0, 0, 28, 28)).ink()
    assert ink_HW.dtype == np.float32
    assert_allclose(ink_HW, pixels_HW / 255, atol=1e-6)


def test_a_placement_scales_boxes_and_rounds_them_outwards() -> None:
    assert Placement((90, 60), (90, 60), 1.0).to_picture((3, 4, 50, 20)) == (3, 4, 50, 20)
    assert Placement((300, 200), (90, 60), 10 / 3).to_picture((3, 4, 50, 20)) == (10, 13, 167, 67)
    assert Placement((300, 200), (90, 60), 10 / 3).to_picture((0, 0, 90, 60)) == (0, 0, 300, 200)


def test_a_placement_keeps_boxes_inside_the_picture() -> None:
    assert Placement((30, 20), (34, 24), 1.0).to_picture((0, 0, 34, 24)) == (0, 0, 30, 20)


@pytest.mark.parametrize("degrees", [-25, -10, 10, 25])
@pytest.mark.parametrize("scale", [1, 3])
def test_a_placement_undoes_the_rotation(degrees: float, scale: int) -> None:
    mark = (150, 30, 160, 40)
    ink_HW = np.zeros((120, 200), np.float32)
    ink_HW[mark[1] : mark[3], mark[0] : mark[2]] = 1
    tilt = math.radians(degrees)
    level_HW = rotate(ink_HW, tilt)
    size = (200 * scale, 120 * scale)
    placement = Placement(size, (level_HW.shape[1], level_HW.shape[0]), scale, tilt)
    box = placement.to_picture(ink_box(level_HW, visible=0.35))
    assert max(np.abs(np.subtract(box, np.multiply(scale, mark)))) <= 9 * scale
    center = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    assert center == pytest.approx((155 * scale, 35 * scale), abs=1.5 * scale)


def test_rotated_ink_is_level_and_complete() -> None:
    ink_HW = np.zeros((120, 200), np.float32)
    for x in range(20, 180):
        y = round(60 + 0.3 * (x - 100))
        ink_HW[y - 2 : y + 2, x] = 1
    level_HW = rotate(ink_HW, math.atan(0.3))
    left, top, right, bottom = ink_box(level_HW, visible=0.35)
    assert bottom - top <= 8
    assert right - left == pytest.approx(160 / math.cos(math.atan(0.3)), abs=3)
    assert 0 <= level_HW.min() <= level_HW.max() <= 1
    assert level_HW.sum() == pytest.approx(ink_HW.sum(), rel=0.02)
