"""A grey picture -> the digits in it, each as MNIST would have drawn it.

A chain of small pure functions:

    grey -> paper removed -> polarity -> ink -> digits found -> fit -> centre

The paper and what belongs to it are the subject of `mnistcli.paper`.

MNIST was made from NIST's black-and-white scans: the digit's box was fitted in
20x20 with its aspect kept, anti-aliased, and its centre of mass put in the
middle of 28x28 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied
to document recognition, Proc. IEEE 86, 1998, section III.A). A network trained
on MNIST reads nothing else, so every picture has to come out that way.

Shapes: H rows, W columns. `grey` and `paper` are 0 black to 1 white, `contrast` is
positive where the picture differs from its paper as ink does, `ink` is 0 paper to
1 stroke; all float32. `labels` are int32: 0 paper, the parts of the ink from 1.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnistcli.reading.background import (
    contrast_from_background,
    estimate_background,
    find_sheet,
    remove_border,
    remove_surroundings,
)
from mnistcli.reading.decode import GrayImage, Picture
from mnistcli.reading.ink import Labels, find_ink
from mnistcli.reading.normalize import (
    CENTER_PX,
    FIT_PX,
    SIZE_PX,
    center_by_mass,
    fit_to_box,
    ink_box,
)
from mnistcli.reading.segment import (
    Box,
    cut_columns,
    enumerate_cuts,
    find_digits,
)
from mnistcli.system.files import write_atomically

# What is nowhere darker is the edge of a stroke, not one.
STROKE_INK = 0.5


@dataclass(frozen=True)
class DigitImage:
    """A digit as a network reads it, and where in the picture it was found.

    `pixels_HW` is uint8 (28, 28), 0 background to 255 ink. `box` is left, top,
    right, bottom of the ink in pixels of the picture as it is shown (turned as
    its EXIF tag says); right and bottom are exclusive. `line` counts the lines of
    writing from 0.
    """

    pixels_HW: NDArray[np.uint8]
    box: Box
    line: int = 0

    def ink(self) -> GrayImage:
        """Its pixels as float32, (28, 28), 0 background to 1 ink."""
        return self.pixels_HW.astype(np.float32) / np.float32(255)


# Ink in one piece, as the ways, one or more, in which it may be cut: first as one digit, then,
# where it is wide, as several that touch. The network's reading tells which it is.
Segmentations = tuple[tuple[DigitImage, ...], ...]


@dataclass(frozen=True)
class Piece:
    """Ink of one digit, or of several that touch, cut out of a picture at `left`, `top`."""

    ink_HW: GrayImage
    left: int
    top: int
    line: int

    def columns(self, start: int, end: int) -> "Piece":
        """The part of it from column `start` to `end` (exclusive)."""
        return replace(self, ink_HW=self.ink_HW[:, start:end], left=self.left + start)


@dataclass(frozen=True)
class PipelineSteps:
    """What each step of `develop` made of a picture, all (H, W), and the digits found.

    `labels_HW` numbers the digits from 1 in the order in which they are read.
    """

    gray_HW: GrayImage
    background_HW: GrayImage
    contrast_HW: GrayImage
    ink_HW: GrayImage
    labels_HW: Labels
    digits: list[Segmentations]


def read_digits(picture: Picture, *, single: bool = False) -> list[Segmentations]:
    """The digits in a picture, line by line from left to right; none if it is blank.

    With `single`, all that looks like ink is one digit.
    """
    return run_pipeline(picture, single=single).digits


def run_pipeline(
    picture: Picture, *, single: bool = False, on_sheet: bool = False
) -> PipelineSteps:
    """The whole chain, with everything it made on the way.

    `on_sheet`: the picture has been looked through for a sheet of paper on a table.
    """
    gray_HW = remove_border(picture.gray_HW)
    background_HW = estimate_background(gray_HW)
    contrast_HW = contrast_from_background(background_HW, gray_HW)
    sheet_HW = None if on_sheet else find_sheet(contrast_HW)
    if sheet_HW is not None:
        sheet = replace(picture, gray_HW=remove_surroundings(gray_HW, sheet_HW))
        steps = run_pipeline(sheet, single=single, on_sheet=True)
        if steps.digits:
            return steps
    if is_mnist_format(contrast_HW):
        return pass_through(gray_HW, background_HW, contrast_HW)
    ink_HW, parts_HW = find_ink(contrast_HW)
    labels_HW, lines = find_digits(ink_HW, parts_HW, single=single)
    boxes = [slices for slices in ndimage.find_objects(labels_HW) if slices]
    digits = []
    for number, (box, line) in enumerate(zip(boxes, lines, strict=True), start=1):
        digit_HW = np.where(labels_HW[box] == number, ink_HW[box], np.float32(0))
        found = Piece(digit_HW, box[1].start, box[0].start, line)
        digits.append(segment_piece(found, picture, cuts=[] if single else cut_columns(digit_HW)))
    return PipelineSteps(gray_HW, background_HW, contrast_HW, ink_HW, labels_HW, digits)


def is_mnist_format(contrast_HW: GrayImage) -> bool:
    """Whether a picture is one of MNIST's, or made like them.

    It is 28x28, its ink black or white, 20 pixels long on the longer side and centred by mass, on
    paper of one level: so are 99.98 % of MNIST's, and others only by accident.
    """
    if contrast_HW.shape != (SIZE_PX, SIZE_PX) or contrast_HW.min() < 0 or contrast_HW.max() < 0.9:
        return False
    left, top, right, bottom = ink_box(contrast_HW, visible=0)
    if max(right - left, bottom - top) != FIT_PX:
        return False
    y, x = ndimage.center_of_mass(contrast_HW)
    return bool(max(abs(y - CENTER_PX), abs(x - CENTER_PX)) <= 0.51)


def pass_through(
    gray_HW: GrayImage, background_HW: GrayImage, contrast_HW: GrayImage
) -> PipelineSteps:
    """The steps of a picture that needs none: its ink is the digit."""
    pixels_HW = np.rint(255 * contrast_HW.clip(0, 1)).astype(np.uint8)
    digit = DigitImage(pixels_HW, ink_box(contrast_HW, visible=0))
    labels_HW = (contrast_HW > 0).astype(np.int32)
    return PipelineSteps(gray_HW, background_HW, contrast_HW, contrast_HW, labels_HW, [((digit,),)])


def segment_piece(piece: Piece, picture: Picture, *, cuts: list[int]) -> Segmentations:
    """A piece of ink cut in every way at some of the columns `cuts`; first at none."""
    at = [0, *cuts, piece.ink_HW.shape[1]]
    ways = list(enumerate_cuts(len(cuts)))
    pieces = {
        (first, last): piece.columns(at[first], at[last])
        for first, last in set(itertools.chain(*ways))
    }
    whole = (0, len(cuts) + 1)
    drawn = {
        span: normalize_piece(each, picture)
        for span, each in pieces.items()
        if span == whole or each.ink_HW.max() > STROKE_INK
    }
    return tuple(tuple(drawn[span] for span in way) for way in ways if drawn.keys() >= set(way))


def normalize_piece(piece: Piece, picture: Picture) -> DigitImage:
    """A piece of ink in MNIST's form; its box in pixels of the picture, rounded outwards."""
    left, top, right, bottom = ink_box(piece.ink_HW)
    pixels_HW = np.rint(
        255 * center_by_mass(fit_to_box(piece.ink_HW[top:bottom, left:right]))
    ).astype(np.uint8)
    scale = max(picture.width_px, picture.height_px) / max(picture.gray_HW.shape)
    box = (
        int((piece.left + left) * scale),
        int((piece.top + top) * scale),
        min(picture.width_px, math.ceil((piece.left + right) * scale)),
        min(picture.height_px, math.ceil((piece.top + bottom) * scale)),
    )
    return DigitImage(pixels_HW, box, piece.line)


def save_digits(path: Path, digits: Sequence[DigitImage]) -> None:
    """Write digits side by side as a PNG file, light on dark, 28 pixels high.

    Raises:
        OSError: the file cannot be written.
    """
    strip = Image.fromarray(np.hstack([digit.pixels_HW for digit in digits]))
    write_atomically(path, lambda file: strip.save(file, "PNG"))
