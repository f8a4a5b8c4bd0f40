"""Digits that touch: where wide ink may be cut, and every way to cut it there.

Shapes: H rows, W columns.
"""

import itertools
from collections.abc import Iterator, Sequence

from scipy import ndimage

from mnistcli.reading.arrays import GrayImage
from mnistcli.reading.segment import Piece

# If ink is wider than high by this factor, it may be several digits. Each of them is at least
# so wide against its height, and at most so many cuts are tried.
WIDE, PIECE_WIDTH, MAX_CUTS = 1.1, 0.2, 5
# Ink that is nowhere darker is the edge of a stroke, not a digit.
STROKE_INK = 0.5


def cut_touching(piece: Piece) -> list[tuple[Piece, ...]]:
    """The segmentations of a piece of ink, first the uncut one; each is ordered from the left.

    Which of them is right is decided by the network, in `predict.py`.
    """
    columns = [0, *find_cuts(piece.ink_HW), piece.ink_HW.shape[1]]
    pieces = {span: piece.columns(*span) for span in itertools.combinations(columns, 2)}
    uncut, *cut = (tuple(pieces[span] for span in spans) for spans in enumerate_spans(columns))
    return [uncut, *(parts for parts in cut if all(p.ink_HW.max() > STROKE_INK for p in parts))]


def find_cuts(ink_HW: GrayImage) -> list[int]:
    """The columns where digits that touch may meet, from the left; none if the ink is not wide.

    They have the least ink of their surroundings; the `MAX_CUTS` thinnest are taken.
    """
    height, width = ink_HW.shape
    if width < WIDE * height:
        return []
    reach = max(1, round(PIECE_WIDTH * height))
    ink_W = ndimage.uniform_filter1d(ink_HW.sum(axis=0), max(1, height // 12))
    least_W = ndimage.minimum_filter1d(ink_W, 2 * (reach // 2) + 1)
    minima = [x for x in range(reach, width - reach) if ink_W[x] == least_W[x]]
    apart = [x for n, x in enumerate(minima) if n == 0 or x - minima[n - 1] > 1]
    return sorted(sorted(apart, key=lambda x: ink_W[x])[:MAX_CUTS])


def enumerate_spans(columns: Sequence[int]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every way to divide first to last column at some of those between, fewest cuts first."""
    first, *inner, last = columns
    for num_cuts in range(len(inner) + 1):
        for cuts in itertools.combinations(inner, num_cuts):
            yield tuple(itertools.pairwise((first, *cuts, last)))
