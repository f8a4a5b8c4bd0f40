"""Printed lines are removed, strokes are kept."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mnistcli.reading.ruled_lines import remove_ruled_lines
from tests.helpers.pictures import (
    SIMILAR,
    difference,
    digit_in,
    draw,
    read_text,
    to_array,
    to_picture,
)


@pytest.mark.parametrize("squared", [False, True], ids=["ruled", "squared"])
@pytest.mark.parametrize("level", [0, 60, 170, 205])
@pytest.mark.parametrize("label", "05")
def test_lines_of_any_darkness(label: str, level: int, squared: bool) -> None:
    plain = draw((label, 50, 40))
    page_HW = to_array(plain)
    for first in (20, 21):
        page_HW[first::40] = np.minimum(page_HW[first::40], level)
        if squared:
            page_HW[:, first::40] = np.minimum(page_HW[:, first::40], level)
    assert difference(digit_in(to_picture(page_HW)), digit_in(plain)) < 2 * SIMILAR


def test_the_bar_of_a_digit_is_not_a_ruled_line() -> None:
    seven_HW = np.full((100, 80), 255)
    seven_HW[4:10, 4:76] = 0
    for y in range(10, 96):
        seven_HW[y, 70 - y // 2 : 76 - y // 2] = 0
    ink_HW = (1 - seven_HW / 255).astype(np.float32)
    assert_array_equal(remove_ruled_lines(ink_HW, 0.04), ink_HW)
    assert read_text(to_picture(seven_HW)) == "7"
