"""Drawing ink: what digits, marks and lines have in common.

An ink array is float (H, W), 0 paper to 1 full ink, and is drawn on in place. Points are
x (rightwards) and y (downwards) in pixels.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Ink = NDArray[np.floating[Any]]
Point = tuple[float, float]


def stroke(distance_HW: Ink, width_px: float) -> Ink:
    """Anti-aliased ink of a stroke from each pixel's distance to its middle, in pixels."""
    return np.asarray(np.clip(width_px / 2 - distance_HW + 0.5, 0, 1))


def stamp(ink_HW: Ink, patch_HW: Ink, left: int, top: int) -> None:
    """Draw a patch of ink at `left`, `top`; what is outside is cut off."""
    (height, width), (patch_height, patch_width) = ink_HW.shape, patch_HW.shape
    rows = slice(max(0, top), min(height, top + patch_height))
    columns = slice(max(0, left), min(width, left + patch_width))
    if rows.start < rows.stop and columns.start < columns.stop:
        part_HW = patch_HW[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        np.maximum(ink_HW[rows, columns], part_HW, out=ink_HW[rows, columns])


def draw_polyline(ink_HW: Ink, points: Sequence[Point], pen_px: float) -> None:
    """Draw straight strokes from point to point."""
    height, width = ink_HW.shape
    image = Image.new("L", (2 * width, 2 * height))
    scaled = [(2 * float(x), 2 * float(y)) for x, y in points]
    ImageDraw.Draw(image).line(scaled, fill=255, width=max(1, round(2 * pen_px)), joint="curve")
    stamp(ink_HW, np.asarray(image.reduce(2), np.float32) / 255, 0, 0)


def draw_text(
    ink_HW: Ink, text: str, center: Point, *, height_px: float, tilt_degrees: float, font: Path
) -> None:
    """Draw printed characters of about this height."""
    size = (round(0.9 * height_px * len(text)) + 8, round(1.8 * height_px) + 8)
    image = Image.new("L", size)
    face = ImageFont.truetype(font, max(4, round(1.35 * height_px)))
    ImageDraw.Draw(image).text((4, 2), text, fill=255, font=face)
    image = image.rotate(-tilt_degrees, Image.Resampling.BICUBIC, expand=True)
    x, y = center
    patch_HW = np.asarray(image, np.float32) / 255
    stamp(ink_HW, patch_HW, round(x - image.width / 2), round(y - image.height / 2))


@cache
def fonts() -> list[Path]:
    """The font files that come with matplotlib."""
    # Found without an import, which fails if the user's configuration of matplotlib is broken.
    specification = find_spec("matplotlib")
    assert specification is not None
    assert specification.origin is not None
    data = Path(specification.origin).parent / "mpl-data"
    # Without the Display fonts, which have few characters.
    return sorted((data / "fonts" / "ttf").glob("DejaVu*[!y].ttf"))


def random_font(rng: np.random.Generator) -> Path:
    """One of `fonts`."""
    return fonts()[rng.integers(len(fonts()))]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Ink:
    """Random values of mean 0 and SD of about 1 that change over `cell_px` pixels."""
    rows, columns = (max(2, int(side / cell_px) + 2) for side in shape)
    coarse = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def centered_axes(side_px: int) -> tuple[Ink, Ink]:
    """Each pixel's y, (H, 1), and x, (1, W), from the middle of a square."""
    axis = np.arange(side_px, dtype=np.float32) - np.float32(side_px / 2)
    return axis[:, None], axis[None, :]
