"""Lines printed around writing: ruled and squared paper, tables, cells, combs, frames.

Shapes: H rows, W columns.
"""

import math
from collections.abc import Callable

import numpy as np

from mnistcli.synthesis.canvas import Ink, centered_axes, smooth_noise, stroke
from mnistcli.synthesis.writing import Writing

MAX_LINE_PX = 7.0
Drawing = Callable[[Writing, Ink, Ink, float, np.random.Generator], Ink]


def draw_lines(writing: Writing, side_px: int, rng: np.random.Generator) -> Ink:
    """The ink of printed lines around a piece of writing, (H, W); often none."""
    tilt = writing.tilt + rng.normal(0, 0.012)
    y_H1, x_1W = centered_axes(side_px)
    u_HW = x_1W * math.cos(tilt) + y_H1 * math.sin(tilt)
    v_HW = y_H1 * math.cos(tilt) - x_1W * math.sin(tilt)
    if rng.random() < 0.3:
        wave_1W = np.sin(x_1W * rng.uniform(0.005, 0.03) + rng.uniform(0, 6))
        v_HW = v_HW + rng.uniform(0, 0.05) * writing.height_px * wave_1W
    usual_px = max(1.0, 0.035 * writing.height_px)
    line_px = float(np.clip(usual_px * math.exp(rng.normal(0, 0.5)), 0.7, MAX_LINE_PX))
    if rng.random() < 0.3:  # as thick as the pen
        line_px = max(line_px, writing.pen_px * rng.uniform(0.4, 1.3))
    draw: Drawing
    if writing.layout == "cells":
        draw = _cells
    elif rng.random() < 0.6:
        draw = DRAWINGS[rng.choice(len(DRAWINGS), p=DRAWING_SHARES)]
    else:
        return np.zeros((side_px, side_px), np.float32)
    lines_HW = draw(writing, u_HW, v_HW, line_px, rng)
    if rng.random() < 0.2:  # broken
        breaks_HW = smooth_noise(rng, lines_HW.shape, rng.uniform(3, 20))
        lines_HW = lines_HW * np.clip(2 * breaks_HW + 1.5, 0, 1)
    return lines_HW.astype(np.float32)


def _periodic(values_HW: Ink, period: float) -> Ink:
    """The distance to the nearest multiple of `period`."""
    return np.asarray(np.abs((values_HW + period / 2) % period - period / 2))


def _cells(writing: Writing, u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator) -> Ink:
    """A cell around every digit: a closed grid, rows of cells, single boxes, or combs."""
    pitch, lead = writing.pitch_px, writing.lead_px
    u_HW, v_HW = u_HW - writing.offset[0], v_HW - writing.offset[1]
    first_u = (writing.first - 0.5) * pitch - line_px / 2
    last_u = (writing.last + 0.5 + rng.integers(0, 4)) * pitch + line_px / 2
    is_inside_HW = (u_HW >= first_u) & (u_HW <= last_u)
    sides_HW = stroke(_periodic(u_HW - pitch / 2, pitch), line_px)
    if rng.random() < 0.5:
        top_v = (writing.rows[0] - 0.5) * lead - line_px / 2
        bottom_v = (writing.rows[-1] + 0.5) * lead + line_px / 2
        rules_HW = stroke(_periodic(v_HW - lead / 2, lead), line_px)
        is_inside_HW &= (v_HW >= top_v) & (v_HW <= bottom_v)
        return np.asarray(np.maximum(sides_HW, rules_HW) * is_inside_HW)
    height = min(lead * rng.uniform(0.85, 1), lead - 1)
    is_inside_HW &= np.isin(np.floor(v_HW / lead + 0.5), list(writing.rows))
    v_HW = (v_HW + lead / 2) % lead - lead / 2
    rules_HW = stroke(np.abs(np.abs(v_HW) - height / 2), line_px)
    kind = rng.integers(3)
    if kind == 1:  # single boxes
        half_width = pitch * (1 - rng.uniform(0.05, 0.25)) / 2
        sides_HW = stroke(np.abs(_periodic(u_HW, pitch) - half_width), line_px)
        rules_HW = rules_HW * (_periodic(u_HW, pitch) <= half_width)
    if kind == 2:  # a comb: short teeth on one rule
        sides_HW = sides_HW * (v_HW > height * rng.uniform(-0.2, 0.2))
        rules_HW = rules_HW * (v_HW > 0)
    sides_HW = sides_HW * (np.abs(v_HW) <= height / 2)
    return np.asarray(np.maximum(sides_HW, rules_HW) * is_inside_HW)


def _ruled(
    writing: Writing, _u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator
) -> Ink:
    spacing = writing.lead_px if rng.random() < 0.6 else writing.height_px * rng.uniform(0.3, 2.5)
    first_v = writing.offset[1] + rng.uniform(0.4, 0.6) * writing.lead_px
    return stroke(_periodic(v_HW - first_v, max(spacing, 5)), line_px)


def _squared(
    writing: Writing, u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator
) -> Ink:
    spacing = max(5, writing.height_px * rng.uniform(0.3, 2.5))
    distance_HW = np.minimum(
        _periodic(u_HW - rng.uniform(0, spacing), spacing),
        _periodic(v_HW - rng.uniform(0, spacing), spacing),
    )
    return stroke(distance_HW, line_px)


def _frame(writing: Writing, u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator) -> Ink:
    """A frame around all rows, so close that digits touch it."""
    height = writing.height_px
    center_u = (writing.first + writing.last) / 2 * writing.pitch_px + writing.offset[0]
    width = (writing.last - writing.first + 1) * writing.pitch_px / 2
    half_width = max(height, width + height * rng.uniform(0, 0.6))
    half_height = (len(writing.rows) - 1) * writing.lead_px / 2 + height * rng.uniform(0.5, 0.95)
    outside_u_HW = np.abs(u_HW - center_u) - half_width
    outside_v_HW = np.abs(v_HW - writing.offset[1]) - half_height
    distance_HW = np.minimum(np.maximum(outside_u_HW, outside_v_HW), 0)
    distance_HW += np.hypot(outside_u_HW.clip(min=0), outside_v_HW.clip(min=0))
    return stroke(np.abs(distance_HW), line_px)


def _underline(
    writing: Writing, u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator
) -> Ink:
    v = writing.offset[1] + writing.height_px * rng.uniform(0.5, 0.8)
    start, end = len(u_HW) * rng.uniform((-1, 0), (0, 1))
    is_inside_HW = (u_HW > start) & (u_HW < end)
    return np.asarray(stroke(np.abs(v_HW - v), line_px) * is_inside_HW)


def _few_lines(
    _writing: Writing, u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator
) -> Ink:
    lines_HW = np.zeros_like(u_HW)
    for _ in range(rng.integers(1, 4)):
        along_HW = u_HW if rng.random() < 0.4 else v_HW
        distance_HW = np.abs(along_HW - rng.uniform(-0.5, 0.5) * len(u_HW))
        lines_HW = np.maximum(lines_HW, stroke(distance_HW, line_px))
    return lines_HW


def _table(writing: Writing, u_HW: Ink, v_HW: Ink, line_px: float, rng: np.random.Generator) -> Ink:
    lines_HW = _ruled(writing, u_HW, v_HW, line_px, rng)
    for u in rng.uniform(0.8, 4, 12).cumsum() * writing.height_px - len(u_HW):
        lines_HW = np.maximum(lines_HW, stroke(np.abs(u_HW - u), line_px))
    return lines_HW


DRAWINGS: tuple[Drawing, ...] = (_ruled, _squared, _frame, _underline, _few_lines, _table)
DRAWING_SHARES = (1 / 8, 1 / 8, 3 / 8, 1 / 8, 1 / 8, 1 / 8)
