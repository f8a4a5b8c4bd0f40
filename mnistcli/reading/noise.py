"""How much pixels differ where there is no ink: the noise of a picture.

Shapes: H rows, W columns.
"""

import math

import numpy as np

from mnistcli.data.arrays import GrayImage, quantile

# Differences below 4 % of the way from black to white are JPEG and sensor noise.
MIN_CONTRAST = 0.04
# A background with Gaussian noise stays within this many SDs of its level.
NOISE_SDS = 4.0
# The median distance from the level, times this, is the SD of Gaussian noise.
MAD_TO_SD = 1.48
# Noise is measured in about this many rows, which are enough for its median.
NUM_ROWS = 64


def pixel_noise(gray_HW: GrayImage) -> float:
    """The SD of the noise from pixel to pixel, which gradual light does not change."""
    some_rows_HW = gray_HW[:: max(1, len(gray_HW) // NUM_ROWS)]
    steps_N = np.abs(np.diff(some_rows_HW, axis=1)).ravel()
    return MAD_TO_SD * quantile(steps_N, 0.5) / math.sqrt(2) if steps_N.size else 0.0


def background_noise(contrast_HW: GrayImage) -> float:
    """The SD of the background's noise, measured on the side of its level opposite to the ink."""
    background_N = contrast_HW[contrast_HW <= 0]
    return MAD_TO_SD * quantile(-background_N, 0.5) if background_N.size else 0.0


def visible_contrast(noise: float) -> float:
    """The least contrast that is not taken for noise of this SD."""
    return max(MIN_CONTRAST, NOISE_SDS * noise)
