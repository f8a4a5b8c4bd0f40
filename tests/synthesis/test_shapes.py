"""Digits redrawn in other sizes, poses and with other pens."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mnistcli.data.mnist_format import ink_box, stroke_width_px
from mnistcli.synthesis.pen_digits import pen_digits
from mnistcli.synthesis.shapes import DigitShapes, Pose, draw_pen_digit, thin
from tests.helpers.training import some_digits

EIGHT_NEIGHBORS = np.ones((3, 3), bool)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shapes_of(*labels: int) -> DigitShapes:
    """Digits in MNIST's format."""
    labels_N = np.array(labels)
    return DigitShapes(pen_digits(labels_N, rng()), labels_N)


def num_parts(mask_HW: NDArray[np.bool_]) -> int:
    return int(ndimage.label(mask_HW, EIGHT_NEIGHBORS)[1])


def test_a_thick_bar_is_thinned_to_a_line() -> None:
    bar_HW = np.zeros((60, 30), bool)
    bar_HW[5:55, 10:19] = True
    line_HW = thin(bar_HW)
    assert line_HW.sum(axis=1).max() == 1
    assert num_parts(line_HW) == 1
    assert not (line_HW & ~bar_HW).any()
    assert line_HW[14:46].sum() == 32, "as long as the bar, but for its ends"
    assert set(np.nonzero(line_HW[14:46])[1].tolist()) <= {13, 14, 15}


def test_a_ring_stays_a_ring() -> None:
    y_H1, x_1W = np.ogrid[:50, :50]
    distance_HW = np.hypot(y_H1 - 25, x_1W - 25)
    ring_HW = thin((distance_HW < 20) & (distance_HW > 12))
    assert num_parts(ring_HW) == 1
    assert ndimage.label(~ring_HW)[1] == 2, "outside and inside"
    assert distance_HW[ring_HW].min() > 13
    assert distance_HW[ring_HW].max() < 19


def test_what_is_thin_stays() -> None:
    assert not thin(np.zeros((5, 6), bool)).any()
    cross_HW = np.zeros((9, 9), bool)
    cross_HW[4, 1:8] = True
    assert (thin(cross_HW) == cross_HW).all()


@pytest.mark.parametrize("height_px", [30, 80])
@pytest.mark.parametrize("pen_share", [0.06, 0.12])
def test_strokes_are_as_wide_as_the_pen(height_px: float, pen_share: float) -> None:
    pen_px = pen_share * height_px
    shapes = shapes_of(*[0, 2, 3, 5, 7])
    widths = []
    for seed in range(8):
        ink_HW = np.zeros((160, 160), np.float32)
        shapes.draw(ink_HW, Pose(80, 80, height_px), pen_px, rng(seed))
        widths.append(stroke_width_px(ink_HW))
    assert np.mean(widths) == pytest.approx(pen_px, rel=0.2)


def test_without_a_pen_strokes_are_scaled_with_the_digit() -> None:
    shapes = shapes_of(0)
    original_px = stroke_width_px(shapes.images_NHW[0] / np.float32(255))
    ink_HW = np.zeros((200, 200), np.float32)
    shapes.draw(ink_HW, Pose(100, 100, 100), None, rng())
    assert stroke_width_px(ink_HW) == pytest.approx(5 * original_px, rel=0.25)


@pytest.mark.parametrize("pen_px", [None, 4.0])
@pytest.mark.parametrize("place", [(60, 70), (100, 50)])
def test_a_digit_is_where_and_as_high_as_its_pose(
    pen_px: float | None, place: tuple[int, int]
) -> None:
    ink_HW = np.zeros((160, 160), np.float32)
    label = shapes_of(*[3] * 4).draw(ink_HW, Pose(*place, 60), pen_px, rng())
    assert label == 3
    left, top, right, bottom = ink_box(ink_HW, visible=0.5)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(place, abs=8)
    assert max(right - left, bottom - top) == pytest.approx(60, abs=9)
    assert 0 <= ink_HW.min() < ink_HW.max() <= 1


def test_a_tilt_turns_a_digit_clockwise() -> None:
    bar_HW = np.zeros((28, 28), np.uint8)
    bar_HW[4:24, 13:15] = 255
    shapes = DigitShapes(bar_HW[None], np.array([1]))
    ink_HW = np.zeros((100, 100), np.float32)
    shapes.draw(ink_HW, Pose(50, 50, 60, tilt=math.radians(30)), 3.0, rng())
    rows_N, columns_N = np.nonzero(ink_HW > 0.5)
    slope = np.polyfit(rows_N, columns_N, 1)[0]
    assert slope == pytest.approx(-math.tan(math.radians(30)), abs=0.06)


def test_digits_at_the_edge_are_cut_off() -> None:
    for place in ((-3, 10), (49, 49), (200, 200), (-80, 5)):
        ink_HW = np.zeros((50, 50), np.float32)
        shapes_of(0).draw(ink_HW, Pose(*place, 40), 3.0, rng())
        assert ink_HW.any() == (place in ((-3, 10), (49, 49)))


def test_a_seed_gives_the_same_drawing() -> None:
    def drawn(seed: int) -> NDArray[np.float32]:
        ink_HW, random = np.zeros((90, 90), np.float32), rng(seed)
        shapes_of(*range(10)).draw(ink_HW, Pose(45, 45, 50).jittered(random), 4.0, random)
        draw_pen_digit(ink_HW, Pose(20, 20, 30), 2.0, random)
        return ink_HW

    assert (drawn(1) == drawn(1)).all()
    assert (drawn(1) != drawn(2)).any()


def test_some_digits_of_a_data_set() -> None:
    examples = some_digits(30)
    few, again, all_of_them = (DigitShapes.from_examples(examples, n, rng()) for n in (5, 5, 99))
    assert (few.images_NHW.shape, few.labels_N.shape) == ((5, 28, 28), (5,))
    assert (few.images_NHW == again.images_NHW).all()
    assert sorted(all_of_them.labels_N.tolist()) == sorted(examples.labels_N.tolist())
