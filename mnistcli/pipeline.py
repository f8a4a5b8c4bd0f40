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
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnistcli.background import (
    MAD_TO_SD,
    MIN_CONTRAST,
    NOISE_SDS,
    contrast_from_background,
    estimate_background,
    find_sheet,
    quantile,
    remove_border,
    remove_lines,
    remove_surroundings,
)
from mnistcli.decode import GrayImage, Picture, border_pixels
from mnistcli.files import write_atomically
from mnistcli.segment import (
    Box,
    Part,
    cut_columns,
    enumerate_cuts,
    group_parts,
    measure_parts,
    order_by_line,
)

Labels = NDArray[np.int32]

# MNIST's form (LeCun et al. 1998): the box, the picture, and where the centre of
# mass lies, counted from pixel 0. The training set's centres average 14.0.
FIT_PX, SIZE_PX, CENTER_PX = 20, 28, 14

# A part with less ink than this share of the main one is a speck.
SPECK_SHARE = 0.03
# Pixels above this share of the threshold count where they join some above it:
# faint stretches of a stroke do, the lines of squared paper do not.
HYSTERESIS = 0.65
# The lightest pen against the darkest. What is fainter is a watermark, or a line of the paper.
PEN_SHARE = 0.5
# Less ink than this share of the darkest is no visible part of a stroke.
VISIBLE_INK = 0.05
# Ink that is smaller both ways is dust.
MIN_INK_PX = 3
# What is nowhere darker is the edge of a stroke, not one.
STROKE_INK = 0.5
# The lines of a frame lie this close to its outside, of its shorter side.
FRAME_SHARE = 0.1
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)

# As `stroke_width_px` measures them, MNIST's training digits have strokes of 2.5 px on
# average, 98 % of them within the first two bounds. Others are brought to the second two.
THIN_PX, THICK_PX = 1.45, 4.6
WIDENED_PX, NARROWED_PX = 2.3, 3.0
# Strokes are changed on a square of so many pixels for each one of the result.
OVERSAMPLING = 5


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


def find_ink(contrast_HW: GrayImage) -> tuple[GrayImage, Labels]:
    """The strokes, (H, W): 0 on paper to 1 where the pen pressed; and their connected parts."""
    nothing = np.zeros_like(contrast_HW), np.zeros(contrast_HW.shape, np.int32)
    noise = noise_sd(contrast_HW)
    visible = max(MIN_CONTRAST, NOISE_SDS * noise)
    contrast_HW = remove_lines(contrast_HW, visible)
    candidates_N = contrast_HW[contrast_HW > visible]
    if not candidates_N.size:
        return nothing
    # Where pens of two darknesses wrote, Otsu's threshold would part the pens.
    threshold = min(otsu(candidates_N), PEN_SHARE * quantile(candidates_N, 0.95))
    parts_HW = select_parts(contrast_HW, max(HYSTERESIS * threshold, visible), threshold)
    strong_N = contrast_HW[(parts_HW > 0) & (contrast_HW > threshold)]
    if not strong_N.size:
        return nothing
    full = quantile(strong_N, 0.75)
    return np.clip((contrast_HW - 2 * noise) / (full - 2 * noise), 0, 1), parts_HW


def noise_sd(contrast_HW: GrayImage) -> float:
    """The paper's noise: its spread on the side of its level where ink never lies."""
    paper_N = contrast_HW[contrast_HW <= 0]
    return MAD_TO_SD * quantile(-paper_N, 0.5) if paper_N.size else 0.0


def otsu(values_N: NDArray[np.float32]) -> float:
    """The threshold that best parts the values in two classes (Otsu 1979)."""
    low, high = float(values_N.min()), float(values_N.max())
    if high - low < 1e-3:
        return low - 1e-3  # all of one darkness: there is nothing to part
    num_bins = 128
    width = (high - low) / num_bins
    bins_N = np.minimum((values_N - low) / width, num_bins - 1).astype(np.intp)
    counts_B = np.bincount(bins_N, minlength=num_bins)
    middle_B = low + width * (np.arange(num_bins) + 0.5)
    below_B = np.cumsum(counts_B)[:-1]
    above_B = values_N.size - below_B
    sum_B = np.cumsum(counts_B * middle_B)
    # The first and the last bin are never empty, so neither class is.
    gap_B = sum_B[:-1] / below_B - (sum_B[-1] - sum_B[:-1]) / above_B
    between_B = below_B * above_B * gap_B**2
    return low + width * (1 + int(between_B.argmax()))


def select_parts(contrast_HW: GrayImage, low: float, high: float) -> Labels:
    """The connected parts above `low` that may belong to a digit, (H, W).

    A part needs a pixel above `high` (hysteresis: Canny 1986). The one with the
    most ink is of a digit, though what runs along the picture's edge is rather a
    table or a shadow. Others are left out if they are specks, or if they reach
    the edge and the main part does not.
    """
    labels_HW, num = ndimage.label(contrast_HW > low, EIGHT_NEIGHBOURS)
    labels_N, contrast_N = labels_HW.ravel(), contrast_HW.ravel()
    strong_K = np.bincount(labels_N[contrast_N > high], minlength=num + 1) > 0
    ink_K = np.bincount(labels_N, contrast_N, minlength=num + 1) * strong_K
    ink_K[0] = 0
    edge_K = edge_shares(labels_HW, num + 1)
    main = int((ink_K * np.select([edge_K > 0.15, edge_K > 0], [0.05, 0.25], 1)).argmax())
    keep_K = ink_K > SPECK_SHARE * ink_K[main]
    if edge_K[main] == 0:
        keep_K &= edge_K == 0
    return np.where(keep_K[labels_HW], labels_HW, 0)


def edge_shares(labels_HW: Labels, num: int) -> NDArray[np.float64]:
    """The share of the picture's edge that each of `num` parts covers, (num,)."""
    edge_N = border_pixels(labels_HW, 0)
    return np.bincount(edge_N, minlength=num) / edge_N.size


def find_digits(ink_HW: GrayImage, parts_HW: Labels, *, single: bool) -> tuple[Labels, list[int]]:
    """The parts put together to digits, numbered as they are read, (H, W); the line of each."""
    parts = measure_parts(ink_HW, parts_HW)
    parts = [
        part
        for part in parts
        if max(part.width, part.height) >= MIN_INK_PX and not is_frame(part, parts, parts_HW)
    ]
    number_of_part_K = np.zeros(int(parts_HW.max()) + 1, np.int32)
    lines: list[int] = []
    groups = [[parts]] if single and parts else order_by_line(group_parts(parts))
    for line, digits in enumerate(groups):
        for digit in digits:
            lines.append(line)
            number_of_part_K[[part.number for part in digit]] = len(lines)
    labels_HW = number_of_part_K[parts_HW]
    # One pixel more all round: the grey edges of the strokes.
    return np.where(labels_HW, labels_HW, ndimage.maximum_filter(labels_HW, 3)), lines


def is_frame(part: Part, parts: list[Part], parts_HW: Labels) -> bool:
    """Whether a part is a box drawn around others: all of it lies at its own edge."""
    margin = max(2, round(FRAME_SHARE * min(part.width, part.height)))
    top, bottom = part.top + margin, part.bottom - margin
    left, right = part.left + margin, part.right - margin
    encloses = any(
        left <= each.left and top <= each.top and each.right <= right and each.bottom <= bottom
        for each in parts
    )
    return encloses and not (parts_HW[top:bottom, left:right] == part.number).any()


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


def ink_box(ink_HW: GrayImage, *, visible: float = VISIBLE_INK) -> Box:
    """Left, top, right, bottom (exclusive) of what has this share of the darkest ink."""
    visible_HW = ink_HW > visible * ink_HW.max()
    rows_N, columns_N = np.flatnonzero(visible_HW.any(1)), np.flatnonzero(visible_HW.any(0))
    return int(columns_N[0]), int(rows_N[0]), int(columns_N[-1]) + 1, int(rows_N[-1]) + 1


def fit_to_box(ink_HW: GrayImage) -> GrayImage:
    """Ink filling its array -> (20, 20), aspect kept, strokes about as wide as MNIST's."""
    square_HW = to_square(ink_HW)
    width_px = stroke_width_px(square_HW) * FIT_PX / len(square_HW)
    # Ink that fits as it is has been fitted before: MNIST's own thick strokes stay.
    if width_px < THIN_PX or (width_px > THICK_PX and len(square_HW) != FIT_PX):
        square_HW = adjust_stroke_width(square_HW)
    fitted_HW = resize_square(square_HW, FIT_PX)
    # A stroke much thinner than the picture is long has all but averaged away.
    return np.asarray(fitted_HW / fitted_HW.max())


def adjust_stroke_width(ink_HW: GrayImage) -> GrayImage:
    """Strokes widened or narrowed to MNIST's usual width, as it is once the result is fitted.

    With side s and stroke w, a disc of radius r makes them s + 2r and w + 2r;
    solved for r where 20 (w + 2r) / (s + 2r) is the width wanted.
    """
    ink_HW = resize_square(ink_HW, FIT_PX * OVERSAMPLING)
    side_px, width_px = len(ink_HW), stroke_width_px(ink_HW)
    wanted_px = WIDENED_PX if width_px < THIN_PX * OVERSAMPLING else NARROWED_PX
    radius_px = (wanted_px * side_px - FIT_PX * width_px) / (2 * (FIT_PX - wanted_px))
    ink_HW = np.pad(ink_HW, 1 + math.ceil(abs(radius_px)))
    # Half of the usual darkness, because a thin stroke shrunk is grey all over.
    visible_N = ink_HW[ink_HW > VISIBLE_INK * ink_HW.max()]
    stroke_HW = ink_HW > quantile(visible_N, 0.9) / 2
    # Distances are counted between the middles of pixels, and the edge lies half a pixel off.
    if radius_px > 0:
        reach_HW = radius_px + 1 - ndimage.distance_transform_edt(~stroke_HW)
    else:
        reach_HW = radius_px + ndimage.distance_transform_edt(stroke_HW)
    return to_square(np.clip(reach_HW, 0, 1).astype(np.float32))


def stroke_width_px(ink_HW: GrayImage) -> float:
    """The mean width of the strokes: twice the ink over its total variation.

    A stroke of length L, width w and any darkness d holds L w d of ink, and its
    two edges have a total variation of 2 L d.
    """
    height, width = ink_HW.shape
    padded_HW = np.zeros((height + 2, width + 2), np.float32)
    padded_HW[1:-1, 1:-1] = ink_HW
    here_HW = padded_HW[1:, 1:]
    down_HW, right_HW = here_HW - padded_HW[:-1, 1:], here_HW - padded_HW[1:, :-1]
    return 2 * float(ink_HW.sum()) / max(float(np.hypot(down_HW, right_HW).sum()), 1e-6)


def to_square(ink_HW: GrayImage) -> GrayImage:
    """Cropped to the ink and padded with paper to a square around it."""
    left, top, right, bottom = ink_box(ink_HW)
    height, width = bottom - top, right - left
    side = max(height, width)
    square_HW = np.zeros((side, side), np.float32)
    y, x = (side - height) // 2, (side - width) // 2
    square_HW[y : y + height, x : x + width] = ink_HW[top:bottom, left:right]
    return square_HW


def resize_square(ink_HW: GrayImage, side_px: int) -> GrayImage:
    """A square of ink in another size, (side_px, side_px): area averages, bicubic to enlarge."""
    if len(ink_HW) == side_px:
        return ink_HW
    if len(ink_HW) > side_px:
        shares_SH = area_shares(len(ink_HW), side_px)
        return np.asarray(shares_SH @ ink_HW @ shares_SH.T)
    enlarged = Image.fromarray(ink_HW).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float32).clip(0, 1)


@lru_cache(maxsize=64)
def area_shares(from_px: int, to_px: int) -> GrayImage:
    """How much of each of `to_px` pixels each of `from_px` covers, float32 (to_px, from_px).

    Pillow's box filter takes every pixel for one output pixel or none, and drops
    a line of one pixel that falls between two.
    """
    scale = from_px / to_px
    start_S1 = scale * np.arange(to_px)[:, None]
    pixel_H = np.arange(from_px)[None, :]
    overlap_SH = np.minimum(start_S1 + scale, pixel_H + 1) - np.maximum(start_S1, pixel_H)
    return np.asarray(overlap_SH.clip(min=0) / scale, dtype=np.float32)


def center_by_mass(ink_HW: GrayImage) -> GrayImage:
    """Ink moved by whole pixels so that its centre of mass is the middle of (28, 28).

    Where that would push ink out of the picture, it stays inside.
    """
    left, top, right, bottom = ink_box(ink_HW)
    y, x = (
        centered_start(ink_HW.sum(axis=1), top, bottom),
        centered_start(ink_HW.sum(axis=0), left, right),
    )
    centered_HW = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    centered_HW[y : y + bottom - top, x : x + right - left] = ink_HW[top:bottom, left:right]
    return centered_HW


def centered_start(ink_N: GrayImage, first: int, end: int) -> int:
    """Where ink from `first` to `end` begins in `SIZE_PX` pixels, with its mean in the middle."""
    mean = float(ink_N @ np.arange(len(ink_N), dtype=np.float32)) / float(ink_N.sum())
    return min(max(CENTER_PX - round(mean) + first, 0), SIZE_PX - (end - first))


def save_digits(path: Path, digits: Sequence[DigitImage]) -> None:
    """Write digits side by side as a PNG file, light on dark, 28 pixels high.

    Raises:
        OSError: the file cannot be written.
    """
    strip = Image.fromarray(np.hstack([digit.pixels_HW for digit in digits]))
    write_atomically(path, lambda file: strip.save(file, "PNG"))
