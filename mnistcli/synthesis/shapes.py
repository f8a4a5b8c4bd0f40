"""The digits of a data set, redrawn at any size, in any pose, with any pen.

Shapes: N digits, H rows, W columns.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnistcli.data.arrays import FIT_PX, IMAGE_PX
from mnistcli.data.examples import Examples
from mnistcli.synthesis.canvas import Ink, stamp, stroke
from mnistcli.synthesis.pen_digits import draw_digit, render_strokes

# Skeletons are found on images enlarged by this factor, in pixels of more ink than this of 255;
# distances to them are kept up to a limit.
ENLARGED, STROKE_INK, MAX_DISTANCE_PX = 2, 110, 9.0
# How often each class is drawn by `pen_digits`: more often where European hands differ.
PEN_SHARES = (0.08, 0.24, 0.06, 0.08, 0.12, 0.06, 0.06, 0.12, 0.05, 0.13)


@dataclass(frozen=True)
class Pose:
    """Where and how a digit stands: its center and height in pixels, its rotation in radians.

    `slant` is how far its top leans to the left, in pixels for each pixel of height, and
    `aspect` its width against that of the original.
    """

    x: float
    y: float
    height_px: float
    tilt: float = 0.0
    slant: float = 0.0
    aspect: float = 1.0

    @property
    def rotation(self) -> NDArray[np.float64]:
        """The matrix (2, 2) that rotates x and y by the tilt."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return np.array([[cos, -sin], [sin, cos]])

    def jittered(self, rng: np.random.Generator) -> "Pose":
        """The pose of a neighbor by the same hand."""
        return replace(
            self,
            tilt=self.tilt + rng.normal(0, 0.05),
            slant=self.slant + rng.normal(0, 0.05),
            aspect=self.aspect * math.exp(rng.normal(0, 0.08)),
        )


class DigitShapes:
    """Digits of MNIST's form, to be drawn with their own strokes or with another pen."""

    def __init__(self, images_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64]) -> None:
        self.images_NHW, self.labels_N = images_NHW, labels_N
        self._distances: dict[int, Ink] = {}

    @classmethod
    def from_examples(cls, examples: Examples, num: int, rng: np.random.Generator) -> "DigitShapes":
        """At most `num` random digits of a data set."""
        chosen = examples.take(
            torch.from_numpy(rng.permutation(len(examples))[:num]).to(examples.labels_N.device)
        )
        return cls(chosen.images_NHW.cpu().numpy(), chosen.labels_N.cpu().numpy())

    def draw(self, ink_HW: Ink, pose: Pose, pen_px: float | None, rng: np.random.Generator) -> int:
        """Draw a random digit and return its class; without a pen, with the original strokes."""
        number = int(rng.integers(len(self.images_NHW)))
        scale = pose.height_px / FIT_PX
        radius = math.ceil(0.95 * pose.height_px) + 3
        left, top = int(pose.x) - radius, int(pose.y) - radius
        to_page = scale * pose.rotation @ [[pose.aspect, pose.slant], [0, 1]]
        to_original = np.linalg.inv(to_page)
        center = np.array([pose.x - left, pose.y - top])

        def warp(original_HW: Ink, size: float, fill: float) -> Ink:
            matrix = to_original * (size / IMAGE_PX)
            shift = size / 2 - matrix @ center
            coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
            image = Image.fromarray(original_HW).transform(
                (2 * radius, 2 * radius),
                Image.Transform.AFFINE,
                coefficients,
                Image.Resampling.BILINEAR if pen_px else Image.Resampling.BICUBIC,
                fillcolor=fill,
            )
            return np.asarray(image)

        if pen_px:
            distance_HW = warp(self.distance(number), ENLARGED * IMAGE_PX, MAX_DISTANCE_PX)
            patch_HW = stroke(distance_HW * scale * math.sqrt(pose.aspect), pen_px)
        else:
            gray_HW = warp(self.images_NHW[number].astype(np.float32) / 255, IMAGE_PX, 0.0)
            patch_HW = np.clip((gray_HW - 0.5) * max(2.0, 2 * scale) + 0.5, 0, 1)
        stamp(ink_HW, patch_HW, left, top)
        return int(self.labels_N[number])

    def distance(self, number: int) -> Ink:
        """Each pixel's distance to the digit's skeleton in the original's pixels, (2H, 2W)."""
        if number not in self._distances:
            side = ENLARGED * IMAGE_PX
            image = Image.fromarray(self.images_NHW[number]).resize((side, side))
            skeleton_HW = thin(np.asarray(image) > STROKE_INK)
            distance_HW = ndimage.distance_transform_edt(~skeleton_HW) / ENLARGED
            self._distances[number] = distance_HW.clip(max=MAX_DISTANCE_PX).astype(np.float32)
        return self._distances[number]


def thin(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The skeleton of a shape, one pixel wide (Zhang and Suen 1984)."""
    padded_HW = np.pad(mask_HW, 1)
    inner = slice(1, -1)
    while True:
        before = padded_HW.sum()
        for corner in (0, 1):
            # Clockwise from the pixel above.
            ring = [
                padded_HW[slice(1 + y, y - 1 or None), slice(1 + x, x - 1 or None)]
                for y, x in (
                    (-1, 0),
                    (-1, 1),
                    (0, 1),
                    (1, 1),
                    (1, 0),
                    (1, -1),
                    (0, -1),
                    (-1, -1),
                )
            ]
            above, right, below, left = ring[::2]
            num_HW = np.sum(ring, axis=0, dtype=np.int8)
            steps_HW = np.sum(
                [~here & after for here, after in zip(ring, ring[1:] + ring[:1], strict=True)],
                axis=0,
                dtype=np.int8,
            )
            if corner == 0:
                is_end_HW = (above & right & below) | (right & below & left)
            else:
                is_end_HW = (above & right & left) | (above & below & left)
            removed_HW = (num_HW >= 2) & (num_HW <= 6) & (steps_HW == 1) & ~is_end_HW
            padded_HW[inner, inner] &= ~removed_HW
        if padded_HW.sum() == before:
            return padded_HW[inner, inner]


def draw_pen_digit(ink_HW: Ink, pose: Pose, pen_px: float, rng: np.random.Generator) -> int:
    """Draw a digit of `pen_digits` and return its class."""
    label = int(rng.choice(10, p=PEN_SHARES))
    strokes = draw_digit(label, rng)
    extent = np.concatenate(strokes).max(axis=0)
    turn = pose.rotation @ [[1, pose.slant], [0, 1]]
    # A digit that is much wider than high is not enlarged to the full height.
    turn /= extent[1] if extent[1] > 0.5 else 1
    turned = [((points - extent / 2) @ turn.T).astype(np.float32) for points in strokes]
    start = np.concatenate(turned).min(axis=0)
    margin_px = int(pen_px / 2) + 2
    patch_HW = render_strokes(
        [points - start for points in turned],
        size_px=pose.height_px,
        pen_px=pen_px,
        margin_px=margin_px,
    )
    left, top = (np.array([pose.x, pose.y]) + start * pose.height_px).astype(int) - margin_px
    stamp(ink_HW, patch_HW, int(left), int(top))
    return label
