"""The brightness of a small picture's background is found under the ink, in any light."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import ImageDraw

from mnistcli.reading.background import estimate_background, quadratic_terms, remove_border
from tests.helpers.pictures import (
    SAME,
    SIMILAR,
    box_distance,
    candidates_in,
    difference,
    inverted,
    thumbnail,
    to_array,
    to_picture,
)


def test_a_drawing_has_one_level() -> None:
    gray_HW = np.full((40, 30), 0.75, np.float32)
    gray_HW[10:30, 14:17] = 0
    assert_array_equal(estimate_background(gray_HW), np.full((40, 30), 0.75, np.float32))


def test_gradual_light_is_a_quadratic_surface() -> None:
    weights_T = np.array([0.7, 0.1, -0.05, 0.02, -0.06, -0.04], np.float32)
    light_HW = np.tensordot(weights_T, quadratic_terms(60, 80), axes=1)
    gray_HW = light_HW.copy()
    gray_HW[20:40, 30:36] = 0.1
    assert_allclose(estimate_background(gray_HW), light_HW, atol=0.01)


def test_quadratic_terms() -> None:
    terms_THW = quadratic_terms(3, 5)
    assert_array_equal(terms_THW[:, 0, 0], [1, -1, -1, 1, 1, 1])
    assert_array_equal(terms_THW[:, 2, 0], [1, -1, 1, -1, 1, 1])
    assert_array_equal(terms_THW[:, 1, 3], [1, 0.5, 0, 0, 0.25, 0])


@pytest.mark.parametrize("label", "025")
def test_a_small_photo_in_uneven_light(label: str) -> None:
    light_HW = np.linspace(1, 0.7, 36)[:, None] * np.linspace(0.95, 0.8, 36)[None, :]
    drawn = thumbnail(label)
    photo_HW = (75 + 165 * to_array(drawn) / 255) * light_HW
    photo_HW += np.random.default_rng(0).normal(0, 2, photo_HW.shape)
    [found], [expected] = candidates_in(to_picture(photo_HW)), candidates_in(drawn)
    assert difference(found, expected) < SIMILAR
    assert box_distance(found.box, expected.box) <= 1


@pytest.mark.parametrize("width", [24, 40])
def test_a_small_gradient_is_blank(width: int) -> None:
    strip_HW = np.broadcast_to(np.linspace(230, 102, width), (24, width))
    assert candidates_in(to_picture(strip_HW)) == []


@pytest.mark.parametrize("light_on_dark", [False, True])
@pytest.mark.parametrize("width_px", [1, 2])
def test_a_border_around_a_small_digit(width_px: int, light_on_dark: bool) -> None:
    plain = thumbnail("5")
    framed = plain.copy()
    ImageDraw.Draw(framed).rectangle((0, 0, 35, 35), outline=0, width=width_px)
    [found] = candidates_in(inverted(framed) if light_on_dark else framed)
    [expected] = candidates_in(plain)
    assert difference(found, expected) < SAME


def test_ink_near_the_edge_does_not_end_a_border() -> None:
    gray_HW = np.ones((28, 28), np.float32)
    gray_HW[2:6, 8:20] = gray_HW[16:20, 4:22] = gray_HW[5:17, 12:17] = 0
    assert_array_equal(remove_border(gray_HW), gray_HW)
