"""Whole pages: digits and marks among lines, print, stains and paper, and which ink is writing.

Shapes: H rows, W columns; both `PAGE_PX`, unless a page is cropped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistcli.synthesis.canvas import Ink, draw_polyline, draw_text, random_font, smooth_noise
from mnistcli.synthesis.lines import draw_lines
from mnistcli.synthesis.marks import draw_mark
from mnistcli.synthesis.paper import (
    Photo,
    draw_paper,
    draw_surroundings,
    random_photo,
    take_photo,
)
from mnistcli.synthesis.shapes import DigitShapes, Pose, draw_pen_digit
from mnistcli.synthesis.writing import Writing, random_writing

PAGE_PX = 192
LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:.")
# Digits are drawn with a pen on this share of the pages, and with MNIST's strokes on the others.
PEN_SHARE = 0.65
# This share of the digits are 1s of a bare straight stroke, easily taken for printed lines.
BAR_SHARE = 0.06
# A page may be cropped close to its writing and lines, up to this many heights of a digit.
CROP_MARGIN = 0.5


@dataclass(frozen=True)
class Page:
    """A picture, uint8 (H, W), 0 black, and the ink of its writing, uint8 (H, W), 255 full ink."""

    gray_HW: NDArray[np.uint8]
    ink_HW: NDArray[np.uint8]


def compose_page(
    shapes: DigitShapes, rng: np.random.Generator, size_px: tuple[int, int] = (PAGE_PX, PAGE_PX)
) -> Page:
    """A random page with digits of `shapes`, or a part of this height and width of it."""
    writing, photo = random_writing(rng, PAGE_PX), random_photo(rng)
    ink_HW = draw_writing(writing, shapes, rng)
    lines_HW = draw_lines(writing, PAGE_PX, rng)
    if rng.random() < 0.05:
        lines_HW = np.maximum(lines_HW, _block(rng) * (ink_HW < 0.05))
    print_HW = _draw_print(writing, rng) * (ink_HW < 0.05)
    gray_HW = _put_on_paper(ink_HW, lines_HW, print_HW, photo, rng)
    hidden_HW = np.zeros(gray_HW.shape, bool)
    if not photo.is_drawn:
        gray_HW, hidden_HW = draw_surroundings(gray_HW, writing.tilt, rng)
    pixels_HW = take_photo(gray_HW, photo, pen_px=writing.pen_px, rng=rng)
    visible_HW = np.where(hidden_HW, 0, ink_HW) * writing.is_legible
    margin_px = CROP_MARGIN * writing.height_px
    kept = _window(np.maximum(ink_HW, lines_HW) > 0.5, size_px, margin_px, rng)
    return Page(pixels_HW[kept], np.rint(255 * visible_HW[kept]).astype(np.uint8))


def _window(
    content_HW: NDArray[np.bool_],
    size_px: tuple[int, int],
    margin_px: float,
    rng: np.random.Generator,
) -> tuple[slice, ...]:
    """A part of the page that begins or ends near its content, both downwards and across."""
    sides = []
    for axis, size in enumerate(size_px):
        used_N = np.flatnonzero(content_HW.any(axis=1 - axis))
        first, last = (used_N[0], used_N[-1] + 1) if len(used_N) else (0, PAGE_PX)
        margin = int(rng.uniform(0, margin_px))
        start = first - margin if rng.random() < 0.5 else last + margin - size
        start = min(max(0, start), PAGE_PX - size)
        sides.append(slice(start, start + size))
    return tuple(sides)


def draw_writing(writing: Writing, shapes: DigitShapes, rng: np.random.Generator) -> Ink:
    """The ink of a page's digits and of the marks between them, (H, W)."""
    ink_HW = np.zeros((PAGE_PX, PAGE_PX), np.float32)
    height = writing.height_px
    pen_px = writing.pen_px if rng.random() < PEN_SHARE else None
    font = random_font(rng)
    is_printed = writing.layout == "rows" and height > 11 and rng.random() < 0.07
    mark_share = 0.06 if rng.random() < 0.4 else 0.0
    for x, y in writing.places(PAGE_PX, rng):
        if not (-height < x < PAGE_PX + height and -height < y < PAGE_PX + height):
            continue
        size = height * np.exp(rng.normal(0, 0.08))
        pose = Pose(x, y, size, writing.tilt, writing.slant, writing.aspect).jittered(rng)
        if is_printed:
            degrees = np.degrees(writing.tilt)
            digit = str(rng.integers(10))
            draw_text(ink_HW, digit, (x, y), height_px=size, tilt_degrees=degrees, font=font)
        elif rng.random() < mark_share:
            draw_mark(ink_HW, (x, y), height_px=height, pen_px=writing.pen_px, rng=rng)
        elif rng.random() < BAR_SHARE:
            _draw_bar(ink_HW, pose, writing.pen_px, rng)
        elif pen_px and rng.random() < 0.4:
            draw_pen_digit(ink_HW, pose, pen_px, rng)
        else:
            shapes.draw(ink_HW, pose, pen_px, rng)
    return ink_HW


def _draw_bar(ink_HW: Ink, pose: Pose, pen_px: float, rng: np.random.Generator) -> None:
    lean = rng.normal(0, 0.08) - pose.tilt
    x, y = lean * pose.height_px / 2, pose.height_px / 2
    draw_polyline(ink_HW, [(pose.x + x, pose.y - y), (pose.x - x, pose.y + y)], pen_px)


def _draw_print(writing: Writing, rng: np.random.Generator) -> Ink:
    """The ink of printed words and of specks, (H, W); often none."""
    print_HW = np.zeros((PAGE_PX, PAGE_PX), np.float32)
    if rng.random() < 0.12:
        height = rng.uniform(6, max(8, min(writing.height_px, 40)))
        font = random_font(rng)
        degrees = np.degrees(writing.tilt)
        for _ in range(rng.integers(1, 4)):
            word = "".join(rng.choice(LETTERS, rng.integers(2, 9)))
            x, y = rng.uniform(0, PAGE_PX, 2)
            draw_text(print_HW, word, (x, y), height_px=height, tilt_degrees=degrees, font=font)
    if rng.random() < 0.1:
        rows, columns = rng.integers(0, PAGE_PX, (2, rng.integers(1, 8)))
        for offset in range(rng.integers(1, 3)):
            print_HW[rows, (columns + offset) % PAGE_PX] = rng.uniform(0.3, 1)
    return print_HW


def _block(rng: np.random.Generator) -> Ink:
    """A dark rectangle."""
    y_H1, x_1W = np.ogrid[:PAGE_PX, :PAGE_PX]
    (x, y), (width, height) = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.05, 0.5, 2)
    half_width, half_height = width * PAGE_PX / 2, height * PAGE_PX / 2
    is_inside_HW = (abs(x_1W - x * PAGE_PX) < half_width) & (abs(y_H1 - y * PAGE_PX) < half_height)
    return np.asarray(is_inside_HW, np.float32)


def _put_on_paper(
    ink_HW: Ink, lines_HW: Ink, print_HW: Ink, photo: Photo, rng: np.random.Generator
) -> Ink:
    """The page's brightness: writing, lines and print, each of its own darkness."""
    kind = rng.random()
    line_contrast = photo.contrast
    if kind < 0.5:
        line_contrast *= rng.uniform(0.15, 1.1)
    elif kind < 0.7:
        line_contrast = rng.uniform(0.1, 1)
    texture_HW: Ink | float = 1.0
    if rng.random() < 0.5:  # pencil
        noise_HW = smooth_noise(rng, ink_HW.shape, rng.uniform(1, 5))
        texture_HW = np.clip(1 - rng.uniform(0, 0.5) * (0.5 + noise_HW), 0.25, 1)
    light_HW = 1 - ink_HW * photo.contrast * texture_HW
    light_HW = light_HW * (1 - lines_HW * min(line_contrast, 1))
    light_HW = light_HW * (1 - print_HW * photo.contrast * rng.uniform(0.5, 1))
    black = 0.0 if rng.random() < 0.6 else rng.uniform(0, 0.15)
    paper_HW = draw_paper(photo, PAGE_PX, rng)
    return np.asarray(paper_HW * light_HW + black * (1 - light_HW))
