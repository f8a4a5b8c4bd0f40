"""Arrays of images of other sizes and ranges become uint8 (N, 28, 28)."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mnistcli.data import sklearn_digits
from mnistcli.data.image_arrays import ImageArrayError, as_images, find_scale, to_uint8
from tests.helpers.own_data import digit_arrays

IMAGES, _ = digit_arrays(20)


def convert(array: NDArray[Any]) -> NDArray[np.uint8]:
    images = as_images(array)
    return to_uint8(images, find_scale(images))


@pytest.mark.parametrize(
    "array",
    [
        IMAGES,
        IMAGES.reshape(20, 784),
        IMAGES[..., None],
        IMAGES[:, None],
        IMAGES.astype(np.int64),
        IMAGES / 255,
        IMAGES / np.float32(127.5) - 1,
    ],
    ids=["images", "flat", "channel last", "channel first", "int64", "0 to 1", "-1 to 1"],
)
def test_images_of_28_pixels_stay_as_they_are(array: NDArray[Any]) -> None:
    images = convert(array)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES)


def test_8x8_images_become_what_the_digits_of_scikit_learn_are() -> None:
    expected = sklearn_digits.load_digits("train").images_NHW.numpy()
    images = convert(load_digits().images)
    assert np.abs(images[:1437].astype(int) - expected).max() <= 1  # rounding


def test_images_of_16_pixels_are_enlarged_and_centered() -> None:
    image = np.zeros((1, 16, 16), np.uint8)
    image[0, 2:14, 5:8] = 200
    large = convert(image)[0]
    y, x = np.nonzero(large > 100)
    assert (y.max() - y.min() + 1, x.max() - x.min() + 1) in {(15, 4), (16, 4)}
    assert abs(x.mean() - 13.5) <= 0.5


def test_a_blank_image_among_others_stays_blank() -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[0, 3:5] = 16
    assert not convert(images)[1].any()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 28, 28), np.uint8),
        np.zeros((0, 28, 28), np.uint8),
        np.arange(784).reshape(1, 28, 28),
        np.full((1, 28, 28), np.nan),
        np.ones((2, 28, 27)),
        np.ones((2, 3, 28, 28)),
        np.ones((2, 32, 32)),
        np.ones(784),
    ],
    ids=["blank", "none", "beyond 255", "NaN", "28x27", "colors", "32x32", "one row"],
)
def test_other_arrays_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(ImageArrayError):
        convert(array)
