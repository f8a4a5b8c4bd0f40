"""The network that finds ink is run on pictures of any shape, and finds digits in any light."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnistcli.models.ink_finder import InkFinder
from mnistcli.reading.picture_ink import find_picture_ink
from tests.helpers.pictures import (
    digit_in,
    draw,
    inverted,
    read_text,
    reading_of,
    to_array,
    to_picture,
    written,
)

FIVE = draw(("5", 50, 40))


@pytest.fixture(scope="module")
def untrained() -> InkFinder:
    torch.manual_seed(0)
    return InkFinder().eval()


@pytest.mark.parametrize(
    "shape", [(41, 41), (800, 33), (33, 800), (1, 60), (128, 60), (129, 400), (600, 800)]
)
def test_the_ink_has_the_shape_of_the_picture(untrained: InkFinder, shape: tuple[int, int]) -> None:
    gray_HW = np.random.default_rng(0).random(shape, np.float32)
    ink_HW = find_picture_ink(untrained, gray_HW)
    assert ink_HW.shape in (shape, (2 * shape[0], 2 * shape[1]))
    assert ink_HW.dtype == np.float32
    assert 0 <= ink_HW.min() < ink_HW.max() <= 1


def test_ink_is_where_the_digit_is() -> None:
    [digit] = reading_of(FIVE).predictions
    ink_HW, gray_HW = reading_of(FIVE).ink_HW, to_array(FIVE)
    assert ink_HW.shape == gray_HW.shape
    assert ink_HW[gray_HW < 50].mean() > 0.8
    assert ink_HW[gray_HW == 255].mean() < 0.05
    assert digit.label == "5"


def photo(*, noise: float = 2) -> NDArray[np.float64]:
    """A five as a camera sees it: ink is not black, and there is noise."""
    photo_HW = 75 + 165 * to_array(FIVE) / 255
    return photo_HW + np.random.default_rng(0).normal(0, noise, photo_HW.shape)


def test_uneven_light_noise_and_dust() -> None:
    light_HW = np.linspace(1, 0.5, 200)[:, None] * np.linspace(0.95, 0.7, 200)[None, :]
    photo_HW = photo(noise=4) * light_HW
    photo_HW[10:12, 10:12] = photo_HW[150:152, 180:182] = 0
    assert read_text(to_picture(photo_HW)) == "5"


@pytest.mark.parametrize(
    "shade", [np.s_[:, 100:], np.s_[110:, :], np.s_[:90, :60]], ids=["right", "bottom", "corner"]
)
def test_a_shadow_with_a_hard_edge(shade: tuple[slice, slice]) -> None:
    photo_HW = photo()
    photo_HW[shade] *= 0.5
    assert read_text(to_picture(photo_HW)) == "5"


@pytest.mark.parametrize(
    "table",
    [np.s_[:, :30], np.s_[:, -25:], np.s_[-30:, :], np.s_[:6, :], np.s_[:, :14]],
    ids=["left", "right", "bottom", "narrow top", "narrow left"],
)
def test_a_dark_table_at_one_side(table: tuple[slice, slice]) -> None:
    photo_HW = photo()
    photo_HW[table] = 45
    assert read_text(to_picture(photo_HW)) == "5"


@pytest.mark.parametrize("height", [24, 60])
def test_a_gradient_is_blank(height: int) -> None:
    strip_HW = np.broadcast_to(np.linspace(230, 102, 800), (height, 800))
    assert reading_of(to_picture(strip_HW)).predictions == []


@pytest.mark.parametrize("light_on_dark", [False, True])
@pytest.mark.parametrize(("inset_px", "width_px"), [(0, 2), (5, 2), (20, 6)])
def test_a_border_around_a_digit(inset_px: int, width_px: int, light_on_dark: bool) -> None:
    framed = FIVE.copy()
    box = (inset_px, inset_px, 199 - inset_px, 199 - inset_px)
    ImageDraw.Draw(framed).rectangle(box, outline=0, width=width_px)
    assert read_text(inverted(framed) if light_on_dark else framed) == "5"


@pytest.mark.parametrize("table", [20, 70, 120])
def test_a_sheet_of_paper_on_a_table(table: int) -> None:
    picture = draw(("3", 20, 20), ("5", 110, 25), ("2", 200, 20), height_px=60, side_px=300)
    photo_HW = np.full((500, 600), float(table))
    photo_HW[110:250, 130:430] = 40 + 0.75 * to_array(picture)[:140]
    photo_HW += np.random.default_rng(1).normal(0, 2, photo_HW.shape)
    assert read_text(to_picture(photo_HW)) == "352"


@pytest.mark.parametrize("spacing_px", [55, 110])
def test_ruled_paper(spacing_px: int) -> None:
    picture = written("203", "58")
    for y in range(spacing_px - 2, picture.height, spacing_px):
        ImageDraw.Draw(picture).line((0, y, picture.width, y), fill=150, width=2)
    assert read_text(picture) == "203 58"


def test_ruled_paper_with_a_margin_line() -> None:
    # The lines connect all digits to one dark part, which reaches from edge to edge.
    page = Image.new("L", (600, 400), 255)
    page.paste(written("203", "58"), (80, 80))
    for y in range(40, 400, 40):
        ImageDraw.Draw(page).line((0, y, 600, y), fill=160, width=2)
    ImageDraw.Draw(page).line((60, 0, 60, 400), fill=120, width=2)
    assert read_text(page) == "203 58"


def test_two_pens_of_different_darkness() -> None:
    dark, faint = (
        to_array(draw((label, left, 20), height_px=60)) for label, left in (("3", 20), ("4", 110))
    )
    assert read_text(to_picture(np.minimum(dark, 255 - 0.6 * (255 - faint)))) == "34"


def test_a_digit_beside_a_thumb_is_found() -> None:
    picture = written("42").convert("L")
    larger = Image.new("L", (picture.width, 2 * picture.height), 255)
    larger.paste(picture, (0, 0))
    ImageDraw.Draw(larger).ellipse((60, 160, 160, 420), fill=120)
    assert read_text(larger) == "42"


def test_the_box_of_a_digit_is_that_of_its_ink() -> None:
    left, top, right, bottom = digit_in(FIVE).box
    rows, columns = np.nonzero(to_array(FIVE) < 128)
    assert (left, top) == pytest.approx((columns.min(), rows.min()), abs=2)
    assert (right, bottom) == pytest.approx((columns.max() + 1, rows.max() + 1), abs=2)
