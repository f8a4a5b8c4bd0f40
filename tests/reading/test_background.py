"""The brightness of the background is found under the ink, in any light."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from mnistcli.reading.background import estimate_background, quadratic_terms
from tests.helpers.pictures import (
    SIMILAR,
    difference,
    digit_in,
    draw,
    read_text,
    segmentations_in,
    to_array,
    to_picture,
)

FIVE = draw(("5", 50, 40))


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
    assert_array_equal(quadratic_terms(9, 14, 2, 3), quadratic_terms(9, 14)[:, ::2, ::3])


def photo(*, noise: float = 2) -> NDArray[np.float64]:
    """A five as a camera sees it: ink is not black, and there is noise."""
    photo_HW = 75 + 165 * to_array(FIVE) / 255
    return photo_HW + np.random.default_rng(0).normal(0, noise, photo_HW.shape)


def test_uneven_light_noise_and_dust() -> None:
    light_HW = np.linspace(1, 0.5, 200)[:, None] * np.linspace(0.95, 0.7, 200)[None, :]
    photo_HW = photo(noise=4) * light_HW
    photo_HW[10:12, 10:12] = photo_HW[150:152, 180:182] = 0
    assert difference(digit_in(to_picture(photo_HW)), digit_in(FIVE)) < SIMILAR


@pytest.mark.parametrize(
    "shade", [np.s_[:, 100:], np.s_[110:, :], np.s_[:90, :60]], ids=["right", "bottom", "corner"]
)
def test_a_shadow_with_a_hard_edge(shade: tuple[slice, slice]) -> None:
    photo_HW = photo()
    photo_HW[shade] *= 0.5
    assert read_text(to_picture(photo_HW)) == "5"
    # Where the edge of the shadow crosses a stroke, the stroke is rough.
    assert difference(digit_in(to_picture(photo_HW)), digit_in(FIVE)) < 1.5 * SIMILAR


@pytest.mark.parametrize(
    "table",
    [np.s_[:, :30], np.s_[:, -25:], np.s_[-30:, :], np.s_[:6, :], np.s_[:, :14]],
    ids=["left", "right", "bottom", "narrow top", "narrow left"],
)
def test_a_dark_table_at_one_side(table: tuple[slice, slice]) -> None:
    photo_HW = photo()
    photo_HW[table] = 45
    assert difference(digit_in(to_picture(photo_HW)), digit_in(FIVE)) < SIMILAR


@pytest.mark.parametrize("height", [24, 60])
def test_a_gradient_is_blank(height: int) -> None:
    strip_HW = np.broadcast_to(np.linspace(230, 102, 800), (height, 800))
    assert segmentations_in(to_picture(strip_HW)) == []
