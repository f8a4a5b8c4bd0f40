"""A gray picture -> the candidates for its digits, each in MNIST's format: the steps in order.

    decode.py        file -> gray, upright, at most 800 pixels
    thumbnail.py     thumbnails, of a single digit's size: gray -> ink (ink.py), by their
                     background (background.py, polarity.py, noise.py)
    picture_ink.py   larger pictures: gray -> ink, by a network that finds it
    parts.py         ink -> connected parts; how the writing is tilted
    text_lines.py    parts -> lines of writing
    cuts.py          where ink may be cut into digits that touch
    lattice.py       a line -> fragments, and the candidates for digits that they make
    digit.py         ink -> 28x28, as MNIST was made (data/mnist_format.py)
    predict.py       network: which candidates are digits, and which digits

Shapes: H rows, W columns.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from mnistcli.data.arrays import GrayImage
from mnistcli.data.mnist_format import ink_box
from mnistcli.reading.digit import DigitImage, LeftOut, Placement
from mnistcli.reading.lattice import TextLine, build_line, cut_out, to_digit_image, trim
from mnistcli.reading.parts import (
    MAX_PARTS,
    crosses_picture,
    estimate_tilt,
    find_circles,
    find_parts,
    find_points,
    is_digit_sized,
    may_be_minus,
    usual_height,
)
from mnistcli.reading.text_lines import arrange_lines
from mnistcli.reading.thumbnail import find_thumbnail_ink

# Writing that is tilted less is read as it is.
LEVEL_TILT = math.radians(6)
# Ink is cut where its width is at least this many times its height.
THUMBNAIL_CUT_WIDTH, PICTURE_CUT_WIDTH = 1.1, 0.55
# The probability that ink of a digit's size is no digit, before the network has seen it. A
# thumbnail was probably made of a digit, so its ink is rather a strange digit than none.
PICTURE_PRIOR, THUMBNAIL_PRIOR = 0.005, 1e-6
# Why dots between digits are left out: a number's point, a time's colon.
POINT = "a mark between digits"


@dataclass(frozen=True)
class Segmentation:
    """The candidates for digits in a picture.

    Attributes:
        lines: from the top.
        left_out: ink that belongs to no candidate.
        ink_HW: float32 (H, W), 0 background to 1 full ink, rotated so that lines are level.
        no_digit_prior: the probability that ink of a digit's size is no digit, before a
            network has seen it; 0 if it must be one.
    """

    lines: list[TextLine]
    left_out: list[LeftOut]
    ink_HW: GrayImage
    no_digit_prior: float


NOTHING = Segmentation([], [], np.zeros((0, 0), np.float32), 0.0)


def segment_thumbnail(
    gray_HW: GrayImage, picture_size: tuple[int, int], *, single: bool
) -> Segmentation:
    """The candidates in a picture of about one digit's size, 0 black to 1 white.

    One in MNIST's format is a digit as it is.
    """
    ink_HW, is_mnist = find_thumbnail_ink(gray_HW)
    if not is_mnist:
        found = segment_ink(ink_HW, picture_size, single=single, cut_width=THUMBNAIL_CUT_WIDTH)
        return replace(found, no_digit_prior=THUMBNAIL_PRIOR)
    pixels_HW = np.rint(255 * ink_HW.clip(0, 1)).astype(np.uint8)
    return only_digit(DigitImage(pixels_HW, ink_box(ink_HW, visible=0)), ink_HW)


def segment_ink(
    ink_HW: GrayImage,
    picture_size: tuple[int, int],
    *,
    single: bool,
    cut_width: float = PICTURE_CUT_WIDTH,
) -> Segmentation:
    """The candidates in ink (0..1) of a picture of this width and height in pixels.

    With `single`, all ink is one digit. Ink is cut where it is at least `cut_width` times as
    wide as high.
    """
    scale = max(picture_size) / max(ink_HW.shape)
    labels_HW, parts = find_parts(ink_HW)
    tilt = 0.0 if single else estimate_tilt(parts[:MAX_PARTS])
    if abs(tilt) < LEVEL_TILT:
        tilt = 0.0
    else:
        ink_HW = rotate(ink_HW, tilt)
        labels_HW, parts = find_parts(ink_HW)
    parts, surplus = parts[:MAX_PARTS], parts[MAX_PARTS:]
    height, width = ink_HW.shape
    placement = Placement(picture_size, (width, height), scale, tilt)
    clear = [part for part in parts if part.is_clear]
    if single and clear:
        whole = trim(cut_out(clear, ink_HW, labels_HW))
        return only_digit(to_digit_image(whole, placement), ink_HW)
    usual = usual_height(parts)
    crossing = [part for part in clear if crosses_picture(part, ink_HW.shape, usual)]
    if len(crossing) == len(clear):
        crossing = []
    inside = [part for part in clear if part not in crossing]
    circles = find_circles(inside, labels_HW)
    lines, apart = arrange_lines([part for part in inside if part not in circles])
    points = find_points(ink_HW, lines)
    lines = [[part for part in line if part not in points] for line in lines]
    faint = [
        part
        for part in parts
        if not part.is_clear
        and (is_digit_sized(part, usual) or any(may_be_minus(part, line) for line in lines))
    ]
    left_out = [([part], POINT) for part in points]
    left_out += [
        ([part], "small, and apart from the digits") for part in apart if part not in points
    ]
    left_out += [([part], "around other ink") for part in circles]
    left_out += [([part], "faint: it may be writing") for part in faint]
    left_out += [([part], "from edge to edge of the picture") for part in crossing]
    if surplus:
        left_out.append((surplus, f"smaller than the {MAX_PARTS:,} largest parts"))
    return Segmentation(
        [build_line(line, ink_HW, labels_HW, placement, cut_width=cut_width) for line in lines],
        [
            LeftOut(to_digit_image(trim(cut_out(members, ink_HW, labels_HW)), placement), reason)
            for members, reason in left_out
        ],
        ink_HW,
        PICTURE_PRIOR,
    )


def rotate(ink_HW: GrayImage, tilt: float) -> GrayImage:
    """Rotate ink so that lines which descend by `tilt` radians become level; it grows to fit."""
    image = Image.fromarray(np.ascontiguousarray(ink_HW))
    rotated = image.rotate(math.degrees(tilt), Image.Resampling.BICUBIC, expand=True)
    return np.asarray(rotated).clip(0, 1)


def only_digit(digit: DigitImage, ink_HW: GrayImage) -> Segmentation:
    """The segmentation of a picture that is one digit, whatever it looks like."""
    line = TextLine(1, {(0, 1): digit}, {(0, 1): 1.0})
    return Segmentation([line], [], ink_HW, no_digit_prior=0.0)
