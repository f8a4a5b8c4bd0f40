"""How bright the background is under the ink: paper, in any light.

Shapes: H rows, W columns, N sampled pixels, T terms of a surface.
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from mnistcli.reading.arrays import GrayImage, Mask, quantile
from mnistcli.reading.noise import MAD_TO_SD, MIN_CONTRAST, NOISE_SDS, pixel_noise
from mnistcli.reading.polarity import fills_corners

# A background whose pixels differ less was drawn, not photographed.
FLAT_RANGE = 1.5 / 255
# If this share of the outer pixels differs from their median, the median may be the ink's level.
MIXED_SHARE = 0.4
# What is darker than its surroundings over this share of the picture is a shadow, not a stroke.
SHADOW_SHARE = 0.25
# In smaller pictures shadows, sheets and ruled lines cannot be distinguished from strokes.
MIN_PAGE_PX = 64


def estimate_background(gray_HW: GrayImage) -> GrayImage:
    """The brightness that the background would have without ink, (H, W).

    Drawings have one level. On photos the light falls off gradually, which a
    quadratic surface describes, unless the outer pixels do not fit it: a shadow
    with an edge, a table around the sheet, ink all around.
    """
    step_y, step_x = (max(1, side_px // 64) for side_px in gray_HW.shape)
    sample_HW = gray_HW[::step_y, ::step_x]
    terms_TN = quadratic_terms(*gray_HW.shape, step_y, step_x).reshape(6, -1)
    is_outer_N = np.abs(terms_TN[1:3]).max(axis=0) > 0.9
    outer_N = sample_HW.ravel()[is_outer_N]
    tolerance = MIN_CONTRAST + NOISE_SDS * pixel_noise(gray_HW)
    level = quantile(outer_N, 0.5)
    distance_N = np.abs(outer_N - level)
    if quantile(distance_N, 0.5) < FLAT_RANGE and np.mean(distance_N > tolerance) < MIXED_SHARE:
        return np.full_like(gray_HW, level)
    weights_T = fit_surface(terms_TN, sample_HW.ravel(), is_outer_N)
    distance_N = np.abs(outer_N - weights_T @ terms_TN[:, is_outer_N])
    if quantile(distance_N, 0.9) > tolerance:
        return background_around_strokes(gray_HW, tolerance)
    return np.tensordot(weights_T, quadratic_terms(*gray_HW.shape), axes=1)


# The sampled and the full terms for the last picture's size.
@lru_cache(maxsize=2)
def quadratic_terms(height: int, width: int, step_y: int = 1, step_x: int = 1) -> GrayImage:
    """1, x, y, xy, x², y² with x and y from -1 to 1, float32 (6, H, W).

    With steps, only every `step_y`th row and `step_x`th column.
    """
    y_HW, x_HW = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32)[::step_y],
        np.linspace(-1, 1, width, dtype=np.float32)[::step_x],
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
    for _ in range(8):
        distance_N = np.abs(gray_N - surface_N)
        spread = MAD_TO_SD * quantile(distance_N[is_outer_N], 0.5)
        is_near_N = distance_N <= max(MIN_CONTRAST / 2, 2.5 * spread)
        weights_T = np.linalg.lstsq(terms_TN[:, is_near_N].T, gray_N[is_near_N])[0]
        surface_N = weights_T @ terms_TN
    return weights_T


def background_around_strokes(gray_HW: GrayImage, tolerance: float) -> GrayImage:
    """The brightness around the strokes, (H, W), dark or light, without a model of the light."""
    for_dark_HW = fill_dark_strokes(gray_HW, tolerance)
    for_light_HW = 1 - fill_dark_strokes(1 - gray_HW, tolerance)
    light = fills_corners(for_dark_HW - gray_HW, gray_HW - for_light_HW)
    return for_light_HW if light else for_dark_HW


def fill_dark_strokes(gray_HW: GrayImage, tolerance: float) -> GrayImage:
    """The picture with its dark strokes filled, but not its shadows, (H, W).

    A closing (the minimum of the maxima nearby: Serra 1982) fills what is dark and
    narrow. Noise raises it, so the picture is smoothed first, and the closing is
    lowered by its usual distance from the pixels within `tolerance`. In a small
    picture strokes are as wide as shadows: everything is filled.
    """
    if max(gray_HW.shape) < MIN_PAGE_PX:
        return np.full_like(gray_HW, gray_HW.max())
    window_px = max(3, round(SHADOW_SHARE * max(gray_HW.shape)))
    smooth_HW = ndimage.gaussian_filter(gray_HW, max(gray_HW.shape) / 400)
    closed_HW = ndimage.grey_closing(smooth_HW, size=(window_px, window_px))
    raised_HW = closed_HW - gray_HW
    raised_N = raised_HW[raised_HW < tolerance]
    return np.asarray(closed_HW - quantile(raised_N, 0.5) if raised_N.size else closed_HW)
