"""Lines printed on the paper: ruled, squared, or a frame.

Shapes: H rows, W columns.
"""

import numpy as np
from scipy import ndimage

from mnistcli.reading.arrays import GrayImage, Mask, quantile
from mnistcli.reading.background import MIN_PAGE_PX

# A ruled line covers this share of the picture's width, extends beyond all other ink by this
# share at both ends, which no stroke of a digit does, and is at most this share thick.
LINE_SHARE, LINE_OVERHANG, LINE_THICKNESS = 0.8, 0.04, 0.03
# Ink that is darker than a line by this factor is not part of it.
DARKER_THAN_LINE = 1.3


def remove_ruled_lines(contrast_HW: GrayImage, visible: float) -> GrayImage:
    """Set ruled lines to no contrast, except where strokes cross them.

    Ruled lines are straight, level or upright, thin, and longer than the writing is wide.

    Args:
        contrast_HW: positive where ink is.
        visible: the least contrast that is not noise.
    """
    if max(contrast_HW.shape) < MIN_PAGE_PX:
        return contrast_HW
    mask_HW = contrast_HW > visible
    rows_H, columns_W = find_line_rows(mask_HW), find_line_rows(mask_HW.T)
    if not rows_H.any() and not columns_W.any():
        return contrast_HW
    other_HW = mask_HW & ~(_with_edges(rows_H)[:, None] | _with_edges(columns_W)[None, :])
    without_rows_HW = erase_rows(contrast_HW, rows_H, mask_HW, other_HW)
    return erase_rows(without_rows_HW.T, columns_W, mask_HW.T, other_HW.T).T


def find_line_rows(mask_HW: Mask) -> Mask:
    """The rows covered by ink over `LINE_SHARE` of their length, (H,), if few are adjacent."""
    labels_H, _ = ndimage.label(mask_HW.mean(axis=1) >= LINE_SHARE)
    thickness_K = np.bincount(labels_H)
    thickness_K[0] = 0
    thin_K = (thickness_K > 0) & (thickness_K <= max(2, LINE_THICKNESS * max(mask_HW.shape)))
    return np.asarray(thin_K[labels_H])


def _with_edges(lines_N: Mask) -> Mask:
    """The lines with their blurred edges."""
    return np.asarray(ndimage.binary_dilation(lines_N, iterations=2))


def erase_rows(contrast_HW: GrayImage, rows_H: Mask, mask_HW: Mask, other_HW: Mask) -> GrayImage:
    """Erase these rows if they extend beyond the other ink at both ends.

    Where there is other ink above and below, or ink much darker than the line, a
    stroke crosses the line and is kept.
    """
    line, other = (np.flatnonzero(ink_HW.any(axis=0)) for ink_HW in (mask_HW[rows_H], other_HW))
    overhang = LINE_OVERHANG * mask_HW.shape[1]
    if not line.size or not other.size or min(other[0] - line[0], line[-1] - other[-1]) < overhang:
        return contrast_HW
    reach = 5 + int(np.bincount(ndimage.label(rows_H)[0])[1:].max())
    padded_HW = np.pad(other_HW, ((reach, reach), (0, 0)))
    crossed_HW = ndimage.binary_closing(padded_HW, np.ones((reach, 1)))[reach:-reach]
    darker_HW = contrast_HW > DARKER_THAN_LINE * quantile(contrast_HW[rows_H][mask_HW[rows_H]], 0.5)
    erased_HW = _with_edges(rows_H)[:, None] & ~(crossed_HW | darker_HW)
    return np.where(erased_HW, np.minimum(contrast_HW, 0), contrast_HW)
