"""A digit in MNIST's format, with its place in the picture.

Shapes: H and W are 28.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnistcli.reading.arrays import Box, GrayImage
from mnistcli.system.files import write_atomically


@dataclass(frozen=True, eq=False)
class DigitImage:
    """What the network is given for a digit, and where in the picture it is.

    Attributes:
        pixels_HW: uint8 (28, 28), 0 background to 255 ink.
        box: left, top, right, bottom of the ink in pixels of the whole upright
            picture; right and bottom are exclusive.
        line: the text line, from 0.
    """

    pixels_HW: NDArray[np.uint8]
    box: Box
    line: int = 0

    def ink(self) -> GrayImage:
        """The pixels as float32 (28, 28), 0 background to 1 ink."""
        return self.pixels_HW.astype(np.float32) / np.float32(255)


# One way to cut a piece of ink into digits, from the left.
Segmentation = tuple[DigitImage, ...]
# Every way that is considered, one or more; first the piece uncut, as one digit.
Segmentations = tuple[Segmentation, ...]


def save_digits(path: Path, digits: Sequence[DigitImage]) -> None:
    """Write digits side by side as a PNG file, light on dark, 28 pixels high.

    Raises:
        OSError: the file cannot be written.
    """
    strip = Image.fromarray(np.hstack([digit.pixels_HW for digit in digits]))
    write_atomically(path, lambda file: strip.save(file, "PNG"))
