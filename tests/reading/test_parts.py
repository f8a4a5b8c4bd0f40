"""Connected parts of ink, the usual height of digits, and the tilt of the writing."""

import math

import numpy as np
import pytest

from mnistcli.data.arrays import Box
from mnistcli.reading.parts import estimate_tilt, find_parts, is_digit_sized, usual_height
from tests.helpers.ink import bars, boxes_of, parts_of

DIGIT, NEXT = (10, 10, 30, 50), (40, 12, 60, 52)


def test_parts_have_their_numbers_and_boxes() -> None:
    labels_HW, found = find_parts(bars(DIGIT, NEXT))
    assert sorted(boxes_of(found)) == [DIGIT, NEXT]
    for part in found:
        left, top, right, bottom = part.box
        assert (labels_HW[top:bottom, left:right] == part.number).all()
        assert (part.width, part.height, part.is_clear) == (20, 40, True)
    assert np.count_nonzero(labels_HW) == 2 * 20 * 40


def test_without_ink_there_are_no_parts() -> None:
    labels_HW, found = find_parts(np.zeros((5, 7), np.float32))
    assert labels_HW.shape == (5, 7)
    assert not labels_HW.any()
    assert found == []


def test_pixels_that_touch_at_their_corners_are_one_part() -> None:
    assert boxes_of(find_parts(np.eye(9, dtype=np.float32))[1]) == [(0, 0, 9, 9)]


def test_faint_ink_belongs_to_a_stroke_but_is_not_clear_on_its_own() -> None:
    ink_HW = bars(DIGIT)
    ink_HW[50:56, 10:30] = 0.4  # the end of the stroke
    ink_HW[56:, 10:30] = 0.3
    ink_HW[10:50, 35:39] = 0.5
    stroke, faint = sorted(find_parts(ink_HW)[1], key=lambda part: part.box)
    assert (stroke.box, stroke.is_clear) == ((10, 10, 30, 56), True)
    assert (faint.box, faint.is_clear) == ((35, 10, 39, 50), False)


@pytest.mark.parametrize(
    ("height", "dust", "speck"),
    [
        pytest.param(40, (60, 20, 64, 24), (60, 20, 65, 22), id="a share of the digits"),
        pytest.param(8, (60, 20, 62, 22), (60, 20, 63, 21), id="pixels"),
    ],
)
def test_dust_is_dropped(height: int, dust: Box, speck: Box) -> None:
    digit = (10, 10, 30, 10 + height)
    assert boxes_of(parts_of(digit, dust)) == [digit]
    assert sorted(boxes_of(parts_of(digit, speck))) == [digit, speck]


def test_the_usual_height_is_that_of_most_of_the_writing() -> None:
    marks = [(10 * n, 70, 10 * n + 5, 75) for n in range(12)]
    assert usual_height(parts_of(DIGIT, NEXT, *marks)) == 40
    assert usual_height(parts_of((0, 0, 90, 20))) == 45, "several digits that touch"
    assert usual_height([]) == 0


def test_digits_are_of_the_usual_height_or_up_to_twice_as_high() -> None:
    low, half, twice, high = parts_of(
        (0, 0, 5, 19), (10, 0, 15, 20), (20, 0, 25, 80), (30, 0, 35, 81)
    )[::-1]
    sizes = [is_digit_sized(part, 40) for part in (low, half, twice, high)]
    assert sizes == [False, True, True, False]


def rows(degrees: float, *, num_rows: int, num: int) -> list[Box]:
    """Digits of 20x40 pixels in rows that descend by this angle."""
    boxes = []
    for row in range(num_rows):
        for column in range(num):
            u, v, angle = 36 * column, 75 * row, math.radians(degrees)
            x = 120 + u * math.cos(angle) - v * math.sin(angle)
            y = 240 + u * math.sin(angle) + v * math.cos(angle)
            boxes.append((round(x) - 10, round(y) - 20, round(x) + 10, round(y) + 20))
    return boxes


@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize("degrees", [-25, -10, 0, 10, 25])
def test_the_tilt_of_rows(degrees: float, num_rows: int) -> None:
    tilt = estimate_tilt(parts_of(*rows(degrees, num_rows=num_rows, num=7)))
    assert math.degrees(tilt) == pytest.approx(degrees, abs=1.5)


def test_small_marks_do_not_tilt_a_row() -> None:
    row = rows(0, num_rows=1, num=6)
    marks = [(right + 4, bottom - 6, right + 10, bottom + 3) for _, _, right, bottom in row]
    assert estimate_tilt(parts_of(*row, *marks)) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("step", [-22, 22])
def test_two_digits_at_different_heights_are_not_tilted(step: int) -> None:
    assert estimate_tilt(parts_of((10, 50, 30, 90), (45, 50 + step, 65, 90 + step))) == 0


def test_scattered_digits_are_not_tilted() -> None:
    places = [(30, 40), (75, 75), (130, 20), (170, 90), (215, 45), (260, 70)]
    assert estimate_tilt(parts_of(*((x, y, x + 20, y + 40) for x, y in places))) == 0


def test_one_digit_or_none_is_not_tilted() -> None:
    assert estimate_tilt(parts_of(DIGIT)) == estimate_tilt([]) == 0
