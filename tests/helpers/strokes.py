"""Strokes of a pen: a few by hand, and those of an image, thinned to its skeleton and traced.

Shapes: H rows, W columns.
"""

import itertools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# x and y of the points of a stroke, in 0..1 of the image's side.
Stroke = list[tuple[float, float]]
Pixel = tuple[int, int]

# A hand's strokes for each digit: x,y of their points in percent of the side.
_STROKES = {
    "0": "50,5 20,25 15,60 35,92 65,92 85,60 75,20 50,5",
    "1": "58,5 42,95",
    "2": "20,25 35,7 65,7 78,28 60,55 20,92 85,90",
    "3": "20,12 50,4 75,18 70,38 42,48 75,58 80,80 50,95 18,85",
    "4": "35,5 15,55 85,55 | 65,30 60,97",
    "5": "78,7 32,8 25,45 60,42 80,62 72,88 45,96 18,86",
    "6": "68,5 35,35 20,68 35,93 65,92 75,70 55,55 25,68",
    "7": "20,8 80,8 42,95",
    "8": "70,15 45,5 25,20 40,42 70,62 72,85 45,96 25,80 40,55 68,35 70,15",
    "9": "72,20 45,7 25,28 40,48 68,40 72,20 65,60 55,95",
}
HANDWRITTEN: dict[str, list[Stroke]] = {
    digit: [
        [(int(x) / 100, int(y) / 100) for x, y in (point.split(",") for point in stroke.split())]
        for stroke in strokes.split("|")
    ]
    for digit, strokes in _STROKES.items()
}

# How much the image is enlarged before it is thinned, and which traced pixels are kept.
ENLARGED, EVERY = 4, 5
# The eight neighbors of a pixel, clockwise from the one above.
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def drawn(digits: str, height_px: int = 120) -> Image.Image:
    """Handwritten digits in a row, black on white, with a margin of 20 px."""
    picture = Image.new("L", (height_px * len(digits) + 40, height_px + 40), 255)
    for column, digit in enumerate(digits):
        for stroke in HANDWRITTEN[digit]:
            points = [(20 + height_px * (column + x), 20 + height_px * y) for x, y in stroke]
            ImageDraw.Draw(picture).line(points, fill=0, width=height_px // 12, joint="curve")
    return picture


def strokes_of(pixels_HW: NDArray[np.uint8]) -> list[Stroke]:
    """The strokes of a square image, 0 background to 255 ink."""
    side = ENLARGED * len(pixels_HW)
    image = Image.fromarray(pixels_HW).resize((side, side), Image.Resampling.BICUBIC)
    return [
        [((column + 0.5) / side, (row + 0.5) / side) for row, column in path]
        for path in trace(thin(np.asarray(image) > 127))
    ]


def thin(ink_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The skeleton of ink (Zhang, Suen: A fast parallel algorithm for thinning, CACM 27, 1984)."""
    ink_HW = np.pad(ink_HW, 1)
    while True:
        before_HW = ink_HW.copy()
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            ring = np.stack([np.roll(ink_HW, (-row, -column), (0, 1)) for row, column in AROUND])
            num_changes_HW = (~ring & np.roll(ring, -1, axis=0)).sum(axis=0)
            num_HW = ring.sum(axis=0)
            keeps_HW = ring[list(first)].all(axis=0) | ring[list(second)].all(axis=0)
            ink_HW &= ~((num_HW >= 2) & (num_HW <= 6) & (num_changes_HW == 1) & ~keeps_HW)
        if (ink_HW == before_HW).all():
            return ink_HW[1:-1, 1:-1]


def trace(skeleton_HW: NDArray[np.bool_]) -> list[list[Pixel]]:
    """Paths through all pixels of a skeleton, from its ends; they meet where it branches."""
    left = {(int(row), int(column)) for row, column in np.argwhere(skeleton_HW)}
    everywhere = set(left)
    paths: list[list[Pixel]] = []
    while left:
        path = [min(left, key=lambda pixel: (len(_near(pixel, left)), pixel))]
        left.remove(path[0])
        while near := _near(path[-1], left):
            # Straight on where there is a choice.
            path.append(min(near, key=lambda pixel: (_turn(path, pixel), pixel)))
            left.remove(path[-1])
        joined = _near(path[0], everywhere - left - set(path))[:1] + path
        joined += _near(path[-1], everywhere - left - set(path[-3:]))[:1]
        # Single pixels beside a path are not strokes.
        if len(joined) > EVERY or not paths:
            paths.append([*itertools.islice(joined, 0, None, EVERY), joined[-1]])
    return paths


def _near(pixel: Pixel, among: set[Pixel]) -> list[Pixel]:
    around = [(pixel[0] + row, pixel[1] + column) for row, column in AROUND]
    return [each for each in around if each in among]


def _turn(path: list[Pixel], pixel: Pixel) -> float:
    """How far a step turns from the direction of the last few, 0 straight on to 2 back."""
    back = path[max(0, len(path) - 5)]
    was = np.subtract(path[-1], back) / max(1.0, float(np.hypot(*np.subtract(path[-1], back))))
    step = np.subtract(pixel, path[-1])
    return 1 - float(was @ step) / float(np.hypot(*step))
