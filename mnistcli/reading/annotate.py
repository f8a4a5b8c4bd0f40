"""A picture with what is read drawn in: a box around every digit, and around what is left out."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mnistcli.data.arrays import Box
from mnistcli.reading.batch import read_file
from mnistcli.reading.decode import decode_upright
from mnistcli.reading.predict import Reading
from mnistcli.system.files import write_atomically

# Okabe and Ito's bluish green, orange and vermilion, which color-blind people can distinguish;
# those of `mnist draw` too.
READ, DOUBTED, LEFT_OUT = (0, 158, 115), (230, 159, 0), (213, 94, 0)
# Line width and height of the text as shares of the picture's longer side; the least height.
LINE_SHARE, TEXT_SHARE, MIN_TEXT_PX = 1 / 400, 1 / 40, 10
# Between a line and the ink, in line widths: a box around a straight 1 would hide it.
GAP = 2


def annotate(image: Image.Image, reading: Reading) -> Image.Image:
    """An RGB copy of the upright picture with the boxes of a reading and its digits above them.

    Green: read; orange: read with a doubt; red: left out.
    """
    annotated = image.convert("RGB")
    draw = ImageDraw.Draw(annotated)
    longest_px = max(image.size)
    width_px = max(1, round(LINE_SHARE * longest_px))
    font = ImageFont.load_default(max(MIN_TEXT_PX, TEXT_SHARE * longest_px))
    for prediction in reading.predictions:
        color = DOUBTED if prediction.doubt else READ
        left, top = _draw_box(draw, prediction.digit.box, color, width_px)
        height = font.getbbox(prediction.label)[3]
        draw.text((left, max(0, top - height - width_px)), prediction.label, color, font)
    for left_out in reading.left_out:
        _draw_box(draw, left_out.box, LEFT_OUT, width_px)
    return annotated


def _draw_box(
    draw: ImageDraw.ImageDraw, box: Box, color: tuple[int, int, int], width_px: int
) -> tuple[int, int]:
    """Draw a box around ink, as far as the picture reaches; its left and top."""
    margin_px = (GAP + 1) * width_px
    left, top = (max(0, side - margin_px) for side in box[:2])
    right, bottom = (
        min(end, side + margin_px) - 1 for side, end in zip(box[2:], draw.im.size, strict=True)
    )
    draw.rectangle((left, top, right, bottom), outline=color, width=width_px)
    return left, top


def save_annotated(path: Path, picture: str, reading: Reading) -> None:
    """Write a picture file that was read, annotated, as PNG.

    Raises:
        DataError: the picture has been changed meanwhile, and cannot be read.
        OSError: the file cannot be written.
    """
    annotated = annotate(decode_upright(read_file(picture), name=picture), reading)
    write_atomically(path, lambda file: annotated.save(file, "PNG"))
