"""Training examples for reading pictures: digits as they are cut out of numbers, and no digits.

A network trained with them also knows what is no digit: halves and pairs of digits, signs,
letters, stains, frames. Its class is `NO_DIGIT`, whose logit is 0 by definition, so that a
network's log-sum-exp is the log-odds that an image is a digit (an outlier exposure: Hendrycks
et al. 2019, arXiv:1812.04606).

Shapes: N examples, L layers (digits), H rows, W columns.
"""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.data.arrays import mask_box
from mnistcli.data.examples import Examples
from mnistcli.data.mnist_format import normalize_ink
from mnistcli.synthesis.canvas import Ink, draw_polyline, draw_text, random_font
from mnistcli.synthesis.marks import draw_blobs, draw_frame_parts, draw_mark, draw_strike
from mnistcli.synthesis.pen_digits import pen_digits
from mnistcli.synthesis.shapes import PEN_SHARES, DigitShapes, Pose, draw_pen_digit
from mnistcli.system.machine import num_cores

if TYPE_CHECKING:
    from collections.abc import Callable

NO_DIGIT = 10
# The shares of the examples that are single digits, cut from numbers, no digits, and drawn with a
# pen in MNIST's format.
SHARES = {"single": 0.28, "cut": 0.38, "other": 0.16, "pen": 0.18}
OTHERS = {"mark": 0.3, "letter": 0.12, "word": 0.12, "frame": 0.22, "blob": 0.12, "struck": 0.12}
# Printed characters that are unlike digits.
LETTERS = tuple("AEFHKMNPRTUVWXYaekmnrtwxhdfp?%&#@$")
# Of the digits of other pens, these shares stand beside the rest of a printed line, and lean by
# more than usual.
RULED_SHARE, LEANING_SHARE = 0.15, 0.25
# Pixels with more ink than this (0..1) belong to a stroke.
INK_THRESHOLD = 0.3
# Ink narrower than this share of its height may be a 1.
NARROW = 0.5
# The examples are made of this many digits, whose skeletons are found once in each chunk. The
# number of chunks does not depend on the machine, so that the same seed gives the same examples.
NUM_DIGITS, NUM_CHUNKS = 12_000, 8

LabeledImage = tuple[NDArray[np.uint8], int]


def compose_examples(digits: Examples, num: int, seed: int) -> Examples:
    """`num` random examples made of `digits`: images uint8 (N, 28, 28), labels int64 in 0..10."""
    sizes = [len(range(first, num, NUM_CHUNKS)) for first in range(min(num, NUM_CHUNKS))]
    shapes = DigitShapes.from_examples(digits, NUM_DIGITS, np.random.default_rng(seed))
    composer = ExampleComposer(shapes)
    seeds = [(seed, number) for number in range(len(sizes))]
    context = get_context("spawn")
    with ProcessPoolExecutor(min(num_cores(), len(sizes)), mp_context=context) as pool:
        chunks = list(pool.map(composer.compose, sizes, seeds))
    return Examples(
        torch.from_numpy(np.concatenate([images for images, _ in chunks])),
        torch.from_numpy(np.concatenate([labels for _, labels in chunks])),
    )


@dataclass(frozen=True)
class ExampleComposer:
    """Makes examples of some digits."""

    shapes: DigitShapes

    def compose(
        self, num: int, seed: tuple[int, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """`num` random examples: images (N, 28, 28), labels (N,)."""
        rng = np.random.default_rng(seed)
        kinds = rng.choice(list(SHARES), num, p=list(SHARES.values()))
        pen_labels_N = rng.choice(10, int((kinds == "pen").sum()), p=PEN_SHARES)
        images, labels = list(pen_digits(pen_labels_N, rng)), pen_labels_N.tolist()
        makers: dict[str, Callable[[np.random.Generator], LabeledImage | None]] = {
            "single": self.single,
            "cut": self.cut,
            "other": self.other,
        }
        for kind, make in makers.items():
            wanted = int((kinds == kind).sum()) + len(images)
            while len(images) < wanted:
                if (example := make(rng)) is not None:
                    images.append(example[0])
                    labels.append(example[1])
        return np.stack(images), np.array(labels, np.int64)

    def single(self, rng: np.random.Generator) -> LabeledImage | None:
        """A digit by another pen, as it would be found on a page."""
        number = self.draw_number(1, rng.uniform(20, 70), 0, rng)
        return _finish(_beside_line(number.layers_LHW[0], rng), number.labels[0], rng)

    def cut(self, rng: np.random.Generator) -> LabeledImage | None:
        """A piece between two cuts through a number; None if it may or may not be a digit."""
        gap = rng.uniform(-0.15, 0.1) if rng.random() < 0.7 else rng.uniform(0.1, 0.5)
        number = self.draw_number(int(rng.integers(2, 4)), rng.uniform(24, 60), gap, rng)
        borders = number.borders
        if any(end <= start + 2 for start, end in pairwise(borders)):
            return None
        first = int(rng.integers(len(number.labels)))
        last = min(first + 1, len(number.labels) - 1)
        kind = rng.random()
        if kind < 0.5:
            start, end = borders[first], borders[first + 1]
        elif kind < 0.7:
            start, end = borders[last - 1], borders[last + 1]
        elif kind < 0.85:
            start, end = borders[first], rng.uniform(borders[first], borders[first + 1])
        else:
            start = rng.uniform(borders[first], borders[first + 1])
            end = borders[last + 1] if rng.random() < 0.5 else borders[first + 1]
        wobble = 0.03 * number.height_px
        columns = slice(
            max(0, round(start + rng.normal(0, wobble))), round(end + rng.normal(0, wobble))
        )
        label = number.label_of(columns)
        if label is None:
            return None
        ink_HW = number.layers_LHW[:, :, columns].max(axis=0)
        return _finish(ink_HW if label == NO_DIGIT else _beside_line(ink_HW, rng), label, rng)

    def other(self, rng: np.random.Generator) -> LabeledImage | None:
        """Ink that is no digit: marks, letters, frames, stains, digits that are crossed out."""
        side, height = 96, 40.0
        ink_HW = np.zeros((side, side), np.float32)
        center = (side / 2, side / 2)
        pen_px = height * math.exp(rng.normal(math.log(0.1), 0.4))
        kind = rng.choice(list(OTHERS), p=list(OTHERS.values()))
        if kind == "mark":
            draw_mark(ink_HW, center, height_px=height, pen_px=pen_px, rng=rng)
        elif kind in ("letter", "word"):
            num = 1 if kind == "letter" else rng.integers(2, 5)
            draw_text(
                ink_HW,
                "".join(rng.choice(LETTERS, num)),
                center,
                height_px=height if kind == "letter" else 0.6 * height,
                tilt_degrees=rng.normal(0, 8),
                font=random_font(rng),
            )
        elif kind == "frame":
            draw_frame_parts(ink_HW, center, height_px=height, pen_px=0.6 * pen_px, rng=rng)
        elif kind == "blob":
            draw_blobs(ink_HW, center, height_px=height, rng=rng)
        else:
            self.shapes.draw(ink_HW, Pose(*center, height), pen_px, rng)
            draw_strike(ink_HW, center, height_px=height, pen_px=pen_px, rng=rng)
        rows_N, columns_N = np.nonzero(ink_HW > INK_THRESHOLD)
        if not len(rows_N) or np.ptp(columns_N) < NARROW * np.ptp(rows_N):
            return None
        return _finish(ink_HW, NO_DIGIT, rng)

    def draw_number(
        self, num: int, height_px: float, gap: float, rng: np.random.Generator
    ) -> "Number":
        """Digits side by side, `gap` heights apart: by their boxes, or by their nearest ink."""
        side = round(1.7 * height_px)
        width = round(height_px * (1.1 * num + 1.2))
        pen_px = float(
            np.clip(height_px * math.exp(rng.normal(math.log(0.09), 0.4)), 0.9, 0.25 * height_px)
        )
        pen = pen_px if rng.random() < 0.5 else None
        lean = 2.0 if rng.random() < LEANING_SHARE else 1.0
        tilt, slant = rng.normal(0, 0.08 * lean), rng.normal(0, 0.14 * lean)
        layers: list[Ink] = []
        labels: list[int] = []
        # In each row, the last column with ink so far.
        last_H = np.full(side, -np.inf)
        interlock = rng.random() < 0.5
        while len(layers) < num:
            layer_HW = np.zeros((side, width), np.float32)
            size = height_px * math.exp(rng.normal(0, 0.08))
            middle = side / 2 + rng.normal(0, 0.05) * height_px
            own = Pose(width / 2, middle, size, tilt, slant, math.exp(rng.normal(0, 0.1)))
            own = own.jittered(rng)
            if rng.random() < 0.3:
                label = draw_pen_digit(layer_HW, own, pen_px, rng)
            else:
                label = self.shapes.draw(layer_HW, own, pen, rng)
            is_ink_HW = layer_HW > INK_THRESHOLD
            if not is_ink_HW.any():
                continue
            first_H = np.where(is_ink_HW.any(axis=1), is_ink_HW.argmax(axis=1), np.inf)
            distance = (gap + rng.normal(0, 0.03)) * height_px
            if not layers:
                shift = 0.35 * height_px - first_H.min()
            elif interlock and np.isfinite(nearest := (first_H - last_H).min()):
                shift = distance - nearest
            else:
                shift = distance + last_H.max() - first_H.min()
            layer_HW = np.roll(layer_HW, round(shift), axis=1)
            layers.append(layer_HW)
            labels.append(label)
            is_ink_HW = layer_HW > INK_THRESHOLD
            ends_H = width - 1 - is_ink_HW[:, ::-1].argmax(axis=1)
            last_H = np.maximum(last_H, np.where(is_ink_HW.any(axis=1), ends_H, -np.inf))
        return Number(np.stack(layers), labels, height_px)


@dataclass(frozen=True)
class Number:
    """Digits side by side, each on a layer of its own: ink (L, H, W), and their classes."""

    layers_LHW: Ink
    labels: list[int]
    height_px: float

    @property
    def borders(self) -> list[float]:
        """The columns where the number begins, where two digits meet, and where it ends."""
        spans = []
        for layer_HW in self.layers_LHW:
            columns_N = np.flatnonzero((layer_HW > INK_THRESHOLD).any(axis=0))
            spans.append((float(columns_N[0]), float(columns_N[-1]) + 1))
        between = [(a[1] + b[0]) / 2 for a, b in pairwise(spans)]
        return [spans[0][0], *between, spans[-1][1]]

    def label_of(self, columns: slice) -> int | None:
        """The class of what lies between two columns; None if it is ambiguous."""
        inside_L = self.layers_LHW[:, :, columns].sum(axis=(1, 2))
        if inside_L.sum() < 8:
            return None
        shown_L = inside_L / self.layers_LHW.sum(axis=(1, 2))
        main = int(inside_L.argmax())
        others = 1 - inside_L[main] / inside_L.sum()
        if shown_L[main] > 0.93 and others < 0.07:
            return self.labels[main]
        is_several = (shown_L > 0.55).sum() >= 2 or (shown_L[main] > 0.9 and others > 0.2)
        return NO_DIGIT if is_several or shown_L.max() < 0.7 else None


def _beside_line(ink_HW: Ink, rng: np.random.Generator) -> Ink:
    """The ink, sometimes with the rest of a rule or of a frame's side: thin, and fainter."""
    is_ink_HW = ink_HW > INK_THRESHOLD
    if rng.random() >= RULED_SHARE or not is_ink_HW.any():
        return ink_HW
    left, top, right, bottom = mask_box(is_ink_HW)
    low, high = np.array([left, top], float), np.array([right - 1, bottom - 1], float)
    height = max(1.0, high[1] - low[1])
    start, end = low - height * rng.uniform(-0.4, 0.2, 2), high + height * rng.uniform(-0.4, 0.2, 2)
    # Mostly a rule below.
    axis, below = (1, 0.85) if rng.random() < 0.75 else (0, 0.5)
    side = high if rng.random() < below else low
    start[axis] = end[axis] = side[axis] + height * rng.normal(0, 0.04)
    end[axis] += height * rng.normal(0, 0.02)
    line_HW = np.zeros_like(ink_HW)
    draw_polyline(line_HW, [tuple(start), tuple(end)], height * rng.uniform(0.02, 0.09))
    return np.asarray(np.maximum(ink_HW, line_HW * rng.uniform(0.15, 0.75)))


def _finish(ink_HW: Ink, label: int, rng: np.random.Generator) -> LabeledImage | None:
    """The ink blurred or sharpened a little, in MNIST's format; None without clear ink."""
    if rng.random() < 0.7:
        ink_HW = ndimage.gaussian_filter(ink_HW, rng.uniform(0.3, 1.2))
    if rng.random() < 0.5:
        ink_HW = np.clip((ink_HW - 0.5) * rng.uniform(1, 3) + 0.5, 0, 1)
    if (ink_HW > 0.5).sum() < 6:
        return None
    return normalize_ink(ink_HW.astype(np.float32)), label
