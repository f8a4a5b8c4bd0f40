"""Is the ink darker or lighter than its background?

Shapes: H rows, W columns.
"""

import itertools

import numpy as np

from mnistcli.data.arrays import GrayImage

# No background is darker than this; without a bound its noise would be amplified.
DARKEST_BACKGROUND = 0.2
# The corners are background: ink there is this much less than with a mistaken polarity.
CORNER_CONTRAST = 0.1
# This many corners fit side by side along the picture's shorter side.
CORNERS_PER_SIDE = 10


def subtract_background(gray_HW: GrayImage, background_HW: GrayImage) -> GrayImage:
    """The contrast of each pixel to the background, (H, W); positive where ink is.

    Dark ink absorbs a share of the light that falls on the paper, and its contrast
    is that share: equal in the dim and in the bright corner of a photo.
    """
    darker_HW = background_HW - gray_HW
    if is_light_on_dark(darker_HW):
        return -darker_HW
    return np.asarray(darker_HW / np.maximum(background_HW, np.float32(DARKEST_BACKGROUND)))


def is_light_on_dark(darker_HW: GrayImage) -> bool:
    """Whether the strong differences are lighter than the background.

    Args:
        darker_HW: how much darker than the background each pixel is; negative if lighter.
    """
    return float((darker_HW * darker_HW * darker_HW).sum(dtype=np.float64)) < 0


def fills_corners(dark_HW: GrayImage, light_HW: GrayImage) -> bool:
    """Whether dark strokes fill three of the picture's corners much more than light ones do.

    If so, the strokes are light: a light digit cut out tightly. The edge of a table
    darkens only two corners.

    Args:
        dark_HW: the contrast of each pixel if strokes are dark.
        light_HW: the contrast if they are light.
    """
    excess_HW = dark_HW - light_HW
    reach = max(1, min(excess_HW.shape) // CORNERS_PER_SIDE)
    ends = (slice(reach), slice(-reach, None))
    corners = sorted(
        float(excess_HW[rows, columns].mean()) for rows, columns in itertools.product(ends, ends)
    )
    return corners[1] > CORNER_CONTRAST
