"""Digits drawn as pen strokes."""

import numpy as np
import pytest

from mnistcli.data.mnist_format import is_mnist_format
from mnistcli.synthesis.pen_digits import TEMPLATES, draw_digit, pen_digits, render_strokes

CLASSES_N = np.arange(10)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def structure(drawing: str) -> list[tuple[bool, list[bool]]]:
    """Of every stroke, whether it is optional, and which of its points are corners."""
    return [
        ("?" in stroke, [point.endswith("!") for point in stroke.replace("?", "").split()])
        for stroke in drawing.split("/")
    ]


@pytest.mark.parametrize("label", range(10))
def test_the_drawings_of_a_template_have_the_same_strokes(label: int) -> None:
    for first, *others in TEMPLATES[label]:
        assert all(structure(other) == structure(first) for other in others)


@pytest.mark.parametrize("label", range(10))
def test_the_box_of_a_digit_starts_at_0_and_its_longer_side_is_1(label: int) -> None:
    generator = rng()
    for _ in range(50):
        strokes = draw_digit(label, generator)
        assert all(stroke.dtype == np.float32 and stroke.shape[1:] == (2,) for stroke in strokes)
        assert all(len(stroke) > 1 for stroke in strokes)
        points_P2 = np.concatenate(strokes)
        assert points_P2.min(axis=0) == pytest.approx([0, 0])
        assert points_P2.max() == pytest.approx(1)


@pytest.mark.parametrize("pen_px", [1.5, 2, 4, 7.3])
def test_a_stroke_is_as_wide_as_the_pen(pen_px: float) -> None:
    bar = np.array([[0, 0], [0, 1]], np.float32)
    ink_HW = render_strokes([bar], size_px=40, pen_px=pen_px)
    assert ink_HW.dtype == np.float32
    assert ink_HW.min() == 0
    assert 0.7 < ink_HW.max() <= 1
    assert ink_HW[len(ink_HW) // 2].sum() == pytest.approx(pen_px, abs=0.01)


def test_the_rendered_image_is_the_ink_and_a_margin() -> None:
    corner = np.array([[0, 0], [0, 1], [0.5, 1]], np.float32)
    ink_HW = render_strokes([corner], size_px=40, pen_px=4, margin_px=3)
    assert ink_HW.shape == (40 + 4 + 6, 20 + 4 + 6)
    assert ink_HW[3:-3, 3:-3].sum() == pytest.approx(ink_HW.sum())
    assert ink_HW[3 + 42, 3 + 10] == 1
    assert ink_HW[3 + 10, 3 + 15] == 0


def test_images_are_in_mnist_format() -> None:
    images_NHW = pen_digits(np.tile(CLASSES_N, 50), rng())
    assert images_NHW.shape == (500, 28, 28)
    assert images_NHW.dtype == np.uint8
    assert (images_NHW.max(axis=(1, 2)) == 255).all()
    assert all(is_mnist_format(image_HW / np.float32(255)) for image_HW in images_NHW)


def test_a_seed_gives_the_same_images() -> None:
    images_NHW = pen_digits(CLASSES_N, rng(1))
    assert (images_NHW == pen_digits(CLASSES_N, rng(1))).all()
    assert (images_NHW != pen_digits(CLASSES_N, rng(2))).any(axis=(1, 2)).all()


def test_classes_differ() -> None:
    # The nearest image, pixel by pixel, is mostly of the same class.
    labels_N = np.tile(CLASSES_N, 60)
    known_ND = pen_digits(labels_N, rng(1)).reshape(len(labels_N), -1).astype(np.float32)
    new_ND = pen_digits(labels_N, rng(2)).reshape(len(labels_N), -1).astype(np.float32)
    distance_NN = (known_ND**2).sum(axis=1) - 2 * new_ND @ known_ND.T
    right_N = labels_N[distance_NN.argmin(axis=1)] == labels_N
    accuracy_C = right_N.reshape(60, 10).mean(axis=0)
    assert accuracy_C.min() > 0.6
    assert accuracy_C.mean() > 0.85


def test_no_images_for_no_labels() -> None:
    assert pen_digits(np.array([], dtype=np.int64), rng()).shape == (0, 28, 28)
