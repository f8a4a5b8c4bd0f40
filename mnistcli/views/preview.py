"""Pictures drawn with characters, two pixels each: one above the other.

Shapes: H rows, W columns of pixels, float32, 0 black to 1 white.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from mnistcli.reading.pipeline import DigitImage, PipelineSteps

Pixels = NDArray[np.float32]

THUMBNAIL_WIDTH, THUMBNAIL_MAX_HEIGHT = 36, 48
# Where there are no colors, what is lighter than this is drawn.
DRAWN = 0.35
# Light and dark by the share of the character's cell that is covered.
ASCII_RAMP = " .:-=+*#%@"
# Okabe and Ito's colors, which the color-blind can tell apart; black is the paper here.
PALETTE = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0)]
)


def image_as_text(pixels: Pixels, console: Console) -> list[Text]:
    """The picture as lines of text, light on dark, as well as the console can.

    It is grey, (H, W), or in colors, (H, W, 3).
    """
    rgb_HWC = np.broadcast_to(np.atleast_3d(pixels), (*pixels.shape[:2], 3))
    if len(rgb_HWC) % 2:
        rgb_HWC = np.pad(rgb_HWC, ((0, 1), (0, 0), (0, 0)))
    rows = list(zip(rgb_HWC[::2], rgb_HWC[1::2], strict=True))
    if not console.encoding.lower().startswith("utf"):
        return [_ascii_ramp((upper + lower).mean(axis=1) / 2) for upper, lower in rows]
    draw = _shaded if has_colors(console) else _outline
    return [draw(upper, lower) for upper, lower in rows]


def has_colors(console: Console) -> bool:
    """Whether the console shows more than the colors of its own text."""
    return not console.no_color and console.color_system is not None


def _outline(upper_WC: Pixels, lower_WC: Pixels) -> Text:
    """Two rows of pixels, each drawn or not."""
    return Text("".join(map(_half_block, upper_WC, lower_WC)))


def _shaded(upper_WC: Pixels, lower_WC: Pixels) -> Text:
    """Two rows of pixels in their colors."""
    line = Text()
    for upper_C, lower_C in zip(upper_WC, lower_WC, strict=True):
        shape = _half_block(upper_C, lower_C)
        if shape == " " and (upper_C != lower_C).any():
            shape = "▀"
        drawn_C, rest_C = (lower_C, upper_C) if shape == "▄" else (upper_C, lower_C)
        style = Style(color=_pixel_color(drawn_C), bgcolor=_pixel_color(rest_C))
        line.append("▀" if shape == "█" else shape, style)
    return line


def _half_block(upper_C: Pixels, lower_C: Pixels) -> str:
    """The character that covers what is drawn of a pixel and the one below it."""
    return " ▄▀█"[2 * int(upper_C.max() > DRAWN) + int(lower_C.max() > DRAWN)]


def _pixel_color(rgb_C: Pixels) -> Color:
    """A pixel's color."""
    red, green, blue = (int(value) for value in np.rint(255 * rgb_C.clip(0, 1)))
    return Color.from_rgb(red, green, blue)


def _ascii_ramp(values_W: Pixels) -> Text:
    """A row of characters by their darkness, for consoles without block characters."""
    levels_W = np.rint(values_W.clip(0, 1) * (len(ASCII_RAMP) - 1)).astype(int)
    return Text("".join(ASCII_RAMP[level] for level in levels_W))


def _thumbnail(pixels_HW: Pixels) -> Pixels:
    """The picture small enough to stand beside others."""
    height, width = pixels_HW.shape[:2]
    scale = min(THUMBNAIL_WIDTH / width, THUMBNAIL_MAX_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel)).resize(size, Image.Resampling.BOX)
        )
        for channel in np.moveaxis(np.atleast_3d(pixels_HW), 2, 0)
    ]
    small_HWC = np.stack(channels, axis=2)
    return small_HWC if pixels_HW.ndim == 3 else small_HWC[:, :, 0]


def steps_as_text(
    made: PipelineSteps, digits: Sequence[DigitImage], console: Console
) -> RenderableType:
    """Every step from the picture to the network's input, side by side as far as they go."""
    gray_HW, background_HW = _thumbnail(made.gray_HW), _thumbnail(made.background_HW)
    negative = ""
    if not has_colors(console) and background_HW.mean() > DRAWN:
        # White paper would be drawn all over.
        gray_HW, background_HW, negative = 1 - gray_HW, 1 - background_HW, ", as a negative"
    drawings: list[tuple[str, Pixels]] = [
        (f"grey{negative}", gray_HW),
        (f"its paper{negative}", background_HW),
        ("paper removed, ink light", _lighten(made.contrast_HW)),
        ("ink", _lighten(made.ink_HW)),
        ("digits found", _thumbnail(_color_digits(made))),
        *((f"digit {number}", digit.ink()) for number, digit in enumerate(digits, 1)),
    ]
    cells = [
        Group(Text(title, style="bold"), *image_as_text(pixels, console), Text())
        for title, pixels in drawings
    ]
    per_row = max(1, (console.width + 2) // (THUMBNAIL_WIDTH + 2))
    grid = Table.grid(padding=(0, 2, 0, 0))
    for start in range(0, len(cells), per_row):
        grid.add_row(*cells[start : start + per_row])
    return grid


def _lighten(pixels_HW: Pixels) -> Pixels:
    """A thumbnail in which thin strokes, averaged with the paper around, can still be seen."""
    return np.sqrt(_thumbnail(pixels_HW.clip(0, 1)))


def _color_digits(made: PipelineSteps) -> Pixels:
    """The digits' ink, each digit in another color, (H, W, 3)."""
    colors_HWC = PALETTE[(made.labels_HW - 1) % len(PALETTE)] / 255
    shown_HW = made.ink_HW * (made.labels_HW > 0)
    return np.asarray(np.sqrt(shown_HW)[:, :, None] * colors_HWC, dtype=np.float32)
