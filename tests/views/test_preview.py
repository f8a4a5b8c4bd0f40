"""The drawings of a terminal, read back from what is printed."""

import io
import re
from typing import Literal

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console, RenderableType
from rich.text import Text

from mnistcli.reading.decode import decode_picture
from mnistcli.reading.pipeline import DigitImage, PipelineSteps, run_pipeline
from mnistcli.views.preview import (
    PALETTE,
    _color_digits,
    _lighten,
    _thumbnail,
    image_as_text,
    steps_as_text,
)
from tests.reading.test_pipeline import encoded, inverted, written

System = Literal["standard", "256", "truecolor"]
Colours = tuple[int, ...]

# A drawing of 4x4 whose columns show all four ways in which two pixels can be drawn.
FOUR_HW = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0]], np.float32)
RAMP = " .:-=+*#%@"


def console(
    *, colors: System | None = "truecolor", no_color: bool = False, width: int = 80
) -> Console:
    """A terminal of its own, which notes what is printed."""
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system=colors,
        no_color=no_color,
        legacy_windows=False,
        width=width,
        height=100,
    )


def ascii_console(width: int = 80) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    return Console(file=file, force_terminal=True, color_system=None, width=width)


def printed(what: RenderableType, on: Console) -> list[str]:
    with on.capture() as captured:
        on.print(what)
    return captured.get().splitlines()


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def seen(lines: list[Text]) -> NDArray[np.int64]:
    """The colors of the pixels that a terminal shows, 0 to 255, (H, W, 3)."""
    rows: list[list[Colours]] = []
    for line in lines:
        upper, lower = [], []
        for column, character in enumerate(line.plain):
            style = line.get_style_at_offset(console(), column)
            assert style.color is not None
            assert style.bgcolor is not None
            front, back = tuple(style.color.get_truecolor()), tuple(style.bgcolor.get_truecolor())
            upper.append(front if character in "▀█" else back)
            lower.append(front if character in "▄█" else back)
        rows += [upper, lower]
    return np.array(rows)


def gray_levels(pixels_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(255 * pixels_HW[:, :, None], 3, axis=2)


def test_every_pixel_has_its_color() -> None:
    assert_allclose(seen(image_as_text(FOUR_HW, console())), gray_levels(FOUR_HW))
    ramp_HW = np.linspace(0.4, 1, 13, dtype=np.float32)[None].repeat(4, axis=0)
    assert_allclose(seen(image_as_text(ramp_HW, console())), gray_levels(ramp_HW), atol=0.5)
    colors_HWC = np.array([[[1, 0, 0], [0, 0.6, 1]], [[0, 1, 0.4], [0, 0, 0]]], dtype=np.float32)
    assert_allclose(seen(image_as_text(colors_HWC, console())), 255 * colors_HWC)


def test_what_is_too_bright_or_too_dark_is_white_or_black() -> None:
    beyond_HW = np.array([[-0.5, 1.5], [1.5, -0.5]], np.float32)
    levels = seen(image_as_text(beyond_HW, console()))
    assert levels[..., 0].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("on", [console(no_color=True), console(colors=None)])
def test_without_colours_light_pixels_are_drawn(on: Console) -> None:
    lines = image_as_text(FOUR_HW, on)
    assert plain(lines) == [" ▀▄█", "▀ ▄▀"]
    assert all(not line.spans for line in lines)
    assert printed(lines[0], on) == [" ▀▄█"]


def test_in_colours_the_drawing_can_be_copied_as_text() -> None:
    on = console()
    for line, copied in zip(image_as_text(FOUR_HW, on), [" ▀▄▀", "▀ ▄▀"], strict=True):
        assert line.plain == copied
        [escaped] = printed(line, on)
        assert "\x1b[" in escaped
        assert Text.from_ansi(escaped).plain == copied


def test_colours_count_by_their_brightest_channel() -> None:
    blue_HWC = np.zeros((2, 2, 3), np.float32)
    blue_HWC[0, 0, 2] = 1
    assert plain(image_as_text(blue_HWC, console(no_color=True))) == ["▀ "]


def test_without_block_characters_a_ramp_is_drawn() -> None:
    levels_HW = np.arange(10, dtype=np.float32)[None].repeat(2, axis=0) / np.float32(9)
    lines = image_as_text(levels_HW, ascii_console())
    assert plain(lines) == [RAMP]
    assert printed(lines[0], ascii_console()) == [RAMP]
    # The mean of the upper and the lower pixel: 9 / 9 and 3 / 9 are 6 / 9.
    mixed_HW = np.array([[3, 0, 6], [1, 0, 6]], np.float32) / np.float32(3)
    assert plain(image_as_text(mixed_HW, ascii_console())) == ["* @"]


def test_an_odd_number_of_rows_ends_in_a_dark_one() -> None:
    odd_HW = np.ones((3, 2), np.float32)
    assert plain(image_as_text(odd_HW, console(no_color=True))) == ["██", "▀▀"]
    assert seen(image_as_text(odd_HW, console()))[:, 0, 0].tolist() == [255, 255, 255, 0]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((400, 300), (48, 36)),
        ((300, 400), (27, 36)),
        ((8, 8), (36, 36)),
        ((600, 100), (48, 8)),
        ((1, 600), (1, 36)),
        ((600, 1), (48, 1)),
        ((1, 1), (36, 36)),
    ],
)
def test_thumbnails_keep_the_aspect(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels_HW = np.full(shape, 0.25, np.float32)
    assert_allclose(_thumbnail(pixels_HW), np.full(expected, 0.25), atol=1e-6)
    colors_HWC = np.stack([pixels_HW, 2 * pixels_HW, 0 * pixels_HW], axis=2)
    small_HWC = _thumbnail(colors_HWC)
    assert small_HWC.shape == (*expected, 3)
    assert_allclose(small_HWC[0, 0], [0.25, 0.5, 0], atol=1e-6)


def test_thumbnails_are_averages() -> None:
    halves_HW = np.zeros((360, 360), np.float32)
    halves_HW[:, 185:] = 1
    small_HW = _thumbnail(halves_HW)
    assert small_HW[20, 17:20].tolist() == pytest.approx([0, 0.5, 1])


def made(*, light_on_dark: bool = False) -> PipelineSteps:
    page = written((3, 20, 10), (0, 100, 16), (5, 180, 8))
    if light_on_dark:
        page = inverted(page)
    return run_pipeline(decode_picture(encoded(page), name="page"))


def test_digits_are_coloured_each_in_its_own() -> None:
    steps = made()
    colors_HWC = _color_digits(steps)
    assert colors_HWC.shape == (300, 300, 3)
    assert not colors_HWC[steps.labels_HW == 0].any()
    for number in (1, 2, 3):
        inked_HW = (steps.labels_HW == number) & (steps.ink_HW == 1)
        [shade_C] = np.unique(colors_HWC[inked_HW], axis=0)
        assert_allclose(shade_C, PALETTE[number - 1] / 255, atol=1e-6)


def test_faint_lines_of_a_thumbnail_are_lightened() -> None:
    quarter_HW = np.full((48, 36), 0.25, np.float32)
    assert_allclose(_lighten(quarter_HW), np.full((48, 36), 0.5))
    assert_allclose(_lighten(-quarter_HW), np.zeros((48, 36)))


def in_columns(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


TITLES = ["grey", "its paper", "paper removed, ink light", "ink", "digits found"]


def shown(steps: PipelineSteps) -> list[DigitImage]:
    return [ways[0][0] for ways in steps.digits]


@pytest.mark.parametrize("kind", ["colors", "no colors", "ascii"])
@pytest.mark.parametrize(("width", "per_row"), [(40, 1), (80, 2), (120, 3), (300, 7)])
def test_all_steps_fit_side_by_side(kind: str, width: int, per_row: int) -> None:
    on = ascii_console(width) if kind == "ascii" else console(width=width)
    if kind == "no colors":
        on = console(no_color=True, width=width)
    steps = made(light_on_dark=True)
    printed_lines = printed(steps_as_text(steps, shown(steps), on), on)
    lines = [Text.from_ansi(line).plain for line in printed_lines]
    assert max(map(len, lines)) <= width
    titles = [*TITLES, "digit 1", "digit 2", "digit 3"]
    rows = [titles[start : start + per_row] for start in range(0, len(titles), per_row)]
    starts = [next(n for n, line in enumerate(lines) if in_columns(line) == row) for row in rows]
    assert starts == sorted(starts)
    drawn = plain(image_as_text(_thumbnail(steps.gray_HW), on))
    assert len(drawn) == 18
    for line, grey in zip(lines[1:19], drawn, strict=True):
        assert line[:36].rstrip() == grey.rstrip()


@pytest.mark.parametrize("on", [console(no_color=True), ascii_console()])
def test_without_colours_white_paper_is_not_drawn_all_over(on: Console) -> None:
    light, dark = made(), made(light_on_dark=True)
    lines = printed(steps_as_text(light, shown(light), on), on)
    expected = printed(steps_as_text(dark, shown(dark), on), on)
    assert "negative" in lines[0]
    assert "negative" not in expected[0]
    assert [line.rstrip() for line in lines[1:]] == [line.rstrip() for line in expected[1:]]


def test_steps_of_a_blank_page_and_of_a_tiny_one() -> None:
    for size in [(100, 100), (1, 1), (1, 70), (70, 1)]:
        blank = Image.new("L", size, 255)
        steps = run_pipeline(decode_picture(encoded(blank), name="blank"))
        for on in (console(), console(no_color=True), ascii_console()):
            lines = printed(steps_as_text(steps, shown(steps), on), on)
            text = [Text.from_ansi(line).plain for line in lines]
            assert not any("digit 1" in line for line in text)
            assert sum("digits found" in line for line in text) == 1
            assert max(map(len, text)) <= 80
