"""Pictures of real handwriting (scikit-learn's digits), and what the reader finds in them."""

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops
from sklearn.datasets import load_digits

from mnistcli.reading.decode import decode_picture
from mnistcli.reading.digit import DigitImage, Segmentations
from mnistcli.reading.pipeline import PipelineSteps, run_pipeline
from mnistcli.reading.predict import predict_digits, predictions_to_text
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, LoadedModel, load_checkpoint

# Of scikit-learn's images, 8x8 with values 0..16, one per class that everybody reads the same.
CLEAR = (0, 298, 12, 3, 4, 25, 6, 7, 8, 69)
# Mean absolute difference of two digits, in gray levels of 255.
SAME, SIMILAR = 1.0, 6.0


@cache
def glyph(label: str, height_px: int) -> Image.Image:
    """A clear handwritten digit, light on dark, square."""
    values_HW = load_digits().images[CLEAR[int(label)]]
    ink = Image.fromarray((values_HW * 15.9).astype(np.uint8))
    ink = ink.resize((height_px, height_px), Image.Resampling.BICUBIC)
    return ink.point([min(255, max(0, 4 * (v - 96))) for v in range(256)])


def draw(*digits: tuple[str, int, int], height_px: int = 96, side_px: int = 200) -> Image.Image:
    """A square white page with black digits, each given with its left and top."""
    page = Image.new("L", (side_px, side_px))
    for label, left, top in digits:
        layer = Image.new("L", page.size)
        layer.paste(glyph(label, height_px), (left, top))
        page = ImageChops.lighter(page, layer)
    return inverted(page)


def written(*lines: str) -> Image.Image:
    """Lines of digits that do not touch, black on white."""
    page = Image.new("L", (40 + 95 * max(map(len, lines)), 10 + 110 * len(lines)))
    for row, line in enumerate(lines):
        for column, label in enumerate(line):
            page.paste(glyph(label, 80), (20 + 95 * column, 15 + 110 * row))
    return inverted(page)


def touching(labels: str, *, overlap_px: int) -> Image.Image:
    """Digits pushed into each other, black on white."""
    glyphs = [glyph(label, 80) for label in labels]
    cropped = [ink.crop(ink.getbbox()) for ink in glyphs]
    page = Image.new("L", (40 + sum(ink.width for ink in cropped), 120))
    left = 20
    for ink in cropped:
        layer = Image.new("L", page.size)
        layer.paste(ink, (left, 20))
        page = ImageChops.lighter(page, layer)
        left += ink.width - overlap_px
    return inverted(page)


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


def steps_of(picture: Image.Image | bytes, *, single: bool = False) -> PipelineSteps:
    """What the reader makes of a picture or of a file's content."""
    data = picture if isinstance(picture, bytes) else encoded(picture)
    return run_pipeline(decode_picture(data, name="digits.png"), single=single)


def segmentations_in(picture: Image.Image, *, single: bool = False) -> list[Segmentations]:
    return steps_of(picture, single=single).digits


def digit_in(picture: Image.Image | bytes) -> DigitImage:
    """The only digit in a picture, uncut."""
    [segmentations] = steps_of(picture).digits
    [digit] = segmentations[0]
    return digit


def difference(first: DigitImage, second: DigitImage) -> float:
    return float(np.abs(first.pixels_HW.astype(int) - second.pixels_HW).mean())


@cache
def bundled() -> LoadedModel:
    return load_checkpoint(BUNDLED_CHECKPOINT)


def read_text(picture: Image.Image) -> str:
    """The digits in a picture as the bundled network reads them."""
    [predictions] = predict_digits([bundled()], [segmentations_in(picture)])
    return predictions_to_text(predictions)
