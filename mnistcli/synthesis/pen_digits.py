"""Digits drawn as pen strokes, in shapes that are rare in MNIST, above all European ones.

MNIST's writers were Americans: most 1s are a bare stroke, few 7s have a bar through the stem.
Here every class has several templates, and each template several drawings of the same
strokes. A digit is a random blend of two of these drawings, with every point jittered.

Shapes: N images, H rows, W columns, F drawings of a template, K control points,
P points of a polyline, S segments, T strokes.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from mnistcli.data.arrays import FIT_PX, IMAGE_PX
from mnistcli.data.mnist_format import centered_start

Floats = NDArray[np.float32]
Stroke = NDArray[np.float32]  # (P, 2): x, y of a polyline's points, y downwards

SAMPLES_PER_SPAN = 5

# By class, the templates; by template, drawings of the same strokes. A drawing's strokes are
# separated by "/", "?" before a stroke leaves it out half of the time. Curves pass through the
# points "x,y" smoothly, except for a corner at "x,y!". A digit is about 100 high.
TEMPLATES: dict[int, tuple[tuple[str, ...], ...]] = {
    0: (
        (  # closed oval
            "50,0 20,14 6,50 20,86 50,100 82,86 94,50 80,14 48,-1",
            "40,0 18,16 10,50 16,84 38,100 60,84 68,50 62,16 40,0",
            "58,0 22,20 4,62 16,94 42,100 74,80 92,38 82,6 55,1",
            "50,2 14,18 0,50 16,84 52,98 92,82 104,50 88,16 46,0",
        ),
        (  # with a slash, inside or across
            "50,0 20,14 6,50 20,86 50,100 82,86 94,50 80,14 48,-1 / 74,22 50,50 26,78",
            "46,0 18,14 8,50 18,86 46,100 72,86 82,50 72,14 46,0 / 88,0 46,50 4,100",
            "54,0 20,18 4,58 18,92 44,100 76,82 92,42 82,10 52,1 / 82,12 50,50 16,88",
        ),
        (  # overlapping at the top
            "70,8 40,0 12,24 4,58 24,94 54,100 84,80 92,44 72,8 36,2 24,12",
            "56,10 30,4 8,36 8,72 36,100 66,94 84,62 76,20 52,-2 28,6 22,16",
            "58,-4 32,8 10,40 12,80 40,100 70,86 80,48 66,16 48,6 34,-4 26,-10",
        ),
        (  # a loop at the top
            "44,4 16,22 4,56 22,92 52,100 84,78 88,38 66,8 40,8 44,24 70,20 92,2",
            "40,6 14,30 8,66 30,98 60,92 80,60 72,22 48,4 30,14 44,28 66,16 76,0",
        ),
        (  # not quite closed
            "58,2 24,10 6,46 14,84 46,100 80,86 94,50 84,18 68,8",
            "44,10 16,24 4,58 22,94 52,100 84,78 90,40 72,8 50,-2",
            "40,0 14,22 6,58 20,92 46,100 72,86 80,50 70,22 58,14",
        ),
    ),
    1: (
        (  # a flag of at most half the stem, with or without a foot
            "45,12 48,6 52,0! 52,50 52,100 / ? 30,100 52,100 76,100",
            "32,20 42,11 52,0! 53,50 52,100 / ? 26,101 52,100 80,99",
            "20,32 37,17 52,0! 52,50 52,100 / ? 20,100 52,100 84,100",
            "30,48 42,26 52,0! 51,50 50,100 / ? 34,100 52,100 70,100",
            "8,52 32,30 52,0! 51,50 50,100 / ? 26,100 52,100 78,100",
            "12,48 40,28 52,0! 54,50 56,100 / ? 28,102 54,100 84,98",
        ),
        (  # always with a foot
            "38,18 46,9 54,0! 53,50 52,98 / 28,100 52,99 76,98",
            "18,36 38,19 54,0! 52,50 50,98 / 12,100 50,100 92,97",
            "26,32 43,19 54,0! 54,50 54,102 / 36,103 54,101 76,100",
            "14,44 32,26 54,0! 53,50 52,96 / 20,98 54,101 84,100",
        ),
        (  # a flag from half of the stem down to the base line
            "16,52 37,30 52,0! 52,50 52,100",
            "2,58 26,26 52,0! 50,50 46,100",
            "4,76 32,42 52,0! 52,50 50,100",
            "14,98 35,50 52,0! 53,50 54,100",
            "-6,98 26,52 52,0! 54,50 54,100",
            "-14,80 24,44 52,0! 50,50 50,100",
        ),
        (  # two sides of a tent, the right one steep
            "0,100 28,50 50,0! 56,50 60,100",
            "-8,96 30,54 52,0! 53,50 54,100",
            "10,92 26,46 48,0! 56,50 66,104",
            "-16,84 24,38 54,0! 52,50 50,102",
        ),
        (  # the same with a round top
            "4,98 26,54 44,8 52,2 54,14 54,50 54,100",
            "20,52 34,28 46,4 53,1 54,14 53,50 50,100",
            "-2,72 26,44 47,6 54,2 55,14 54,50 54,100",
        ),
        (  # a bare stroke
            "50,0 50,50 50,100",
            "66,0 50,50 34,100",
            "76,0 52,50 26,100",
            "42,0 50,50 56,100",
        ),
    ),
    2: (
        (  # a corner at the base
            "8,24 22,4 50,0 74,18 62,52 34,78 4,98! 45,97 88,96",
            "4,30 14,8 42,0 66,14 62,44 40,72 8,100! 40,98 70,98",
            "14,14 34,0 66,2 84,24 64,56 34,80 2,98! 50,96 98,100",
        ),
        (  # a loop at the base
            "8,24 28,2 60,2 74,26 58,62 26,94 6,90 20,78 50,90 92,96",
            "6,22 26,0 60,2 72,28 54,66 24,98 4,94 12,78 48,92 90,92",
            "14,16 40,0 70,10 68,40 44,76 20,96 10,90 22,84 44,92 84,90",
        ),
        (  # like a Z
            "8,4 40,2 76,2! 40,50 4,98! 45,98 86,97",
            "4,10 30,0 72,4! 44,46 8,100! 40,96 80,98",
            "8,10 34,-2 70,6! 36,54 2,98! 40,100 90,94",
        ),
        (  # a wavy base
            "8,26 24,4 54,0 76,20 60,54 34,78 8,98! 26,86 58,98 92,84",
            "12,20 36,0 68,8 70,34 48,68 26,84 4,100! 24,90 50,98 84,92",
        ),
    ),
    3: (
        (  # a corner in the middle
            "8,14 30,0 62,4 68,26 34,46! 70,54 78,78 48,100 4,92",
            "4,10 34,0 66,8 62,32 26,46! 66,50 84,74 54,102 2,88",
            "12,18 36,0 64,12 60,34 30,44! 66,56 66,86 38,100 10,92",
        ),
        (  # round all over
            "10,14 38,0 66,14 58,38 36,47 58,52 78,72 52,100 8,92",
            "6,12 40,-2 72,16 58,40 38,46 64,52 74,78 40,102 4,86",
        ),
        (  # a small loop in the middle
            "10,12 40,0 68,16 52,42 28,50 26,42 48,48 78,66 60,98 6,94",
            "8,14 38,0 64,18 50,42 24,48 28,40 54,48 74,70 46,100 4,86",
        ),
        (  # a flat top
            "6,3 40,1 76,0! 54,22 34,42! 68,50 80,74 52,100 4,92",
            "10,0 40,2 70,2! 52,22 28,44! 62,52 72,78 42,100 8,94",
            "4,4 36,0 80,3! 58,20 40,36! 76,48 82,78 46,102 0,88",
        ),
        (  # a flat top, the foot running out
            "30,2 58,0 88,4! 66,20 48,32! 84,44 88,58 60,78 30,90 -14,104",
            "34,0 60,1 84,0! 66,14 52,28! 82,36 84,52 58,74 24,94 -30,112",
            "24,4 50,0 80,2! 62,22 42,36! 78,48 80,66 54,84 30,92 6,100",
        ),
    ),
    4: (
        (  # open, two strokes
            "34,0 20,30 4,62! 45,60 88,58 / 62,26 60,62 56,104",
            "12,2 9,30 6,56! 45,56 84,55 / 62,4 61,50 60,100",
            "26,0 18,28 4,54! 44,56 92,48 / 70,8 62,54 52,104",
            "40,0 20,34 2,66! 40,66 84,64 / 56,42 55,70 52,104",
        ),
        (  # closed, with stem and bar of any length
            "58,0 32,30 2,66! 45,66 88,66 / 58,2 58,50 57,100",
            "54,0 24,26 -6,54! 50,54 110,52 / 54,0 52,60 48,112",
            "62,2 34,36 4,74! 40,74 78,73 / 62,0 62,50 62,100",
            "50,0 26,22 6,46! 40,48 80,46 / 54,-4 50,50 44,116",
        ),
        (  # closed, in one stroke from the end of the bar
            "88,64 45,66 2,66! 32,32 60,0! 59,50 57,100",
            "84,70 40,72 4,72! 30,36 52,0! 54,50 52,104",
        ),
        (  # open, like a bolt of lightning
            "56,0 32,28 6,60! 38,57 72,50! 67,78 64,108",
            "46,0 28,26 6,54! 36,54 66,50! 66,78 67,108",
            "66,0 38,30 6,64! 44,58 84,50! 76,78 68,110",
        ),
        (  # open and round, in one stroke
            "16,2 8,26 12,50 36,56 62,42 74,4! 68,54 60,104",
            "10,6 6,32 22,52 50,48 66,32 70,2! 68,50 66,100",
            "22,0 8,30 10,54 36,58 60,48 76,14! 68,60 58,104",
        ),
    ),
    5: (
        (  # in one stroke from the right of the bar
            "78,0 48,1 20,2! 17,22 14,46! 46,36 78,52 74,84 40,100 4,92",
            "70,4 48,2 26,2! 20,22 12,42! 44,38 68,54 62,88 34,100 2,94",
            "88,-2 52,2 22,4! 20,22 18,48! 52,42 80,62 66,96 34,100 6,86",
        ),
        (  # a bar of its own
            "22,2 18,24 15,46! 48,36 80,54 74,86 42,100 2,90 / 24,1 54,0 86,-3",
            "28,6 22,26 14,44! 44,38 70,56 62,88 34,100 4,92 / 34,-2 58,-4 92,-6",
            "16,4 15,24 14,48! 50,42 76,62 62,94 32,100 4,88 / 12,2 44,1 74,0",
        ),
        (  # round, like an S
            "80,6 52,0 24,14 26,38 58,50 78,74 52,100 8,92",
            "72,2 44,0 22,18 26,40 56,48 70,72 48,98 6,94",
        ),
        (  # a straight bar and a round shoulder
            "80,1 52,2 24,2! 16,26 18,42 48,44 74,58 68,90 38,100 4,94",
            "76,0 48,0 22,4! 20,24 28,40 58,46 74,68 56,96 30,100 6,92",
        ),
    ),
    6: (
        (  # a straight stem
            "62,0 40,28 18,58 14,86 40,100 68,88 66,66 42,56 16,72",
            "52,0 30,34 10,66 18,94 44,100 68,82 56,62 32,62 14,78",
            "74,2 46,26 16,60 16,90 44,100 72,84 66,60 40,54 16,70",
        ),
        (  # a curved stem
            "72,8 48,2 20,28 6,64 22,96 54,98 72,76 56,56 30,58 12,74",
            "78,14 60,0 30,14 10,52 16,88 46,100 74,82 68,58 40,52 14,68",
            "58,0 38,8 18,30 6,66 22,96 48,98 66,82 60,60 36,54 12,68",
        ),
        (  # an upright stem
            "30,0 16,36 10,72 26,98 56,96 70,76 56,56 32,58 14,72",
            "40,0 20,34 10,68 24,98 54,98 66,72 48,54 26,58 13,74",
        ),
        (  # a bowl curled into itself
            "64,0 36,22 12,58 18,92 46,100 70,84 62,60 38,60 30,76 44,84",
            "68,6 44,4 16,36 8,74 30,100 62,92 70,68 50,56 30,66 34,80",
        ),
    ),
    7: (
        (  # a straight bar
            "4,4 40,2 76,0! 54,50 34,102 / ? 22,54 50,51 80,48",
            "0,0 36,2 72,2! 56,50 44,100 / ? 28,50 54,50 82,50",
            "6,0 40,1 80,0! 48,40 36,104 / ? 16,48 46,46 76,44",
            "4,3 36,2 72,0! 67,50 62,102 / ? 38,56 66,52 94,48",
        ),
        (  # always with a bar through the stem
            "2,4 40,2 78,0! 56,48 38,102 / 20,50 54,49 86,48",
            "2,2 36,2 68,1! 52,46 30,100 / 26,48 50,44 74,40",
            "8,4 38,-2 78,2! 60,40 50,104 / 32,58 54,54 80,52",
        ),
        (  # a hook or serif at the left of the bar
            "4,22 7,4! 40,3 76,0! 52,50 36,102 / ? 24,54 52,52 80,48",
            "6,14 9,0! 42,3 80,1! 60,50 48,102 / ? 30,54 58,50 88,46",
            "-4,22 8,3! 38,4 70,0! 50,46 28,100 / ? 18,50 48,48 74,46",
        ),
        (  # a wavy bar
            "0,16 14,2 38,7 58,9 82,0! 56,46 38,104 / ? 24,54 54,50 82,48",
            "4,8 22,0 42,6 60,7 78,0! 60,44 46,104 / ? 30,56 54,54 84,48",
            "2,20 8,4 32,4 56,8 76,2! 54,50 32,100 / ? 22,56 52,52 78,50",
        ),
        (  # a round corner
            "2,8 24,2 54,4 74,5 74,18 56,54 40,102 / ? 24,56 54,53 84,50",
            "4,14 12,2 44,5 72,4 75,16 60,52 50,102 / ? 30,54 60,52 90,50",
        ),
    ),
    8: (
        (  # two circles
            "42,0 16,10 18,36 42,46 66,36 66,10 40,0 / 42,46 12,58 10,88 42,100 76,88 74,58 40,46",
            "44,2 22,12 24,32 44,42 62,32 62,12 42,2 / 42,42 6,54 4,88 42,102 82,88 80,54 42,42",
            "40,0 10,10 12,40 40,50 70,38 68,10 38,0 / 42,52 18,60 16,90 40,100 64,90 62,62 40,52",
        ),
        (  # an S, and back across it
            "72,12 46,0 20,14 26,36 58,56 76,80 42,100 8,80 28,56 60,36 72,14 58,2",
            "66,10 44,0 22,12 26,34 54,52 70,78 44,100 14,82 24,58 54,38 68,18 60,4",
        ),
        (  # open at the top
            "76,10 48,0 22,14 28,36 60,56 76,80 44,100 10,82 28,56 58,38 80,18",
            "66,6 38,2 20,20 32,40 60,58 68,84 38,100 10,82 26,58 56,36 82,4",
        ),
        (  # from the crossing
            "44,48 20,32 20,8 46,0 70,12 66,34 42,48 12,66 12,92 42,100 74,90 74,66 42,46",
            "42,44 22,32 18,10 42,0 64,8 62,28 40,44 16,62 12,86 38,100 64,92 68,66 40,42",
        ),
    ),
    9: (
        (  # a closed loop and a straight stem
            "70,10 42,0 14,12 10,38 34,52 60,42 72,6! 72,52 70,104",
            "64,14 38,2 12,18 14,40 38,48 60,34 68,4! 58,54 44,104",
            "74,16 46,0 12,10 6,42 34,60 62,48 74,8! 70,56 62,102",
        ),
        (  # a foot curled to the left
            "70,10 42,0 14,12 10,38 34,52 60,42 72,6! 74,48 70,84 44,102 12,90",
            "66,12 38,0 12,16 14,40 38,48 60,36 70,4! 72,46 64,86 36,104 2,94",
            "72,14 46,0 14,12 8,42 36,56 62,44 74,8! 76,60 66,96 48,104 32,96",
        ),
        (  # the same, its loop small or open
            "58,8 36,0 20,14 22,30 40,38 58,28 70,6! 72,48 70,80 48,102 14,92",
            "46,2 28,8 20,24 30,40 50,38 64,22 70,2! 72,46 68,84 44,104 8,88",
            "60,4 40,0 26,14 28,28 44,34 58,24 66,6! 70,50 76,82 50,106 6,84",
            "52,0 26,8 14,28 24,46 48,42 64,24 72,2! 70,52 60,88 30,102 0,88",
        ),
        (  # the same with a stem of its own
            "68,12 40,2 12,14 10,38 34,52 60,42 70,22 66,8 / 74,2 75,46 70,86 44,102 12,90",
            "62,10 36,0 14,18 14,38 36,48 58,36 66,20 60,6 / 70,-2 72,50 68,90 46,106 22,98",
        ),
        (  # a round back, the foot running out
            "64,8 38,0 12,16 14,42 40,50 64,34 72,18 68,54 48,84 20,102",
            "60,4 32,2 8,24 18,46 46,46 66,28 70,14 70,50 62,80 44,104",
        ),
        (  # a loop open at the top
            "58,10 34,2 10,18 12,42 36,54 60,44 76,4! 74,52 70,104",
            "50,2 24,4 8,22 12,44 36,54 62,42 76,0! 74,56 50,102",
            "54,14 36,4 12,22 16,44 40,50 62,38 72,8! 64,54 54,104",
        ),
        (  # drawn from the right of the loop, the bowl first
            "66,36 42,52 14,44 8,20 34,0 64,8 72,34 68,68 56,102",
            "64,30 38,46 10,36 14,10 42,-2 68,14 72,44 64,80 34,102",
        ),
        (  # a straight stem of its own
            "68,12 40,2 12,14 10,38 34,52 60,42 70,22 66,8 / 74,2 73,50 70,104",
            "64,10 38,2 14,16 12,38 36,48 58,38 66,20 60,8 / 72,4 70,52 58,102",
        ),
    ),
}


@dataclass(frozen=True)
class _Template:
    """Drawings of the same strokes, about 1 high.

    `weights_PK` turns control points into points of the curves, and stroke t of these ends
    before point `ends_T[t]`. `stroke_K` is each control point's stroke, `looseness_K` its
    share of the jitter; `optional_T` marks strokes that may be left out.
    """

    drawings_FK2: Floats
    weights_PK: Floats
    ends_T: tuple[int, ...]
    stroke_K: NDArray[np.intp]
    looseness_K: Floats
    optional_T: tuple[bool, ...]


def draw_digit(label: int, rng: np.random.Generator) -> list[Stroke]:
    """The strokes of a random digit, 0..9, in a box from (0, 0) whose longer side is 1."""
    templates = _templates(label)
    template = templates[rng.integers(len(templates))]
    points_P2 = _deform(template.weights_PK @ _control_points(template, rng), rng)
    skipped_T = [optional and rng.random() < 0.5 for optional in template.optional_T]
    strokes = [
        points_P2[start:end]
        for (start, end), skipped in zip(pairwise((0, *template.ends_T)), skipped_T, strict=True)
        if not skipped
    ]
    low_2, high_2 = _box(strokes)
    scale = (high_2 - low_2).max()
    return [(stroke_P2 - low_2) / scale for stroke_P2 in strokes]


def render_strokes(
    strokes: list[Stroke], *, size_px: float, pen_px: float, margin_px: int = 2
) -> Floats:
    """Anti-aliased ink, 0..1, of strokes scaled by `size_px` and drawn with a round pen.

    The image (H, W) is as large as the ink with a margin on every side.
    """
    low_2, high_2 = _box(strokes)
    width, height = np.ceil((high_2 - low_2) * size_px + pen_px).astype(int) + 2 * margin_px
    shift_2 = margin_px + pen_px / 2 - low_2 * size_px
    segments_S4 = _segments([stroke_P2 * size_px + shift_2 for stroke_P2 in strokes])
    return _ink(segments_S4, height, width, pen_px=pen_px, edge_px=1)


def pen_digits(labels_N: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random digit for every label in MNIST's format, uint8 (N, 28, 28), 0 background."""
    images_NHW = np.zeros((len(labels_N), IMAGE_PX, IMAGE_PX), np.uint8)
    for image_HW, label in zip(images_NHW, labels_N, strict=True):
        # As measured in MNIST: 2.3 px wide on average, edges a little softer than one pixel.
        pen_px, edge_px = 1.5 + 2.5 * rng.beta(1.6, 3.2), rng.uniform(0.9, 1.5)
        strokes = draw_digit(int(label), rng)
        # Ink reaches this far from a stroke's middle, and fills 20 pixels on the longer side.
        reach_px = (pen_px + edge_px) / 2
        scale_px = FIT_PX - 2 * reach_px
        side_2 = _box(strokes)[1] * scale_px + 2 * reach_px
        width, height = (math.ceil(side - 1e-3) for side in side_2)
        shift_2 = reach_px + (np.array([width, height]) - side_2) * rng.random()
        segments_S4 = _segments(
            [(stroke_P2 * scale_px + shift_2).astype(np.float32) for stroke_P2 in strokes]
        )
        ink_HW = _ink(segments_S4, height, width, pen_px=pen_px, edge_px=edge_px)
        # A thin stroke between two columns of pixels is gray in both.
        ink_HW *= 255 / ink_HW.max()
        y = centered_start(ink_HW.sum(axis=1), 0, height)
        x = centered_start(ink_HW.sum(axis=0), 0, width)
        image_HW[y : y + height, x : x + width] = np.rint(ink_HW)
    return images_NHW


@cache
def _templates(label: int) -> tuple[_Template, ...]:
    return tuple(_parse(drawings) for drawings in TEMPLATES[label])


def _parse(drawings: tuple[str, ...]) -> _Template:
    strokes = [stroke.replace("?", "").split() for stroke in drawings[0].split("/")]
    drawings_FK2 = [
        [point.rstrip("!").split(",") for point in drawing.split() if point not in "/?"]
        for drawing in drawings
    ]
    sizes_T = [len(points) for points in strokes]
    identity_KK = np.eye(sum(sizes_T))
    curves, looseness, first = [], [], 0
    for points, size in zip(strokes, sizes_T, strict=True):
        corners = [point.endswith("!") for point in points]
        curves.append(_curve(identity_KK[first : first + size], corners))
        # Ends vary more, which makes gaps and overshoots.
        looseness += [1.5, *[1.0] * (size - 2), 1.5]
        first += size
    return _Template(
        drawings_FK2=np.array(drawings_FK2, dtype=np.float32) / np.float32(100),
        weights_PK=np.concatenate(curves).astype(np.float32),
        ends_T=tuple(np.cumsum([len(curve) for curve in curves]).tolist()),
        stroke_K=np.repeat(np.arange(len(strokes)), sizes_T),
        looseness_K=np.array(looseness, dtype=np.float32),
        optional_T=tuple("?" in stroke for stroke in drawings[0].split("/")),
    )


def _curve(points_KD: NDArray[np.float64], corners: list[bool]) -> NDArray[np.float64]:
    """The points (P, D) of a Catmull-Rom spline through points (K, D), broken at corners."""
    breaks = [0, *np.flatnonzero(corners).tolist(), len(points_KD) - 1]
    curve = []
    for first, last in pairwise(breaks):
        piece_KD = points_KD[first : last + 1]
        slopes_KD = np.gradient(piece_KD, axis=0)
        spline = CubicHermiteSpline(np.arange(len(piece_KD)), piece_KD, slopes_KD)
        curve.append(spline(np.arange((last - first) * SAMPLES_PER_SPAN) / SAMPLES_PER_SPAN))
    return np.concatenate([*curve, points_KD[-1:]])


def _control_points(template: _Template, rng: np.random.Generator) -> Floats:
    """A random blend of two drawings, every stroke and every point moved a little."""
    drawings_FK2 = template.drawings_FK2
    first, second = rng.integers(len(drawings_FK2), size=2)
    share = np.float32(rng.random())
    points_K2 = share * drawings_FK2[first] + (1 - share) * drawings_FK2[second]
    jitter_K2 = rng.standard_normal(points_K2.shape, np.float32) * template.looseness_K[:, None]
    moved_T2 = rng.standard_normal((len(template.ends_T), 2), np.float32)
    carelessness = np.float32(0.006 + 0.036 * rng.random() ** 2)
    return np.asarray(points_K2 + carelessness * (jitter_K2 + 0.5 * moved_T2[template.stroke_K]))


def _deform(points_P2: Floats, rng: np.random.Generator) -> Floats:
    """Wave, shift the proportions of top and base, bend, widen, slant and rotate."""
    # Waves over the plane, about as long as the digit: curves stay smooth, loops closed.
    for waves_22 in rng.uniform(-5, 5, (2, 2, 2)).astype(np.float32):
        phase_2, height = rng.uniform(0, 2 * math.pi, 2), rng.uniform(0.01, 0.055)
        points_P2 = points_P2 + height * np.sin(points_P2 @ waves_22 + phase_2)
    x_P, y_P = points_P2.T
    proportion, bend = rng.uniform(-0.3, 0.3), rng.uniform(-0.07, 0.07)
    y_P = y_P + proportion * y_P * (1 - y_P)
    x_P = x_P + 4 * bend * y_P * (1 - y_P)
    widening = math.exp(rng.normal(-0.06, 0.17))
    slant = min(max(rng.normal(0.1, 0.15), -0.2), 0.36)
    angle = rng.normal(0, math.radians(4))
    cos, sin = math.cos(angle), math.sin(angle)
    map_22 = np.array([[widening, -slant], [0, 1]]).T @ np.array([[cos, sin], [-sin, cos]])
    return np.asarray(np.stack([x_P, y_P], axis=1) @ map_22, dtype=np.float32)


def _box(strokes: list[Stroke]) -> tuple[Floats, Floats]:
    """The least and the greatest x, y."""
    points_P2 = np.concatenate(strokes)
    return points_P2.min(axis=0), points_P2.max(axis=0)


def _segments(strokes: list[Stroke]) -> Floats:
    """The segments of all strokes, (S, 4): x, y of both ends."""
    return np.concatenate([np.hstack([points[:-1], points[1:]]) for points in strokes])


def _ink(segments_S4: Floats, height: int, width: int, *, pen_px: float, edge_px: float) -> Floats:
    """Ink (H, W) of segments in pixels; at the pen's edge it falls from 1 to 0 over `edge_px`."""
    start_S2, span_S2 = segments_S4[:, :2], segments_S4[:, 2:] - segments_S4[:, :2]
    length_S = np.maximum(np.hypot(span_S2[:, 0], span_S2[:, 1]), np.float32(1e-6))
    cos_S1, sin_S1 = (span_S2 / length_S[:, None]).T[:, :, None]
    # The centers of pixels, seen from each segment's start.
    x_SW = np.arange(0.5, width, dtype=np.float32) - start_S2[:, :1]
    y_SH = np.arange(0.5, height, dtype=np.float32) - start_S2[:, 1:]
    # In each segment's own axes: along it from its start, and across.
    along_SHW = (y_SH * sin_S1)[:, :, None] + (x_SW * cos_S1)[:, None]
    across_SHW = (y_SH * cos_S1)[:, :, None] - (x_SW * sin_S1)[:, None]
    along_SHW -= np.clip(along_SHW, 0, length_S[:, None, None])
    distance_HW = np.sqrt((along_SHW**2 + across_SHW**2).min(axis=0))
    ink_HW = np.clip((pen_px / 2 - distance_HW) / edge_px + 0.5, 0, 1)
    return np.asarray(ink_HW, dtype=np.float32)
