"""Which pixels of a thumbnail are ink: threshold, connected components, specks, dark edges.

Shapes: H rows, W columns, K connected components (number 0 is the background), B bins.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.data.arrays import GrayImage, Labels, Mask, border_pixels, quantile
from mnistcli.reading.noise import visible_contrast
from mnistcli.reading.parts import EIGHT_NEIGHBORS

# A part with less ink than this share of the main one is a speck.
SPECK_SHARE = 0.03
# Pixels above this share of the threshold count if they are connected to some above it:
# faint stretches of a stroke are, the lines of squared paper are not.
HYSTERESIS = 0.65
# The faintest pen against the darkest. What is fainter is a watermark or a printed line.
PEN_SHARE = 0.5
# The darkest ink, without what is darker by noise: this quantile of what differs from the
# background. Full ink is this quantile of the strokes, whose blurred edges are paler.
DARKEST_QUANTILE, FULL_QUANTILE = 0.95, 0.75
# A contrast of at most this many SDs of the background's noise is no ink: 98 % of the noise is
# below.
NO_INK_SDS = 2
# What covers more than this share of the picture's edge is rather a table or a shadow.
LONG_EDGE_SHARE = 0.15
# In the choice of the main part, this share of the ink counts where a part touches the picture's
# edge, and where it covers a long stretch of it.
EDGE_WEIGHT, LONG_EDGE_WEIGHT = 0.25, 0.05
# Bins of the histogram for Otsu's threshold.
NUM_BINS = 128


def find_ink(contrast_HW: GrayImage, noise: float) -> tuple[GrayImage, Labels]:
    """The ink of each pixel, float32 (H, W), 0 background to 1 full ink; its connected components.

    Args:
        contrast_HW: positive where ink is.
        noise: the SD of the background's noise.
    """
    no_ink = np.zeros_like(contrast_HW), np.zeros(contrast_HW.shape, np.int32)
    visible = visible_contrast(noise)
    visible_N = contrast_HW[contrast_HW > visible]
    if not visible_N.size:
        return no_ink
    # With pens of two darknesses, Otsu's threshold would separate the pens.
    threshold = min(otsu(visible_N), PEN_SHARE * quantile(visible_N, DARKEST_QUANTILE))
    parts_HW = select_parts(contrast_HW, max(HYSTERESIS * threshold, visible), threshold)
    strong_N = contrast_HW[(parts_HW > 0) & (contrast_HW > threshold)]
    if not strong_N.size:
        return no_ink
    full = quantile(strong_N, FULL_QUANTILE)
    lowest = NO_INK_SDS * noise
    return np.clip((contrast_HW - lowest) / (full - lowest), 0, 1), parts_HW


def otsu(values_N: GrayImage) -> float:
    """The threshold that best separates the values into two classes (Otsu 1979)."""
    low, high = float(values_N.min()), float(values_N.max())
    if high - low < 1e-3:
        return low - 1e-3  # one level only: everything is above
    width = (high - low) / NUM_BINS
    bins_N = np.minimum((values_N - low) / width, NUM_BINS - 1).astype(np.intp)
    counts_B = np.bincount(bins_N, minlength=NUM_BINS)
    middle_B = low + width * (np.arange(NUM_BINS) + 0.5)
    below_B = np.cumsum(counts_B)[:-1]
    above_B = values_N.size - below_B
    sum_B = np.cumsum(counts_B * middle_B)
    # The first and the last bin are never empty, so neither class is.
    gap_B = sum_B[:-1] / below_B - (sum_B[-1] - sum_B[:-1]) / above_B
    between_B = below_B * above_B * gap_B**2
    return low + width * (1 + int(between_B.argmax()))


def select_parts(contrast_HW: GrayImage, low: float, high: float) -> Labels:
    """The connected components above `low` that may belong to a digit, (H, W).

    A part needs a pixel above `high` (hysteresis: Canny 1986).
    """
    labels_HW, num = ndimage.label(contrast_HW > low, EIGHT_NEIGHBORS)
    labels_N, contrast_N = labels_HW.ravel(), contrast_HW.ravel()
    strong_K = np.bincount(labels_N[contrast_N > high], minlength=num + 1) > 0
    ink_K = np.where(strong_K, np.bincount(labels_N, contrast_N, minlength=num + 1), 0.0)
    ink_K[0] = 0
    edge_K = edge_shares(labels_HW, num + 1)
    main = find_main_part(ink_K, edge_K)
    keep_K = drop_edge_parts(drop_specks(ink_K, main), edge_K, main)
    return np.where(keep_K[labels_HW], labels_HW, 0)


def edge_shares(labels_HW: Labels, num: int) -> NDArray[np.float64]:
    """The share of the picture's edge that each of `num` parts covers, (num,)."""
    edge_N = border_pixels(labels_HW, 0)
    return np.bincount(edge_N, minlength=num) / edge_N.size


def find_main_part(ink_K: NDArray[np.float64], edge_K: NDArray[np.float64]) -> int:
    """The part most surely of a digit: the one with the most ink, if clear of the edge."""
    weights_K = np.where(edge_K > 0, EDGE_WEIGHT, 1)
    weights_K[edge_K > LONG_EDGE_SHARE] = LONG_EDGE_WEIGHT
    return int((ink_K * weights_K).argmax())


def drop_specks(ink_K: NDArray[np.float64], main: int) -> Mask:
    """Which parts have enough ink against the main one, (K,)."""
    return np.asarray(ink_K > SPECK_SHARE * ink_K[main])


def drop_edge_parts(keep_K: Mask, edge_K: NDArray[np.float64], main: int) -> Mask:
    """`keep_K` without the parts along the picture's edge, unless the main one is one of them."""
    return np.asarray(keep_K & (edge_K <= LONG_EDGE_SHARE) if edge_K[main] == 0 else keep_K)
