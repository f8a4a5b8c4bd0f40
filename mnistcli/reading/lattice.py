"""A line of writing -> its fragments, and the candidates for digits that they make.

The ink is cut in more pieces than there are digits, and every run of neighbors is a candidate;
which of them are digits is decided by the network, in `predict.py` (over-segmentation:
Casey and Lecolinet 1996, A survey of methods and strategies in character segmentation).

Shapes: H rows, W columns.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mnistcli.data.arrays import Box, GrayImage, Labels, mask_box
from mnistcli.data.mnist_format import normalize_ink
from mnistcli.reading.cuts import find_cuts
from mnistcli.reading.digit import DigitImage, Placement
from mnistcli.reading.parts import LOW_INK, Part
from mnistcli.reading.text_lines import line_height

# A candidate has at most this many fragments, its width is at most this many times its height, and
# its upright gaps are at most this share of the line's height.
MAX_FRAGMENTS, MAX_ASPECT, MAX_GAP = 6, 1.7, 0.2
# The cuts tried in a part per line height of its width, the fewest and the most: more than needed,
# because the network chooses among them.
CUTS_PER_HEIGHT, MIN_CUTS, MAX_CUTS = 3, 2, 10
# A part lower than this share of the line is not cut; cut pieces with less of its ink are dust.
CUT_HEIGHT, PIECE_INK = 0.35, 0.01

# The first and the last (exclusive) fragment of a candidate.
Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Fragment:
    """Ink that is not cut any further, and where its top left corner is."""

    ink_HW: GrayImage
    left: int
    top: int

    @property
    def box(self) -> Box:
        """In pixels of the ink that it was cut from."""
        height, width = self.ink_HW.shape
        return self.left, self.top, self.left + width, self.top + height


@dataclass(frozen=True)
class TextLine:
    """A line's candidates, and their heights as a share of the line's."""

    num_fragments: int
    candidates: dict[Span, DigitImage]
    heights: dict[Span, float]


def build_line(
    line: list[Part],
    ink_HW: GrayImage,
    labels_HW: Labels,
    placement: Placement,
    *,
    cut_width: float,
) -> TextLine:
    """The lattice of a line's parts; `placement` tells where in the picture they are.

    Parts at least `cut_width` times as wide as high are cut.
    """
    height = line_height(line)
    fragments = [
        fragment
        for part in line
        for fragment in (
            cut_part(part, ink_HW, labels_HW, height)
            if part.width >= cut_width * part.height and part.height >= CUT_HEIGHT * height
            else [trim(cut_out([part], ink_HW, labels_HW))]
        )
    ]
    fragments.sort(key=lambda piece: piece.box[0] + piece.box[2])
    candidates, heights = {}, {}
    for first in range(len(fragments)):
        for end in range(first + 1, min(first + MAX_FRAGMENTS, len(fragments)) + 1):
            members = fragments[first:end]
            right = max((fragment.box[2] for fragment in members[:-1]), default=math.inf)
            if members[-1].left - right > MAX_GAP * height:
                break
            joined = join(members)
            rows, columns = joined.ink_HW.shape
            if end > first + 1 and columns > MAX_ASPECT * max(rows, height):
                break
            candidates[first, end] = to_digit_image(joined, placement)
            heights[first, end] = rows / height
    return TextLine(len(fragments), candidates, heights)


def cut_part(part: Part, ink_HW: GrayImage, labels_HW: Labels, height: float) -> list[Fragment]:
    """A part's fragments from the left: the whole part if there is nowhere to cut it."""
    whole = cut_out([part], ink_HW, labels_HW)
    max_cuts = min(MAX_CUTS, max(MIN_CUTS, round(CUTS_PER_HEIGHT * part.width / height)))
    cuts = find_cuts(whole.ink_HW, max_cuts)
    rows, columns = whole.ink_HW.shape
    column_1W = np.arange(columns)[None]
    pieces, start_H = [], np.zeros(rows, np.intp)
    for path_H in [*cuts, np.full(rows, columns)]:
        end_H = np.maximum(path_H, start_H)
        between_HW = (column_1W >= start_H[:, None]) & (column_1W < end_H[:, None])
        piece_HW = np.where(between_HW, whole.ink_HW, np.float32(0))
        if piece_HW.sum() > PIECE_INK * whole.ink_HW.sum() and piece_HW.max() > LOW_INK:
            pieces.append(trim(Fragment(piece_HW, whole.left, whole.top)))
        start_H = end_H
    return pieces


def cut_out(parts: list[Part], ink_HW: GrayImage, labels_HW: Labels) -> Fragment:
    """The ink of some parts with the blurred edges of their strokes, without that of others."""
    left, top, right, bottom = _around([part.box for part in parts])
    box = (
        slice(max(0, top - 1), bottom + 1),
        slice(max(0, left - 1), right + 1),
    )
    # For a few numbers, "sort" takes a seventh of the default's time.
    own_HW = np.isin(labels_HW[box], [part.number for part in parts], kind="sort")
    edge_HW = ndimage.maximum_filter(own_HW, 3) & (labels_HW[box] == 0)
    own_ink_HW = np.where(own_HW | edge_HW, ink_HW[box], np.float32(0))
    return Fragment(own_ink_HW, box[1].start, box[0].start)


def trim(fragment: Fragment) -> Fragment:
    """A fragment without rows and columns of hardly any ink at its edges."""
    left, top, right, bottom = mask_box(fragment.ink_HW > LOW_INK)
    ink_HW = fragment.ink_HW[top:bottom, left:right]
    return Fragment(ink_HW, fragment.left + left, fragment.top + top)


def join(fragments: list[Fragment]) -> Fragment:
    """The ink of several fragments together."""
    left, top, right, bottom = _around([fragment.box for fragment in fragments])
    ink_HW = np.zeros((bottom - top, right - left), np.float32)
    for fragment in fragments:
        x0, y0, x1, y1 = fragment.box
        part_HW = ink_HW[y0 - top : y1 - top, x0 - left : x1 - left]
        np.maximum(part_HW, fragment.ink_HW, out=part_HW)
    return Fragment(ink_HW, left, top)


def to_digit_image(fragment: Fragment, placement: Placement) -> DigitImage:
    """A fragment in MNIST's format, with its place in the picture."""
    return DigitImage(normalize_ink(fragment.ink_HW), placement.to_picture(fragment.box))


def _around(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
