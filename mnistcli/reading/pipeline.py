"""A gray picture -> the digits in it, each in MNIST's format: the steps in order.

    decode.py        file -> gray, upright, at most 800 pixels
    sheet.py         remove a drawn border; find a sheet of paper, remove the table around it
    background.py    estimate how bright the background is under the ink
    polarity.py      dark or light ink? gray -> contrast
    ruled_lines.py   remove printed lines from the contrast
    ink.py           contrast -> ink in connected components; drop specks and what touches the edge
    segment.py       connected components -> digits, in text lines
    touching.py      wide ink -> the ways to cut it into digits that touch
    normalize.py     ink -> 28x28, as MNIST was made
    predict.py       network: which digit, and which way of cutting

Each step is a pure function of arrays. Shapes: H rows, W columns.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnistcli.reading.arrays import GrayImage, Labels
from mnistcli.reading.background import estimate_background
from mnistcli.reading.decode import Picture
from mnistcli.reading.digit import DigitImage, Segmentations
from mnistcli.reading.ink import find_ink
from mnistcli.reading.noise import background_noise, visible_contrast
from mnistcli.reading.normalize import ink_box, is_mnist_format, normalize_ink
from mnistcli.reading.polarity import subtract_background
from mnistcli.reading.ruled_lines import remove_ruled_lines
from mnistcli.reading.segment import Piece, cut_out_digits, find_digits
from mnistcli.reading.sheet import find_sheet, remove_border, remove_table
from mnistcli.reading.touching import cut_touching


@dataclass(frozen=True)
class PipelineSteps:
    """The result of each step, all (H, W), and the digits in the reading order.

    Attributes:
        gray_HW: float32, 0 black to 1 white, without border and table.
        background_HW: float32, the same without ink.
        contrast_HW: float32, positive where ink is.
        ink_HW: float32, 0 background to 1 full ink.
        labels_HW: int32, the number of the digit, from 1; 0 background.
        digits: the segmentations of each number in `labels_HW`.
    """

    gray_HW: GrayImage
    background_HW: GrayImage
    contrast_HW: GrayImage
    ink_HW: GrayImage
    labels_HW: Labels
    digits: list[Segmentations]


def run_pipeline(picture: Picture, *, single: bool = False) -> PipelineSteps:
    """Find the digits in a picture; none if it is blank.

    With `single`, all ink is one digit.
    """
    separated = separate_background(picture.gray_HW)
    gray_HW, _, contrast_HW = separated
    sheet_HW = find_sheet(contrast_HW)
    if sheet_HW is not None:
        on_sheet = separate_background(remove_table(gray_HW, sheet_HW))
        steps = extract_digits(picture, *on_sheet, single=single)
        if steps.digits:
            return steps
    return extract_digits(picture, *separated, single=single)


def separate_background(gray_HW: GrayImage) -> tuple[GrayImage, GrayImage, GrayImage]:
    """The picture without a border, its background, and its contrast, each (H, W)."""
    gray_HW = remove_border(gray_HW)
    background_HW = estimate_background(gray_HW)
    return gray_HW, background_HW, subtract_background(gray_HW, background_HW)


def extract_digits(
    picture: Picture,
    gray_HW: GrayImage,
    background_HW: GrayImage,
    contrast_HW: GrayImage,
    *,
    single: bool,
) -> PipelineSteps:
    """The digits in the contrast; `picture` is for their boxes."""
    if is_mnist_format(contrast_HW):
        return pass_through(gray_HW, background_HW, contrast_HW)
    noise = background_noise(contrast_HW)
    writing_HW = remove_ruled_lines(contrast_HW, visible_contrast(noise))
    ink_HW, parts_HW = find_ink(writing_HW, noise)
    labels_HW, lines = find_digits(ink_HW, parts_HW, single=single)
    digits = [
        normalize_segmentations([(piece,)] if single else cut_touching(piece), picture)
        for piece in cut_out_digits(ink_HW, labels_HW, lines)
    ]
    return PipelineSteps(gray_HW, background_HW, contrast_HW, ink_HW, labels_HW, digits)


def pass_through(
    gray_HW: GrayImage, background_HW: GrayImage, contrast_HW: GrayImage
) -> PipelineSteps:
    """The steps for a picture in MNIST's format: its contrast is the digit."""
    pixels_HW = np.rint(255 * contrast_HW.clip(0, 1)).astype(np.uint8)
    digit = DigitImage(pixels_HW, ink_box(contrast_HW, visible=0))
    labels_HW = (contrast_HW > 0).astype(np.int32)
    return PipelineSteps(gray_HW, background_HW, contrast_HW, contrast_HW, labels_HW, [((digit,),)])


def normalize_segmentations(
    segmentations: Sequence[tuple[Piece, ...]], picture: Picture
) -> Segmentations:
    """The pieces of every segmentation in MNIST's format, each piece once."""
    pieces = dict.fromkeys(itertools.chain(*segmentations))
    digits = {piece: normalize_piece(piece, picture) for piece in pieces}
    return tuple(tuple(digits[piece] for piece in pieces) for pieces in segmentations)


def normalize_piece(piece: Piece, picture: Picture) -> DigitImage:
    """A piece of ink in MNIST's format; its box in pixels of the picture, rounded outwards."""
    left, top, right, bottom = ink_box(piece.ink_HW)
    scale = max(picture.width_px, picture.height_px) / max(picture.gray_HW.shape)
    box = (
        int((piece.left + left) * scale),
        int((piece.top + top) * scale),
        min(picture.width_px, math.ceil((piece.left + right) * scale)),
        min(picture.height_px, math.ceil((piece.top + bottom) * scale)),
    )
    return DigitImage(normalize_ink(piece.ink_HW), box, piece.line)
