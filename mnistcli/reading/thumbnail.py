"""The ink in a thumbnail: a picture of about one digit's size.

What differs from its background is ink.

Shapes: H rows, W columns.
"""

import numpy as np
from scipy import ndimage

from mnistcli.data.arrays import GrayImage
from mnistcli.data.mnist_format import is_mnist_format
from mnistcli.reading.background import estimate_background, remove_border
from mnistcli.reading.ink import find_ink
from mnistcli.reading.noise import background_noise
from mnistcli.reading.polarity import subtract_background

# A picture with a longer side is not a thumbnail.
MAX_SIDE_PX = 40


def find_thumbnail_ink(gray_HW: GrayImage) -> tuple[GrayImage, bool]:
    """The ink, 0 background to 1 full ink, float32 (H, W); whether it has MNIST's format."""
    gray_HW = remove_border(gray_HW)
    contrast_HW = subtract_background(gray_HW, estimate_background(gray_HW))
    if is_mnist_format(contrast_HW):
        return contrast_HW, True
    ink_HW, parts_HW = find_ink(contrast_HW, background_noise(contrast_HW))
    # One pixel more all around: the blurred edges of the strokes.
    return np.where(ndimage.maximum_filter(parts_HW, 3) > 0, ink_HW, np.float32(0)), False
