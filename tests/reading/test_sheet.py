"""Drawn borders and the table around a sheet of paper are removed; thick digits are kept."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from mnistcli.reading.background import estimate_background
from mnistcli.reading.polarity import subtract_background
from mnistcli.reading.sheet import find_sheet, remove_border
from tests.helpers.pictures import (
    SAME,
    difference,
    digit_in,
    draw,
    inverted,
    read_text,
    to_array,
    to_picture,
)


@pytest.mark.parametrize("light_on_dark", [False, True])
@pytest.mark.parametrize(("inset_px", "width_px"), [(0, 2), (0, 9), (5, 2), (20, 6)])
def test_a_border_around_a_digit(inset_px: int, width_px: int, light_on_dark: bool) -> None:
    plain = draw(("5", 50, 40))
    framed = plain.copy()
    box = (inset_px, inset_px, 199 - inset_px, 199 - inset_px)
    ImageDraw.Draw(framed).rectangle(box, outline=0, width=width_px)
    framed = inverted(framed) if light_on_dark else framed
    assert difference(digit_in(framed), digit_in(plain)) < SAME


def test_ink_near_the_edge_does_not_end_a_border() -> None:
    gray_HW = np.ones((28, 28), np.float32)
    gray_HW[2:6, 8:20] = gray_HW[16:20, 4:22] = gray_HW[5:17, 12:17] = 0
    assert_array_equal(remove_border(gray_HW), gray_HW)


@pytest.mark.parametrize("table", [20, 70, 120])
def test_a_sheet_of_paper_on_a_table(table: int) -> None:
    page = draw(("3", 20, 20), ("5", 110, 25), ("2", 200, 20), height_px=60, side_px=300)
    photo_HW = np.full((500, 600), float(table))
    photo_HW[110:250, 130:430] = 40 + 0.75 * to_array(page)[:140]
    photo_HW += np.random.default_rng(1).normal(0, 2, photo_HW.shape)
    assert read_text(to_picture(photo_HW)) == "352"


def test_a_thick_bar_is_a_one() -> None:
    bar_HW = np.full((200, 120), 255)
    bar_HW[5:195, 40:80] = 0
    assert read_text(to_picture(bar_HW)) == "1"


@pytest.mark.parametrize("margin_px", [4, 20])
@pytest.mark.parametrize("label", [0, 1])
def test_a_thick_digit_is_not_a_sheet(label: int, margin_px: int) -> None:
    digits = load_digits()
    for values_HW in digits.images[digits.target == label][:40]:
        ink = to_picture(255 - 15 * values_HW)
        page = Image.new("L", (80 + 2 * margin_px,) * 2, 255)
        page.paste(ink.resize((80, 80), Image.Resampling.BICUBIC), (margin_px, margin_px))
        gray_HW = (to_array(page) / 255).astype(np.float32)
        assert find_sheet(subtract_background(gray_HW, estimate_background(gray_HW))) is None
