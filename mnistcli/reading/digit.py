"""A digit in MNIST's format, with its place in the picture.

Shapes: H and W are 28.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnistcli.data.arrays import Box, GrayImage
from mnistcli.system.files import write_atomically


@dataclass(frozen=True, eq=False)
class DigitImage:
    """What the network is given for a digit, and where in the picture it is.

    Attributes:
        pixels_HW: uint8 (28, 28), 0 background to 255 ink.
        box: left, top, right, bottom of the ink in pixels of the whole upright
            picture; right and bottom are exclusive.
    """

    pixels_HW: NDArray[np.uint8]
    box: Box

    def ink(self) -> GrayImage:
        """The pixels as float32 (28, 28), 0 background to 1 ink."""
        return self.pixels_HW.astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class LeftOut:
    """Ink that is not read as a digit, and why."""

    image: DigitImage
    reason: str

    @property
    def box(self) -> Box:
        """Where it is in the picture, in pixels."""
        return self.image.box


@dataclass(frozen=True)
class Placement:
    """From pixels of the ink that is segmented to those of the whole upright picture.

    The ink is the picture scaled down by `scale` and rotated around its middle by `tilt`
    radians, so that lines descending by `tilt` become level.

    Attributes:
        picture_size: width and height of the picture.
        ink_size: those of the ink, which a rotation makes larger.
    """

    picture_size: tuple[int, int]
    ink_size: tuple[int, int]
    scale: float
    tilt: float = 0.0

    def to_picture(self, box: Box) -> Box:
        """The upright box around a box of the ink, rounded outwards, inside the picture."""
        left, top, right, bottom = box
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        points = []
        for x, y in ((left, top), (right, top), (left, bottom), (right, bottom)):
            u, v = x - self.ink_size[0] / 2, y - self.ink_size[1] / 2
            points.append((u * cos - v * sin, u * sin + v * cos))
        width, height = self.picture_size
        xs = [width / 2 + x * self.scale for x, _ in points]
        ys = [height / 2 + y * self.scale for _, y in points]
        # Rounding errors must not widen the box by a pixel.
        return (
            max(0, math.floor(min(xs) + 1e-6)),
            max(0, math.floor(min(ys) + 1e-6)),
            min(width, math.ceil(max(xs) - 1e-6)),
            min(height, math.ceil(max(ys) - 1e-6)),
        )


def save_digits(path: Path, digits: Sequence[DigitImage]) -> None:
    """Write digits side by side as a PNG file, light on dark, 28 pixels high.

    Raises:
        OSError: the file cannot be written.
    """
    strip = Image.fromarray(np.hstack([digit.pixels_HW for digit in digits]))
    write_atomically(path, lambda file: strip.save(file, "PNG"))
