"""Images drawn with characters: each covers two pixels, one above the other.

Shapes: H rows, W columns, C channels; float32, 0 black to 1 white.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from mnistcli.reading.batch import PictureResult
from mnistcli.reading.predict import Reading

Pixels = NDArray[np.float32]

THUMBNAIL_WIDTH, THUMBNAIL_MAX_HEIGHT = 36, 48
# Without colors, pixels lighter than this are drawn.
DRAWN = 0.35
# By the share of the character's cell that is covered.
ASCII_RAMP = " .:-=+*#%@"


def image_as_text(pixels: Pixels, console: Console) -> list[Text]:
    """An image as lines of text, light on dark, in what the console supports.

    Args:
        pixels: gray, (H, W), or in colors, (H, W, 3).
        console: supports colors, block characters, or only ASCII.
    """
    rgb_HWC = np.broadcast_to(np.atleast_3d(pixels), (*pixels.shape[:2], 3))
    if len(rgb_HWC) % 2:
        rgb_HWC = np.pad(rgb_HWC, ((0, 1), (0, 0), (0, 0)))
    rows = list(zip(rgb_HWC[::2], rgb_HWC[1::2], strict=True))
    if not console.encoding.lower().startswith("utf"):
        return [_ascii_ramp((upper + lower).mean(axis=1) / 2) for upper, lower in rows]
    draw = _color_blocks if has_colors(console) else _plain_blocks
    return [draw(upper, lower) for upper, lower in rows]


def has_colors(console: Console) -> bool:
    """Whether the console shows colors."""
    return not console.no_color and console.color_system is not None


def _plain_blocks(upper_WC: Pixels, lower_WC: Pixels) -> Text:
    """Two rows of pixels, each drawn or not."""
    return Text("".join(map(_half_block, upper_WC, lower_WC)))


def _color_blocks(upper_WC: Pixels, lower_WC: Pixels) -> Text:
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
    """The character for two pixels, each drawn if it is light enough."""
    return " ▄▀█"[2 * int(upper_C.max() > DRAWN) + int(lower_C.max() > DRAWN)]


def _pixel_color(rgb_C: Pixels) -> Color:
    red, green, blue = (int(value) for value in np.rint(255 * rgb_C.clip(0, 1)))
    return Color.from_rgb(red, green, blue)


def _ascii_ramp(values_W: Pixels) -> Text:
    """A row of characters by brightness, for consoles without block characters."""
    levels_W = np.rint(values_W.clip(0, 1) * (len(ASCII_RAMP) - 1)).astype(int)
    return Text("".join(ASCII_RAMP[level] for level in levels_W))


def _thumbnail(pixels_HW: Pixels) -> Pixels:
    """The image scaled to the size of the others."""
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


def steps_as_text(picture: PictureResult, reading: Reading, console: Console) -> RenderableType:
    """Each step from the picture to the network's input, as many side by side as fit."""
    gray_HW, negative = _thumbnail(picture.gray()), ""
    if not has_colors(console) and gray_HW.mean() > DRAWN:
        # White paper would be drawn everywhere.
        gray_HW, negative = 1 - gray_HW, ", as a negative"
    digits = [prediction.digit for prediction in reading.predictions]
    left_out = [part.image for part in reading.left_out]
    drawings: list[tuple[str, Pixels]] = [
        (f"gray{negative}", gray_HW),
        ("ink", _lighten(reading.ink_HW)),
        *((f"digit {number}", digit.ink()) for number, digit in enumerate(digits, 1)),
        *(("left out", image.ink()) for image in left_out),
    ]
    cells = [
        Group(Text(title, style="bold"), *image_as_text(pixels, console), Text())
        for title, pixels in drawings
    ]
    per_row = max(1, (console.width + 2) // (THUMBNAIL_WIDTH + 2))
    grid = Table.grid(padding=(0, 2, 0, 0))
    for first in range(0, len(cells), per_row):
        grid.add_row(*cells[first : first + per_row])
    return grid


def _lighten(pixels_HW: Pixels) -> Pixels:
    """A thumbnail that shows thin strokes, which are averaged with the background around them."""
    return np.sqrt(_thumbnail(pixels_HW.clip(0, 1)))
