"""Contrast to ink: which pixels are strokes, and their connected parts.

Shapes: H rows, W columns.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.reading.background import MAD_TO_SD, MIN_CONTRAST, NOISE_SDS, quantile, remove_lines
from mnistcli.reading.decode import GrayImage, border_pixels

Labels = NDArray[np.int32]

# A part with less ink than this share of the main one is a speck.
SPECK_SHARE = 0.03
# Pixels above this share of the threshold count where they join some above it:
# faint stretches of a stroke do, the lines of squared paper do not.
HYSTERESIS = 0.65
# The lightest pen against the darkest. What is fainter is a watermark, or a line of the paper.
PEN_SHARE = 0.5
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


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
