"""Paper, light, what lies around and on the sheet, and the camera: ink -> a gray picture.

Shapes: H rows, W columns. Gray is float32, 0 black to 1 white.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.special import expit

from mnistcli.synthesis.canvas import Ink, centered_axes, smooth_noise

# The faintest ink, as a share of the paper's brightness.
MIN_CONTRAST = 0.15
# This share of the drawings is on a checkered background.
CHECKERED_SHARE = 0.12


@dataclass(frozen=True)
class Photo:
    """How a page is taken: drawn on a screen (`is_drawn`), scanned or photographed.

    `contrast` is how much darker than paper full ink is, 0..1.
    """

    is_drawn: bool
    contrast: float


def random_photo(rng: np.random.Generator) -> Photo:
    """A drawing in one case of five, otherwise a photo with ink of any darkness."""
    if rng.random() < 0.2:
        return Photo(is_drawn=True, contrast=rng.uniform(0.75, 1))
    darkness = math.exp(rng.uniform(math.log(MIN_CONTRAST), math.log(1.1)))
    return Photo(is_drawn=False, contrast=min(1, darkness))


def draw_paper(photo: Photo, side_px: int, rng: np.random.Generator) -> Ink:
    """Blank paper in uneven light, with its texture and perhaps a shadow, (H, W)."""
    shape = (side_px, side_px)
    if photo.is_drawn:
        screen_HW = np.full(shape, rng.uniform(0.93, 1), np.float32)
        return _checkered(screen_HW, rng) if rng.random() < CHECKERED_SHARE else screen_HW
    y_H1, x_1W = (axis / side_px for axis in centered_axes(side_px))
    paper_HW = np.full(shape, rng.uniform(0.55, 1), np.float32)
    slope_x, slope_y = rng.normal(0, 0.24, 2)
    paper_HW *= 1 + slope_x * x_1W + slope_y * y_H1
    paper_HW *= 1 + rng.uniform(0, 0.08) * smooth_noise(rng, shape, rng.uniform(20, 120))
    if rng.random() < 0.5:
        roughness = rng.uniform(0, min(0.06, 0.22 * photo.contrast))
        paper_HW *= 1 + roughness * smooth_noise(rng, shape, rng.uniform(1, 8))
    if rng.random() < 0.25:
        angle, position = rng.uniform(0, 2 * math.pi), rng.uniform(-0.5, 0.5)
        distance_HW = x_1W * math.cos(angle) + y_H1 * math.sin(angle) - position
        distance_HW = distance_HW * side_px + rng.uniform(0, 15) * smooth_noise(rng, shape, 60)
        softness_px = math.exp(rng.uniform(0, 3))
        paper_HW *= 1 - rng.uniform(0.1, 0.6) * expit(distance_HW / softness_px)
    return paper_HW


def _checkered(screen_HW: Ink, rng: np.random.Generator) -> Ink:
    """The squares by which drawing programs mean that nothing is there."""
    square_px = rng.uniform(2, 14)
    rows_H1, columns_1W = (np.floor(axis / square_px) for axis in centered_axes(len(screen_HW)))
    return np.asarray(screen_HW * (1 - rng.uniform(0.02, 0.25) * ((rows_H1 + columns_1W) % 2)))


def draw_surroundings(
    gray_HW: Ink, tilt: float, rng: np.random.Generator
) -> tuple[Ink, NDArray[np.bool_]]:
    """The picture with a table around the sheet or something dark on it; what is hidden by it."""
    hidden_HW = np.zeros(gray_HW.shape, bool)
    for draw, share in ((_table_around, 0.2), (_thing_on_top, 0.08)):
        if rng.random() < share:
            cover_HW, tone_HW = draw(len(gray_HW), tilt, rng)
            gray_HW = gray_HW * (1 - cover_HW) + tone_HW * cover_HW
            hidden_HW |= cover_HW > 0.4
    return gray_HW, hidden_HW


def _table_around(side_px: int, tilt: float, rng: np.random.Generator) -> tuple[Ink, Ink]:
    """A table beyond one edge or one corner of the sheet: how much it covers, how bright it is."""
    y_H1, x_1W = centered_axes(side_px)
    angle = tilt + float(rng.normal(0, 0.06)) + int(rng.integers(4)) * math.pi / 2
    if rng.random() < 0.3:
        angle = rng.uniform(0, 2 * math.pi)
    distance_HW = x_1W * math.cos(angle) + y_H1 * math.sin(angle)
    distance_HW -= rng.uniform(0.15, 0.65) * side_px
    if rng.random() < 0.5:
        other_HW = y_H1 * math.cos(angle) - x_1W * math.sin(angle)
        distance_HW = np.maximum(distance_HW, other_HW - rng.uniform(0.15, 0.5) * side_px)
    softness_px = 0.25 if rng.random() < 0.7 else rng.uniform(1, 4)
    if rng.random() < 0.5:
        texture_HW = smooth_noise(rng, (side_px, side_px), rng.uniform(1.5, 10))
    else:  # the grain of wood
        grain = rng.standard_normal((int(side_px / rng.uniform(2, 8)), 4)).astype(np.float32)
        image = Image.fromarray(grain).resize((side_px, side_px), Image.Resampling.BICUBIC)
        texture_HW = np.asarray(image)
    roughness = rng.uniform(0, 0.35) if rng.random() < 0.7 else rng.uniform(0.3, 0.9)
    tone_HW = rng.uniform(0.02, 0.95) * (1 + roughness * texture_HW)
    return expit(distance_HW / softness_px), tone_HW.clip(0, 1)


def _thing_on_top(side_px: int, _tilt: float, rng: np.random.Generator) -> tuple[Ink, Ink]:
    """A thumb, a pen or the like at the edge: how much it covers, how bright it is."""
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    y_H1, x_1W = centered_axes(side_px)
    x_1W, y_H1 = x_1W - 0.62 * side_px * cos, y_H1 - 0.62 * side_px * sin
    width, length = side_px * rng.uniform((0.1, 0.15), (0.35, 0.6))
    inside_HW = np.hypot((x_1W * cos + y_H1 * sin) / length, (y_H1 * cos - x_1W * sin) / width) - 1
    inside_HW *= -min(width, length)
    cover_HW = np.clip(0.5 + inside_HW / rng.uniform(1, 4), 0, 1)
    roundness_HW = 1 - 0.25 * np.clip(inside_HW / width, 0, 1)
    return cover_HW, rng.uniform(0.1, 0.8) * roundness_HW


def take_photo(
    gray_HW: Ink, photo: Photo, *, pen_px: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture blurred, noisy, compressed, or light on dark: uint8 (H, W), 0 black."""
    if not photo.is_drawn or rng.random() < 0.3:
        blur_px = rng.uniform(0, 0.7) + (rng.random() < 0.5) * rng.uniform(0, 0.3) * min(pen_px, 5)
        noise = min(rng.uniform(0, 0.06), rng.uniform(0, 0.3) * photo.contrast)
        gray_HW = ndimage.gaussian_filter(gray_HW, blur_px)
        gray_HW = gray_HW + rng.normal(0, noise, gray_HW.shape).astype(np.float32)
    if rng.random() < 0.18:
        gray_HW = 1 - gray_HW
    pixels_HW: NDArray[np.uint8] = np.rint(255 * gray_HW.clip(0, 1)).astype(np.uint8)
    if rng.random() < 0.5:
        file = io.BytesIO()
        Image.fromarray(pixels_HW).save(file, "JPEG", quality=int(rng.uniform(20, 95)))
        pixels_HW = np.array(Image.open(file))
    return pixels_HW
