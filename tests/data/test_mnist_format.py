"""Ink in MNIST's format: the box, the stroke width, the center of mass."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageFilter

from mnistcli.data.arrays import FIT_PX, GrayImage
from mnistcli.data.mnist_format import (
    THICK_PX,
    VISIBLE_INK,
    area_shares,
    center_by_mass,
    fit_to_box,
    ink_box,
    normalize_ink,
    stroke_width_px,
    to_square,
)
from mnistcli.reading.predict import USUAL_STROKE_PX
from tests.helpers.pictures import (
    candidates_in,
    digit_in,
    draw,
    read_text,
    to_array,
    to_picture,
)


def normalized(ink_HW: GrayImage) -> GrayImage:
    """Ink in MNIST's format, 0..1."""
    return normalize_ink(ink_HW).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("label", "0245")
def test_a_digit_has_mnists_format(label: str) -> None:
    pixels_HW = digit_in(draw((label, 50, 40))).pixels_HW
    assert pixels_HW.shape == (28, 28)
    assert pixels_HW.dtype == np.uint8
    assert pixels_HW.max() == 255
    rows, columns = np.nonzero(pixels_HW)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    for axis in (0, 1):
        mean = np.average(np.arange(28), weights=pixels_HW.sum(axis=axis))
        assert mean == pytest.approx(14, abs=0.51)


@pytest.mark.parametrize("label", "0245")
def test_what_has_mnists_format_is_not_changed(label: str) -> None:
    once_HW = digit_in(draw((label, 50, 40))).pixels_HW
    for picture in (Image.fromarray(once_HW), Image.fromarray(255 - once_HW)):
        [again] = candidates_in(picture)
        assert np.abs(again.pixels_HW.astype(int) - once_HW).max() <= 1


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_faint_picture_of_mnists_size_gets_full_ink(share: float) -> None:
    once_HW = digit_in(draw(("0", 50, 40))).pixels_HW
    faint = to_picture(255 - share * once_HW)
    assert digit_in(faint).pixels_HW.max() == 255
    assert read_text(faint) == "0"


def test_the_box_of_the_visible_ink() -> None:
    ink_HW = np.zeros((8, 9), np.float32)
    ink_HW[2:5, 3:7] = 1
    ink_HW[6, 8] = VISIBLE_INK / 2
    assert ink_box(ink_HW) == (3, 2, 7, 5)
    assert_array_equal(to_square(ink_HW), [[1] * 4, [1] * 4, [1] * 4, [0] * 4])


def test_ink_is_centered_by_its_mass_and_stays_inside() -> None:
    corner_HW = np.zeros((20, 20), np.float32)
    corner_HW[:, :2] = corner_HW[0] = 1
    centered_HW = center_by_mass(corner_HW)
    # Of 58 pixels, the rows' mean is 380 / 58 and the columns' 208 / 58. The middle is
    # 14, which would take the box to row 27 and column 30.
    assert ink_box(centered_HW) == (8, 7, 28, 27)
    assert_array_equal(centered_HW[7:27, 8:28], corner_HW)
    point_HW = np.zeros((20, 20), np.float32)
    point_HW[19, 0] = 1
    assert np.argwhere(center_by_mass(point_HW)).tolist() == [[14, 14]]


def test_stroke_width_of_a_bar() -> None:
    bar_HW = np.zeros((120, 40), np.float32)
    bar_HW[10:110, 10:14] = 1
    # The two ends count as edges too: 2 * 400 / (2 * 100 + 2 * 4), but for the corners.
    assert stroke_width_px(bar_HW) == pytest.approx(800 / 208, abs=0.03)
    assert stroke_width_px(bar_HW / np.float32(3)) == pytest.approx(800 / 208, abs=0.03)
    assert stroke_width_px(np.zeros((5, 5), np.float32)) == 0


def test_usual_strokes_are_kept() -> None:
    bar_HW = np.zeros((28, 28), np.float32)
    bar_HW[4:24, 10:13] = 1
    assert_array_equal(fit_to_box(bar_HW)[:, 8:11], bar_HW[4:24, 10:13])


def test_thick_strokes_are_narrowed() -> None:
    thick = draw(("0", 50, 40)).filter(ImageFilter.MinFilter(15))
    square_HW = to_square((1 - to_array(thick) / 255).astype(np.float32))
    before_px = stroke_width_px(square_HW) * FIT_PX / len(square_HW)
    assert before_px > THICK_PX > stroke_width_px(normalized(square_HW))


@pytest.mark.parametrize("side_px", [28, 200, 600])
def test_strokes_of_one_pixel_are_widened(side_px: int) -> None:
    ink_HW = np.zeros((side_px, side_px), np.float32)
    low, high = side_px // 7, side_px * 6 // 7
    ink_HW[low:high, low] = ink_HW[low:high, high] = 1
    ink_HW[low, low:high] = ink_HW[high, low : high + 1] = 1
    digit_HW = normalized(ink_HW)
    assert USUAL_STROKE_PX[0] < stroke_width_px(digit_HW) < USUAL_STROKE_PX[1]
    assert digit_HW[14, 10:18].max() == 0


@pytest.mark.parametrize("height", [20, 101, 103, 149, 250])
def test_a_hairline_is_widened(height: int) -> None:
    line_HW = np.pad(np.ones((height, 1), np.float32), 3)
    assert USUAL_STROKE_PX[0] < stroke_width_px(normalized(line_HW)) < USUAL_STROKE_PX[1]


def test_area_shares_use_every_pixel_once() -> None:
    shares_SH = area_shares(5, 2)
    assert_allclose(shares_SH, [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-6)


def test_normalizing_twice_changes_nothing() -> None:
    once_HW = digit_in(draw(("5", 50, 40))).ink()
    assert_allclose(normalized(once_HW), once_HW, atol=0.02)
