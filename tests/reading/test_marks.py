"""Points, commas, colons and minus signs in numbers are told as left out."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnistcli.reading.parts import find_parts, find_points
from mnistcli.synthesis.pen_digits import draw_digit, render_strokes
from tests.helpers.pictures import draw, reading_of

SIZE_PX, TOP_PX, PEN_PX = 46, 25, 3.6


def write_number(text: str, *, dot_px: int = 5, scale: int = 1) -> Image.Image:
    """A number with pen digits about 46 pixels high, dots and dashes, dark on light.

    It is enlarged by `scale`.
    """
    rng = np.random.default_rng(2)
    ink_HW, x = np.zeros((110, 60 + 60 * len(text)), np.float32), 20
    for character in text:
        if character.isdigit():
            digit_HW = render_strokes(
                draw_digit(int(character), rng), size_px=SIZE_PX, pen_px=PEN_PX
            )
            height, width = digit_HW.shape
            ink_HW[TOP_PX : TOP_PX + height, x : x + width] = digit_HW
        else:
            base, middle = TOP_PX + SIZE_PX, TOP_PX + SIZE_PX // 2
            height = 4 if character == "-" else dot_px
            width = 18 if character == "-" else dot_px
            tops = {"-": [middle], ".": [base], ":": [base, middle - 4]}[character]
            for top in tops:
                ink_HW[top : top + height, x : x + width] = 1
        x += width + 7
    pixels_HW = np.rint(240 - 190 * ink_HW[:, : x + 15]).astype(np.uint8)
    return Image.fromarray(pixels_HW.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize(
    ("text", "num_marks"),
    [("12.50", 1), ("3.75", 1), ("-375", 1), ("-3.75", 2), ("12:50", 2), ("1250", 0), ("4207", 0)],
)
def test_marks_in_a_number_are_told(text: str, num_marks: int) -> None:
    reading = reading_of(write_number(text))
    assert reading.text == "".join(filter(str.isdigit, text))
    assert len(reading.left_out) == num_marks
    assert bool(reading.doubts) >= bool(num_marks)


@pytest.mark.parametrize("dot_px", [3, 5, 8])
@pytest.mark.parametrize("scale", [1, 3])
def test_a_point_of_any_size_is_told_where_it_is(dot_px: int, scale: int) -> None:
    reading = reading_of(write_number("12.50", dot_px=dot_px, scale=scale))
    (mark,) = reading.left_out
    second, third = (reading.predictions[n].digit.box for n in (1, 2))
    assert second[2] - 2 * scale <= mark.box[0] < mark.box[2] <= third[0] + 2 * scale


@pytest.mark.parametrize("dot_px", [3, 5, 8])
def test_a_colon_of_any_size_is_no_part_of_a_digit(dot_px: int) -> None:
    reading = reading_of(write_number("12:50", dot_px=dot_px))
    assert reading.text == "1250"
    assert len(reading.left_out) == 2


def test_dust_is_a_point_only_in_the_lower_part_of_a_narrow_gap() -> None:
    for (x, y), num in (((30, 45), 1), ((30, 10), 0), ((30, 90), 0), ((5, 45), 0), ((90, 45), 0)):
        ink_HW = np.zeros((120, 160), np.float32)
        ink_HW[10:50, 10:20] = ink_HW[10:50, 40:50] = ink_HW[10:50, 130:140] = 1
        ink_HW[y : y + 4, x : x + 4] = 1
        _, parts = find_parts(ink_HW)
        assert len(parts) == 3
        assert len(find_points(ink_HW, [parts])) == num


@pytest.mark.parametrize("label", ["0", "5"])
def test_a_circle_around_a_digit_is_left_out(label: str) -> None:
    picture = draw((label, 75, 70), height_px=70)
    ImageDraw.Draw(picture).ellipse((40, 40, 165, 165), outline=0, width=5)
    reading = reading_of(picture)
    assert reading.text == label
    assert [part.reason for part in reading.left_out] == ["around other ink"]
