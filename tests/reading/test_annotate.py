"""Boxes and digits drawn into a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from mnistcli.data.arrays import Box
from mnistcli.reading.annotate import DOUBTED, LEFT_OUT, READ, annotate, save_annotated
from mnistcli.reading.digit import DigitImage, LeftOut
from mnistcli.reading.predict import Prediction, Reading
from tests.helpers.pictures import reading_of, written

SEVEN_HW = np.zeros((28, 28), np.uint8)
SEVEN_HW[4:7, 8:19] = SEVEN_HW[4:24, 16:19] = 255


def seven(box: Box, *, share: float = 1.0) -> Prediction:
    probabilities = dict.fromkeys("012345689", (1 - share) / 9) | {"7": share}
    return Prediction(probabilities, DigitImage(SEVEN_HW, box), 0, 1.0)


def outline(image: Image.Image, box: Box, margin: int = 3) -> set[object]:
    """The colors of the outermost pixels of the box that is drawn `margin` pixels around ink."""
    left, top = box[0] - margin, box[1] - margin
    right, bottom = box[2] + margin, box[3] + margin
    sides = [(x, y) for x in (left, right - 1) for y in range(top, bottom)]
    sides += [(x, y) for x in range(left, right) for y in (top, bottom - 1)]
    return {image.getpixel(place) for place in sides}


def test_every_box_has_the_color_of_what_became_of_it() -> None:
    picture = Image.new("L", (200, 100), 255)
    read, doubted, left_out = (20, 30, 50, 80), (70, 30, 100, 80), (150, 40, 180, 60)
    reading = Reading(
        [seven(read), seven(doubted, share=0.2)],
        [LeftOut(DigitImage(SEVEN_HW, left_out), "no digit")],
        np.zeros((100, 200), np.float32),
    )
    annotated = annotate(picture, reading)
    assert (annotated.mode, annotated.size) == ("RGB", (200, 100))
    assert outline(annotated, read) == {READ}
    assert outline(annotated, doubted) == {DOUBTED}
    assert outline(annotated, left_out) == {LEFT_OUT}
    pixels_HWC = np.asarray(annotated)
    assert (pixels_HWC[12:27, 17:50] != 255).any(), "the digit is above its box"
    assert (pixels_HWC[28:82, 18:52] == 255).all(), "a gap of two pixels around the ink"
    assert (pixels_HWC[20:37, 150:180] == 255).all()


def test_a_straight_one_is_not_hidden_by_its_box() -> None:
    page = Image.new("L", (200, 100), 255)
    stroke = (98, 20, 101, 80)
    page.paste(0, stroke)
    annotated = annotate(page, Reading([seven(stroke)], [], np.zeros((1, 1), np.float32)))
    assert outline(annotated, stroke) == {READ}
    around = (96, 18, 103, 82)
    assert annotated.crop(around).tobytes() == page.convert("RGB").crop(around).tobytes()


def test_a_box_at_the_edge_stays_within_the_picture() -> None:
    page = Image.new("L", (60, 40), 255)
    whole = (0, 0, 60, 40)
    annotated = annotate(page, Reading([seven(whole)], [], np.zeros((1, 1), np.float32)))
    assert outline(annotated, whole, margin=0) >= {READ}
    assert annotated.getpixel((59, 39)) == READ


def test_lines_are_wider_in_a_large_picture() -> None:
    picture = Image.new("RGB", (2000, 1000), "white")
    annotated = annotate(
        picture, Reading([seven((500, 300, 700, 600))], [], np.zeros((1, 1), np.float32))
    )
    column_H3 = np.asarray(annotated)[400:500, 480:500].reshape(-1, 3)
    assert 100 * 3 <= (column_H3 != 255).any(axis=1).sum() <= 100 * 8


def test_a_rotated_photo_is_annotated_upright(tmp_path: Path) -> None:
    picture, exif = written("42"), Image.Exif()
    exif[0x0112] = 6
    photo = picture.transpose(Image.Transpose.ROTATE_90)
    path = tmp_path / "photo.jpg"
    photo.save(path, exif=exif, quality=95)
    reading = reading_of(path.read_bytes())
    assert reading.text == "42"
    save_annotated(tmp_path / "boxes.png", str(path), reading)
    with Image.open(tmp_path / "boxes.png") as annotated:
        assert annotated.size == picture.size
        for prediction in reading.predictions:
            color = DOUBTED if prediction.doubt else READ
            width = max(1, round(max(picture.size) / 400))
            assert outline(annotated, prediction.digit.box, 3 * width) == {color}
