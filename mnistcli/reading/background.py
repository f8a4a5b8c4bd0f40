"""How bright the background of a thumbnail is under the ink: paper, in any light.

Shapes: H rows, W columns, N pixels, T terms of a surface.
"""

from functools import lru_cache

import numpy as np

from mnistcli.data.arrays import GrayImage, Mask, border_pixels, quantile
from mnistcli.reading.noise import MAD_TO_SD, MIN_CONTRAST, NOISE_SDS, pixel_noise
from mnistcli.reading.polarity import fills_corners

# A background whose pixels differ less was drawn, not photographed.
FLAT_RANGE = 1.5 / 255
# If this share of the outer pixels differs from their median, the median may be the ink's level.
MIXED_SHARE = 0.4
# Pixels are outer ones beyond this share of the way from the middle to the edge.
OUTER = 0.9
# A surface fits if this quantile of the outer pixels is as near to it as noise allows: the rest
# may be ink.
FITTING_QUANTILE = 0.9
# The surface is fitted this many times, to the pixels within this many SDs of the last one.
NUM_FITS, NEAR_SDS = 8, 2.5
# A border is at most this share of the picture wide, and differs by this much from what is inside.
BORDER_SHARE, BORDER_CONTRAST = 0.125, 0.1


def estimate_background(gray_HW: GrayImage) -> GrayImage:
    """The brightness that the background would have without ink, (H, W).

    Drawings have one level. On photos the light falls off gradually, which a quadratic surface
    describes. Where the outer pixels do not fit it, there is ink all around: the brightest or
    the darkest pixel is background.
    """
    terms_TN = quadratic_terms(*gray_HW.shape).reshape(6, -1)
    is_outer_N = np.abs(terms_TN[1:3]).max(axis=0) > OUTER
    outer_N = gray_HW.ravel()[is_outer_N]
    tolerance = MIN_CONTRAST + NOISE_SDS * pixel_noise(gray_HW)
    level = quantile(outer_N, 0.5)
    distance_N = np.abs(outer_N - level)
    if quantile(distance_N, 0.5) < FLAT_RANGE and np.mean(distance_N > tolerance) < MIXED_SHARE:
        return np.full_like(gray_HW, level)
    weights_T = fit_surface(terms_TN, gray_HW.ravel(), is_outer_N)
    distance_N = np.abs(outer_N - weights_T @ terms_TN[:, is_outer_N])
    if quantile(distance_N, FITTING_QUANTILE) > tolerance:
        light = fills_corners(gray_HW.max() - gray_HW, gray_HW - gray_HW.min())
        return np.full_like(gray_HW, gray_HW.min() if light else gray_HW.max())
    return (weights_T @ terms_TN).reshape(gray_HW.shape)


# Kept for the last size, because most pictures of a batch have the same.
@lru_cache(maxsize=1)
def quadratic_terms(height: int, width: int) -> GrayImage:
    """1, x, y, xy, x², y² with x and y from -1 to 1, float32 (6, H, W)."""
    y_HW, x_HW = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32),
        np.linspace(-1, 1, width, dtype=np.float32),
        indexing="ij",
    )
    return np.stack([np.ones_like(x_HW), x_HW, y_HW, x_HW * y_HW, x_HW**2, y_HW**2])


def fit_surface(terms_TN: GrayImage, gray_N: GrayImage, is_outer_N: Mask) -> GrayImage:
    """Fit the background's brightness as a weighted sum of `terms_TN`; the weights, (T,).

    The fit starts from the median of the outer pixels, where there is seldom ink,
    and is repeated with the pixels that are near the last surface.
    """
    surface_N = np.full_like(gray_N, quantile(gray_N[is_outer_N], 0.5))
    weights_T = np.zeros(len(terms_TN), dtype=np.float32)
    for _ in range(NUM_FITS):
        distance_N = np.abs(gray_N - surface_N)
        spread = MAD_TO_SD * quantile(distance_N[is_outer_N], 0.5)
        is_near_N = distance_N <= max(MIN_CONTRAST / 2, NEAR_SDS * spread)
        weights_T = np.linalg.lstsq(terms_TN[:, is_near_N].T, gray_N[is_near_N])[0]
        surface_N = weights_T @ terms_TN
    return weights_T


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
