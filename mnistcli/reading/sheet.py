"""What surrounds the writing: a drawn border, a table around a sheet of paper.

Shapes: H rows, W columns.
"""

import numpy as np
from scipy import ndimage

from mnistcli.reading.arrays import GrayImage, Mask, border_pixels, quantile
from mnistcli.reading.background import FLAT_RANGE, MIN_PAGE_PX

# A border is at most this share of the picture wide, and differs by this much from what is inside.
BORDER_SHARE, BORDER_CONTRAST = 0.125, 0.1
# A sheet of paper has at least this share of the picture's area, and of its own box's.
SHEET_SHARE, SHEET_FILL = 0.1, 0.8


def remove_border(gray_HW: GrayImage) -> GrayImage:
    """Paint a drawn border, which has one level all around, like the background inside it."""
    edge_N = border_pixels(gray_HW, 0)
    level = edge_N[0]
    if float(np.ptp(edge_N)) > FLAT_RANGE:
        return gray_HW
    for width in range(1, 1 + int(BORDER_SHARE * min(gray_HW.shape))):
        ring_N = border_pixels(gray_HW, width)
        # The mean is quick and rules out most rings; ink that touches one shifts it too.
        if abs(float(ring_N.mean()) - level) < BORDER_CONTRAST / 2:
            continue
        ring_level = quantile(ring_N, 0.5)
        if abs(ring_level - level) > BORDER_CONTRAST:
            inside_HW = gray_HW[width:-width, width:-width]
            # Otherwise this is not a border but the margin of the paper, with a line around it.
            if abs(ring_level - quantile(inside_HW, 0.5)) < BORDER_CONTRAST:
                return np.pad(inside_HW, width, constant_values=ring_level)
            break
    return gray_HW


def find_sheet(contrast_HW: GrayImage) -> Mask | None:
    """The inside of a sheet of paper on a table, (H, W); None if there is none.

    A sheet contrasts with the table as ink does with paper, but it is one large part
    that fills its box, and there is writing on it. Thick digits fill their boxes too.
    """
    if max(contrast_HW.shape) < MIN_PAGE_PX:
        return None
    strong_HW = contrast_HW > quantile(contrast_HW[::4, ::4], 0.99) / 2
    if strong_HW.mean() < SHEET_SHARE:
        return None
    labels_HW, _ = ndimage.label(strong_HW)
    largest = 1 + int(np.bincount(labels_HW.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(labels_HW)[largest - 1]
    filled_HW = ndimage.binary_fill_holes(labels_HW[rows, columns] == largest)
    if filled_HW.sum() < SHEET_SHARE * contrast_HW.size or filled_HW.mean() < SHEET_FILL:
        return None
    sheet_HW = np.zeros(contrast_HW.shape, dtype=bool)
    sheet_HW[rows, columns] = filled_HW
    inside_HW = ndimage.binary_erosion(sheet_HW, iterations=2 + max(sheet_HW.shape) // 100)
    return inside_HW if inside_HW.any() and _has_writing(inside_HW, contrast_HW) else None


def _has_writing(inside_HW: Mask, contrast_HW: GrayImage) -> bool:
    """Whether the ink inside is clear of the edge, in strokes narrower than the paper around.

    Inside a thick digit, what stands out is either the blurred edge, which is all
    around, or the hole, which is as wide as the stroke.
    """
    offset_HW = np.abs(contrast_HW - quantile(contrast_HW[inside_HW], 0.5))
    ink_HW = inside_HW & (offset_HW > quantile(offset_HW[inside_HW], 0.995) / 2)
    if (ink_HW & ~ndimage.binary_erosion(inside_HW)).any():
        return False
    stroke_px = ndimage.distance_transform_edt(ink_HW).max()
    paper_px = ndimage.distance_transform_edt(inside_HW & ~ink_HW).max()
    return bool(2 * stroke_px < paper_px)


def remove_table(gray_HW: GrayImage, sheet_HW: Mask) -> GrayImage:
    """Paint everything outside the sheet as bright as the sheet."""
    return np.where(sheet_HW, gray_HW, np.float32(quantile(gray_HW[sheet_HW], 0.5)))
