"""Which pixels and which connected parts are ink."""

import numpy as np
import pytest

from mnistcli.reading.ink import find_ink, otsu, select_parts
from tests.helpers.pictures import (
    digit_in,
    draw,
    read_text,
    segmentations_in,
    to_array,
    to_picture,
)


def test_otsu_separates_two_levels() -> None:
    values_N = np.array([0.1] * 70 + [0.2] * 10 + [0.8] * 20, np.float32)
    assert 0.2 <= otsu(values_N) <= 0.8
    assert otsu(np.full(9, 0.5, np.float32)) < 0.5


def test_a_part_needs_a_dark_pixel() -> None:
    contrast_HW = np.zeros((9, 9), np.float32)
    contrast_HW[2, 2:5] = 0.3, 0.9, 0.3
    contrast_HW[6, 2:5] = 0.3
    parts_HW = select_parts(contrast_HW, 0.2, 0.5)
    assert (parts_HW > 0).tolist() == ((contrast_HW > 0.2) & (np.arange(9) < 4)[:, None]).tolist()


def test_specks_and_what_touches_the_edge_are_dropped() -> None:
    contrast_HW = np.zeros((60, 60), np.float32)
    contrast_HW[10:40, 20:26] = 1  # a digit
    contrast_HW[50, 50] = 1  # a speck
    contrast_HW[30:, 0:2] = 1  # a shadow at the edge
    rows, columns = np.nonzero(select_parts(contrast_HW, 0.2, 0.5))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 39, 20, 25)


def test_parts_at_the_edge_are_kept_if_the_main_one_touches_it_too() -> None:
    contrast_HW = np.zeros((60, 60), np.float32)
    contrast_HW[:40, 20:30] = contrast_HW[:30, 40:46] = 1
    assert np.unique(select_parts(contrast_HW, 0.2, 0.5)).size == 3


def test_ink_is_full_where_the_pen_pressed() -> None:
    contrast_HW = np.zeros((20, 20), np.float32)
    contrast_HW[5:15, 9:12] = 0.2, 0.4, 0.2
    ink_HW, parts_HW = find_ink(contrast_HW, 0)
    assert ink_HW.max() == 1
    assert ink_HW[8, 9] == pytest.approx(0.5)
    assert not ink_HW[parts_HW == 0].any()


def test_two_pens_of_different_darkness() -> None:
    dark, faint = (
        to_array(draw((label, left, 20), height_px=60)) for label, left in (("3", 20), ("4", 110))
    )
    faint = 255 - 0.6 * (255 - faint)
    page = to_picture(np.minimum(dark, faint))
    for [[digit]], alone in zip(segmentations_in(page), (dark, faint), strict=True):
        expected = digit_in(to_picture(alone))
        assert np.abs(np.subtract(digit.box, expected.box)).max() <= 2
        assert digit.ink().mean() == pytest.approx(expected.ink().mean(), rel=0.15)
    assert read_text(page) == "34"


def test_two_pens_and_a_faint_block() -> None:
    page_HW = np.full((90, 200), 255.0)
    page_HW[20:70, 10:60] = to_array(draw(("0", 0, 0), height_px=50, side_px=50))
    for gray in (135, 155, 175):
        for block in (232, 240):
            page_HW[15:75, 80:180] = block
            page_HW[25:65, 100:104] = gray
            assert all(segmentations_in(to_picture(page_HW)))


def test_pixels_that_touch_at_their_corners_are_one_stroke() -> None:
    page_HW = np.full((100, 100), 255)
    page_HW[range(20, 80), range(80, 20, -1)] = 0
    assert digit_in(to_picture(page_HW)).box == (21, 20, 81, 80)
