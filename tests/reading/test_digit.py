"""Digits as a PNG file."""

from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from mnistcli.reading.digit import DigitImage, save_digits


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
