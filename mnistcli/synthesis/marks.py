"""What people write beside digits: points, commas, slashes, signs, scribbles."""

import math
from collections.abc import Callable

import numpy as np

from mnistcli.synthesis.canvas import Ink, Point, draw_polyline

# The strokes of a mark at the origin, in heights of the digits beside it.
Strokes = list[list[Point]]


def _point(rng: np.random.Generator) -> Strokes:
    return [[(0, 0.45), (rng.uniform(0.01, 0.05), rng.uniform(0.46, 0.5))]]


def _comma(rng: np.random.Generator) -> Strokes:
    return [[(0, 0.42), (-rng.uniform(0.02, 0.1), rng.uniform(0.5, 0.65))]]


def _slash(rng: np.random.Generator) -> Strokes:
    top, foot = rng.uniform(0.15, 0.35, 2)
    return [[(top, -rng.uniform(0.5, 0.7)), (-foot, rng.uniform(0.5, 0.7))]]


def _minus(rng: np.random.Generator) -> Strokes:
    left, right = rng.uniform(0.15, 0.3, 2)
    return [[(-left, rng.uniform(-0.1, 0.1)), (right, rng.uniform(-0.1, 0.1))]]


def _plus(rng: np.random.Generator) -> Strokes:
    arm = rng.uniform(0.15, 0.3)
    return [[(-arm, 0), (arm, 0)], [(0, -arm), (0, arm)]]


def _scribble(rng: np.random.Generator) -> Strokes:
    steps = rng.normal(0, 0.3, (rng.integers(3, 7), 2)).cumsum(axis=0)
    return [[(x, y) for x, y in (steps - steps.mean(axis=0)).tolist()]]


MARKS: tuple[Callable[[np.random.Generator], Strokes], ...] = (
    _point,
    _comma,
    _slash,
    _minus,
    _plus,
    _scribble,
)


def draw_mark(
    ink_HW: Ink, center: Point, *, height_px: float, pen_px: float, rng: np.random.Generator
) -> None:
    """Draw a random mark beside digits of this height."""
    x, y = center
    mark = MARKS[rng.integers(len(MARKS))]
    if mark is _point:
        pen_px *= rng.uniform(1, 1.6)
    for points in mark(rng):
        scaled = [(x + height_px * u, y + height_px * v) for u, v in points]
        draw_polyline(ink_HW, scaled, pen_px)


def draw_frame_parts(
    ink_HW: Ink, center: Point, *, height_px: float, pen_px: float, rng: np.random.Generator
) -> None:
    """Draw what is left of printed boxes: corners, crossings, whole frames or some sides."""
    x, y = center
    if rng.random() < 0.5:
        angle = rng.normal(0, 0.1) + rng.integers(4) * math.pi / 2
        along = np.array([math.cos(angle), math.sin(angle)])
        across = np.array([-along[1], along[0]])
        length, arm, other_arm = rng.uniform(0.3, 1, 3) * height_px
        corner = np.array([x, y])
        end = corner + along * length
        start = corner - along * (0.7 * other_arm if rng.random() < 0.4 else 0)
        draw_polyline(ink_HW, [tuple(start), tuple(end)], pen_px)
        crossing = corner - across * (other_arm if rng.random() < 0.6 else 0)
        draw_polyline(ink_HW, [tuple(crossing), tuple(corner + across * arm)], pen_px)
        if rng.random() < 0.4:
            far = end + across * arm * rng.uniform(0.3, 1)
            draw_polyline(ink_HW, [tuple(end), tuple(far)], pen_px)
        return
    half_width, half_height = rng.uniform(0.3, 1.25), rng.uniform(0.35, 0.6)
    points = _rectangle(center, half_width * height_px, half_height * height_px)
    num = rng.integers(4, 6)
    first = rng.integers(0, 6 - num)
    draw_polyline(ink_HW, points[first : first + num], pen_px)


def draw_strike(
    ink_HW: Ink, center: Point, *, height_px: float, pen_px: float, rng: np.random.Generator
) -> None:
    """Draw what makes a digit unreadable: a line through it, or a frame close around it."""
    x, y = center
    if rng.random() < 0.5:
        start, end = y + rng.uniform(-0.3, 0.3, 2) * height_px
        draw_polyline(ink_HW, [(x - height_px, start), (x + height_px, end)], pen_px)
    else:
        half_width, half_height = rng.uniform((0.4, 0.55), (0.8, 0.8)) * height_px
        draw_polyline(ink_HW, _rectangle(center, half_width, half_height), 0.5 * pen_px)


def _rectangle(center: Point, half_width: float, half_height: float) -> list[Point]:
    """The outline of a rectangle, from its top left corner around to it."""
    x, y = center
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    return [(x + u * half_width, y + v * half_height) for u, v in corners]


def draw_blobs(ink_HW: Ink, center: Point, *, height_px: float, rng: np.random.Generator) -> None:
    """Draw stains with blurred edges."""
    rows_H1, columns_1W = np.ogrid[: ink_HW.shape[0], : ink_HW.shape[1]]
    for _ in range(rng.integers(1, 4)):
        x, y = np.array(center) + rng.normal(0, 0.2 * height_px, 2)
        radius, other_radius = rng.uniform(0.05, 0.35, 2) * height_px
        angle = rng.uniform(0, math.pi)
        across_HW = (columns_1W - x) * math.cos(angle) + (rows_H1 - y) * math.sin(angle)
        down_HW = (rows_H1 - y) * math.cos(angle) - (columns_1W - x) * math.sin(angle)
        distance_HW = np.hypot(across_HW / radius, down_HW / other_radius)
        blob_HW = np.clip(2 - 2 * distance_HW, 0, 1)
        np.maximum(ink_HW, blob_HW.astype(np.float32), out=ink_HW)
