"""Which pixels and which connected parts of a small picture are ink."""

import numpy as np
import pytest

from mnistcli.reading.ink import find_ink, otsu, select_parts
from tests.helpers.pictures import candidates_in, draw, to_array, to_picture


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


def test_specks_and_what_lies_along_the_edge_are_dropped() -> None:
    contrast_HW = np.zeros((60, 60), np.float32)
    contrast_HW[10:40, 20:26] = 1  # a digit
    contrast_HW[50, 50] = 1  # a speck
    contrast_HW[:, 0:2] = 1  # a shadow at the edge
    rows, columns = np.nonzero(select_parts(contrast_HW, 0.2, 0.5))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 39, 20, 25)


def test_a_part_that_only_touches_the_edge_is_kept() -> None:
    contrast_HW = np.zeros((60, 60), np.float32)
    contrast_HW[10:40, 20:26] = contrast_HW[20:60, 40:44] = 1
    assert np.unique(select_parts(contrast_HW, 0.2, 0.5)).size == 3


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


def test_a_small_picture_with_two_pens_and_a_faint_block() -> None:
    page_HW = np.full((20, 40), 255.0)
    page_HW[3:17, 2:16] = to_array(draw(("0", 0, 0), height_px=14, side_px=14))
    for gray in (135, 155, 175):
        for block in (232, 240):
            page_HW[2:18, 18:36] = block
            page_HW[4:16, 24:26] = gray
            found = candidates_in(to_picture(page_HW))
            assert found
            assert all(image.pixels_HW.max() == 255 for image in found)


def test_pixels_that_touch_at_their_corners_are_one_stroke() -> None:
    page_HW = np.full((40, 40), 255)
    page_HW[range(8, 32), range(32, 8, -1)] = 0
    [stroke] = candidates_in(to_picture(page_HW))
    assert stroke.box == (9, 8, 33, 32)
