"""Drawings made of characters, read back from what is printed."""

import io
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console, RenderableType
from rich.text import Text

from mnistcli.reading.batch import PictureResult
from mnistcli.reading.digit import LeftOut
from mnistcli.reading.predict import Reading
from mnistcli.views.preview import _lighten, _thumbnail, image_as_text, steps_as_text
from tests.helpers.pictures import decoded, draw, inverted, reading_of

# 4x4 pixels; its columns show all four ways in which two pixels can be drawn.
FOUR_HW = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0]], np.float32)
RAMP = " .:-=+*#%@"


def console(*, colors: bool = True, width: int = 80) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=not colors,
        legacy_windows=False,
        width=width,
    )


def ascii_console(width: int = 80) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    return Console(file=file, force_terminal=True, color_system=None, width=width)


def printed(what: RenderableType, on: Console) -> list[str]:
    """The lines as they are printed, without colors."""
    with on.capture() as captured:
        on.print(what)
    return [Text.from_ansi(line).plain for line in captured.get().splitlines()]


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def colors_of(lines: list[Text]) -> NDArray[np.int64]:
    """The colors of the pixels that a terminal shows, 0 to 255, (H, W, 3)."""
    rows: list[list[tuple[int, ...]]] = []
    for line in lines:
        upper, lower = [], []
        for column, character in enumerate(line.plain):
            style = line.get_style_at_offset(console(), column)
            assert style.color
            assert style.bgcolor
            front, back = tuple(style.color.get_truecolor()), tuple(style.bgcolor.get_truecolor())
            upper.append(front if character in "▀█" else back)
            lower.append(front if character in "▄█" else back)
        rows += [upper, lower]
    return np.array(rows)


def test_every_pixel_has_its_color() -> None:
    ramp_HW = np.linspace(0, 1, 13, dtype=np.float32)[None].repeat(4, axis=0)
    for gray_HW in (FOUR_HW, ramp_HW):
        expected = np.repeat(255 * gray_HW[:, :, None], 3, axis=2)
        assert_allclose(colors_of(image_as_text(gray_HW, console())), expected, atol=0.5)
    colors_HWC = np.array([[[1, 0, 0], [0, 0.6, 1]], [[0, 1, 0.4], [0, 0, 0]]], dtype=np.float32)
    assert_allclose(colors_of(image_as_text(colors_HWC, console())), 255 * colors_HWC)
    beyond_HW = np.array([[-0.5, 1.5], [1.5, -0.5]], np.float32)
    levels_HW = colors_of(image_as_text(beyond_HW, console()))[..., 0]
    assert levels_HW.tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("on", [console(colors=False), Console(color_system=None)])
def test_without_colors_light_pixels_are_drawn(on: Console) -> None:
    lines = image_as_text(FOUR_HW, on)
    assert plain(lines) == [" ▀▄█", "▀ ▄▀"]
    assert all(not line.spans for line in lines)
    blue_HWC = np.zeros((2, 2, 3), np.float32)
    blue_HWC[0, 0, 2] = 1
    assert plain(image_as_text(blue_HWC, on)) == ["▀ "]


def test_a_drawing_in_colors_can_be_copied_as_text() -> None:
    for line, copied in zip(image_as_text(FOUR_HW, console()), [" ▀▄▀", "▀ ▄▀"], strict=True):
        assert line.plain == copied
        assert printed(line, console()) == [copied]


def test_without_block_characters_a_ramp_is_drawn() -> None:
    levels_HW = np.arange(10, dtype=np.float32)[None].repeat(2, axis=0) / np.float32(9)
    [line] = image_as_text(levels_HW, ascii_console())
    assert printed(line, ascii_console()) == [RAMP]
    # The mean of the upper and the lower pixel: 9 / 9 and 3 / 9 are 6 / 9.
    mixed_HW = np.array([[3, 0, 6], [1, 0, 6]], np.float32) / np.float32(3)
    assert plain(image_as_text(mixed_HW, ascii_console())) == ["* @"]


def test_an_odd_number_of_rows_ends_in_a_dark_one() -> None:
    odd_HW = np.ones((3, 2), np.float32)
    assert plain(image_as_text(odd_HW, console(colors=False))) == ["██", "▀▀"]
    assert colors_of(image_as_text(odd_HW, console()))[:, 0, 0].tolist() == [255, 255, 255, 0]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((400, 300), (48, 36)), ((300, 400), (27, 36)), ((8, 8), (36, 36)), ((1, 600), (1, 36))],
)
def test_thumbnails_keep_the_aspect(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels_HW = np.full(shape, 0.25, np.float32)
    assert_allclose(_thumbnail(pixels_HW), np.full(expected, 0.25), atol=1e-6)
    colors_HWC = np.stack([pixels_HW, 2 * pixels_HW, 0 * pixels_HW], axis=2)
    small_HWC = _thumbnail(colors_HWC)
    assert small_HWC.shape == (*expected, 3)
    assert_allclose(small_HWC[0, 0], [0.25, 0.5, 0], atol=1e-6)


def test_thumbnails_are_averages_and_faint_lines_are_lightened() -> None:
    halves_HW = np.zeros((360, 360), np.float32)
    halves_HW[:, 185:] = 1
    assert _thumbnail(halves_HW)[20, 17:20].tolist() == pytest.approx([0, 0.5, 1])
    quarter_HW = np.full((48, 36), 0.25, np.float32)
    assert_allclose(_lighten(quarter_HW), np.full((48, 36), 0.5))
    assert_allclose(_lighten(-quarter_HW), np.zeros((48, 36)))


def steps(*, light_on_dark: bool = False) -> tuple[PictureResult, Reading]:
    picture = draw(("3", 20, 10), ("0", 100, 16), ("5", 180, 8), height_px=60, side_px=300)
    picture = inverted(picture) if light_on_dark else picture
    reading = reading_of(picture)
    # As if the last digit had not been read.
    *read, last = reading.predictions
    return decoded(picture), Reading(read, [LeftOut(last.digit, "no digit")], reading.ink_HW)


@pytest.mark.parametrize("kind", ["colors", "no colors", "ascii"])
@pytest.mark.parametrize(("width", "per_row"), [(40, 1), (80, 2), (300, 7)])
def test_as_many_steps_as_fit_are_side_by_side(kind: str, width: int, per_row: int) -> None:
    on = ascii_console(width) if kind == "ascii" else console(colors=kind == "colors", width=width)
    picture, reading = steps(light_on_dark=True)
    lines = printed(steps_as_text(picture, reading, on), on)
    assert max(map(len, lines)) <= width
    titles = ["gray", "ink", "digit 1", "digit 2", "left out"]
    rows = [titles[first : first + per_row] for first in range(0, len(titles), per_row)]
    in_columns = [re.split(r"\s{2,}", line.strip()) for line in lines]
    numbers = [in_columns.index(row) for row in rows]
    assert numbers == sorted(numbers)
    drawn = plain(image_as_text(_thumbnail(picture.gray()), on))
    assert [line[:36].rstrip() for line in lines[1:19]] == [line.rstrip() for line in drawn]


def test_the_network_input_of_every_digit_is_drawn() -> None:
    on = console(width=300)
    picture, reading = steps()
    lines = printed(steps_as_text(picture, reading, on), on)
    start = lines[0].index("digit 2")
    drawn = plain(image_as_text(reading.predictions[1].digit.ink(), on))
    assert [line[start : start + 28].rstrip() for line in lines[1:15]] == [
        line.rstrip() for line in drawn
    ]


@pytest.mark.parametrize("on", [console(colors=False), ascii_console()])
def test_without_colors_a_white_background_is_drawn_as_a_negative(on: Console) -> None:
    light, dark = steps(), steps(light_on_dark=True)
    lines, expected = (printed(steps_as_text(*made, on), on) for made in (light, dark))
    assert "negative" in lines[0]
    assert "negative" not in expected[0]
    assert [line[:36].rstrip() for line in lines[1:19]] == [
        line[:36].rstrip() for line in expected[1:19]
    ]


@pytest.mark.parametrize("size", [(100, 100), (1, 1), (1, 70), (70, 1)])
def test_steps_of_a_blank_picture(size: tuple[int, int]) -> None:
    blank = Image.new("L", size, 255)
    for on in (console(), console(colors=False), ascii_console()):
        lines = printed(steps_as_text(decoded(blank), reading_of(blank), on), on)
        assert sum("ink" in line for line in lines) == 1
        assert max(map(len, lines)) <= 80
