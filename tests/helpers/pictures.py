"""Pictures of real handwriting (scikit-learn's digits), and what the reader finds in them."""

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from sklearn.datasets import load_digits

from mnistcli.data.arrays import Box
from mnistcli.reading.batch import PictureResult, decode_data
from mnistcli.reading.digit import DigitImage
from mnistcli.reading.picture_ink import find_picture_ink
from mnistcli.reading.pipeline import Segmentation, segment_ink
from mnistcli.reading.predict import Networks, Reading, load_networks, read_pictures

# Of scikit-learn's images, 8x8 with values 0..16, one per class that everybody reads the same.
CLEAR = (0, 442, 12, 3, 4, 25, 6, 7, 8, 69)
# Mean absolute difference of two digits, in gray levels of 255.
SAME, SIMILAR = 1.0, 6.0


@cache
def glyph(label: str, height_px: int) -> Image.Image:
    """A clear handwritten digit, light on dark, square."""
    values_HW = load_digits().images[CLEAR[int(label)]]
    ink = Image.fromarray((values_HW * 15.9).astype(np.uint8))
    ink = ink.resize((height_px, height_px), Image.Resampling.BICUBIC)
    return ink.point([min(255, max(0, 4 * (v - 96))) for v in range(256)])


def thumbnail(label: str, side_px: int = 36) -> Image.Image:
    """A small picture of a digit, black on white."""
    return draw((label, 4, 3), height_px=side_px - 8, side_px=side_px)


def with_marks(label: str, num: int = 1) -> Image.Image:
    """A small picture of a digit with one or two marks of 4 pixels far to its right."""
    picture = draw((label, 0, 10), height_px=16, side_px=40)
    for top in (15, 27)[:num]:
        picture.paste(0, (35, top, 39, top + 4))
    return picture


def draw(*digits: tuple[str, int, int], height_px: int = 96, side_px: int = 200) -> Image.Image:
    """A square white picture with black digits, each given with its left and top."""
    picture = Image.new("L", (side_px, side_px))
    for label, left, top in digits:
        layer = Image.new("L", picture.size)
        layer.paste(glyph(label, height_px), (left, top))
        picture = ImageChops.lighter(picture, layer)
    return inverted(picture)


def written(*lines: str) -> Image.Image:
    """Lines of digits that do not touch, black on white."""
    picture = Image.new("L", (40 + 95 * max(map(len, lines)), 10 + 110 * len(lines)))
    for row, line in enumerate(lines):
        for column, label in enumerate(line):
            picture.paste(glyph(label, 80), (20 + 95 * column, 15 + 110 * row))
    return inverted(picture)


def touching(labels: str, *, overlap_px: int) -> Image.Image:
    """Digits pushed into each other, black on white."""
    glyphs = [glyph(label, 80) for label in labels]
    cropped = [ink.crop(ink.getbbox()) for ink in glyphs]
    picture = Image.new("L", (40 + sum(ink.width for ink in cropped), 120))
    left = 20
    for ink in cropped:
        layer = Image.new("L", picture.size)
        layer.paste(ink, (left, 20))
        picture = ImageChops.lighter(picture, layer)
        left += ink.width - overlap_px
    return inverted(picture)


def inverted(picture: Image.Image) -> Image.Image:
    return picture.point([255 - v for v in range(256)])


def to_array(picture: Image.Image) -> NDArray[np.float64]:
    """The pixels, 0 to 255."""
    return np.asarray(picture).astype(np.float64)


def to_picture(values: NDArray[Any]) -> Image.Image:
    """The picture of these gray levels or colors, cut off at 0 and 255."""
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def encoded(picture: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    """The content of a file with this picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


@cache
def networks() -> Networks:
    """The bundled networks."""
    return load_networks()


def decoded(picture: Image.Image | bytes, *, single: bool = False) -> PictureResult:
    """A picture or the content of a file, as far as it is read without a network."""
    data = picture if isinstance(picture, bytes) else encoded(picture)
    return decode_data(data, name="digits.png", single=single)


def reading_of(picture: Image.Image | bytes, *, single: bool = False) -> Reading:
    """What the bundled networks read in a picture."""
    [reading] = read_pictures([decoded(picture, single=single)], networks(), single=single)
    return reading


def read_text(picture: Image.Image | bytes) -> str:
    """The digits in a picture as the bundled networks read them."""
    return reading_of(picture).text


def digit_in(picture: Image.Image | bytes) -> DigitImage:
    """The only digit that is read in a picture."""
    [prediction] = reading_of(picture).predictions
    return prediction.digit


def segmentation_of(picture: Image.Image | bytes, *, single: bool = False) -> Segmentation:
    """The candidates for digits in a picture."""
    result = decoded(picture, single=single)
    if result.segmentation:
        return result.segmentation
    ink_HW = find_picture_ink(networks().finder, result.gray())
    return segment_ink(ink_HW, result.size, single=single)


def candidates_in(picture: Image.Image | bytes, *, single: bool = False) -> list[DigitImage]:
    """All candidates in a picture, line by line."""
    lines = segmentation_of(picture, single=single).lines
    return [image for line in lines for image in line.candidates.values()]


def difference(first: DigitImage, second: DigitImage) -> float:
    return float(np.abs(first.pixels_HW.astype(int) - second.pixels_HW).mean())


def box_distance(first: Box, second: Box) -> int:
    """How many pixels the sides of two boxes are apart at most."""
    return int(np.abs(np.subtract(first, second)).max())
