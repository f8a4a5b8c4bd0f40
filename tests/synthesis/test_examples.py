"""Examples for reading pictures: digits cut out of numbers, and ink that is no digit."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnistcli.synthesis.examples import (
    NO_DIGIT,
    SHARES,
    ExampleComposer,
    Number,
    compose_examples,
)
from mnistcli.synthesis.pen_digits import pen_digits
from mnistcli.synthesis.shapes import DigitShapes
from tests.helpers.training import some_digits

LABELS_N = np.arange(30) % 10
Images = NDArray[np.uint8]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def composer() -> ExampleComposer:
    return ExampleComposer(DigitShapes(pen_digits(LABELS_N, rng()), LABELS_N))


@pytest.fixture(scope="module")
def composed(composer: ExampleComposer) -> tuple[Images, NDArray[np.int64]]:
    return composer.compose(400, (0, 0))


def test_examples_have_mnists_form(composed: tuple[Images, NDArray[np.int64]]) -> None:
    images_NHW, labels_N = composed
    assert images_NHW.shape == (400, 28, 28)
    assert images_NHW.dtype == np.uint8
    assert labels_N.shape == (400,)
    assert labels_N.dtype == np.int64
    assert (images_NHW.max(axis=(1, 2)) == 255).all()
    for image_HW in images_NHW:
        rows_N, columns_N = np.nonzero(image_HW)
        assert max(np.ptp(rows_N), np.ptp(columns_N)) + 1 <= 20


def test_every_class_comes_up(composed: tuple[Images, NDArray[np.int64]]) -> None:
    shares_K = np.bincount(composed[1], minlength=11) / 400
    assert len(shares_K) == 11
    assert shares_K.min() > 0.02
    assert 0.2 < shares_K[NO_DIGIT] < 0.5


def test_the_shares_add_up_to_one() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)


def test_a_seed_gives_the_same_examples(composer: ExampleComposer) -> None:
    first, again, other = (composer.compose(40, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()


def made(composer: ExampleComposer, kind: str, num: int = 40) -> list[int]:
    """The labels of examples of a kind."""
    random = rng(5)
    examples = [getattr(composer, kind)(random) for _ in range(num)]
    return [example[1] for example in examples if example]


def test_single_digits_are_digits_and_other_ink_is_none(composer: ExampleComposer) -> None:
    singles, others, cuts = (made(composer, kind) for kind in ("single", "other", "cut"))
    assert len(singles) > 35
    assert max(singles) < NO_DIGIT
    assert len(others) > 15
    assert set(others) == {NO_DIGIT}
    assert 0.2 < np.mean(np.array(cuts) == NO_DIGIT) < 0.8


@pytest.mark.parametrize("gap", [-0.05, 0.1, 0.5])
def test_a_number_is_its_digits_side_by_side(composer: ExampleComposer, gap: float) -> None:
    for seed in range(10):
        number = composer.draw_number(3, 40, gap, rng(seed))
        assert number.layers_LHW.shape[0] == len(number.labels) == 3
        assert all(label in range(10) for label in number.labels)
        assert number.borders == sorted(number.borders)
        starts = [np.flatnonzero((layer_HW > 0.3).any(axis=0))[0] for layer_HW in number.layers_LHW]
        assert starts == sorted(starts)


def bars_apart(*labels: int) -> Number:
    """Bars of 8x40 pixels, 20 pixels from middle to middle, as digits."""
    layers_LHW = np.zeros((len(labels), 60, 20 * len(labels)), np.float32)
    for place, layer_HW in enumerate(layers_LHW):
        layer_HW[10:50, 20 * place + 6 : 20 * place + 14] = 1
    return Number(layers_LHW, list(labels), 40)


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        pytest.param(slice(0, 20), 4, id="the first"),
        pytest.param(slice(20, 40), 7, id="the second"),
        pytest.param(slice(0, 40), NO_DIGIT, id="a pair"),
        pytest.param(slice(0, 60), NO_DIGIT, id="three"),
        pytest.param(slice(0, 10), NO_DIGIT, id="half of one"),
        pytest.param(slice(10, 30), NO_DIGIT, id="two halves"),
        pytest.param(slice(0, 30), NO_DIGIT, id="one and a half"),
        pytest.param(slice(7, 20), None, id="most of one"),
        pytest.param(slice(15, 25), None, id="the gap"),
    ],
)
def test_the_label_of_what_lies_between_two_cuts(columns: slice, label: int | None) -> None:
    assert bars_apart(4, 7, 1).label_of(columns) == label


def test_the_borders_of_a_number() -> None:
    assert bars_apart(4, 7, 1).borders == [6, 20, 40, 54]


@pytest.mark.slow
@pytest.mark.parametrize("num", [3, 50])
def test_examples_are_composed_in_several_processes(num: int) -> None:
    digits = some_digits(60)
    first, again = (compose_examples(digits, num, seed=1) for _ in range(2))
    assert (first.images_NHW.shape, first.images_NHW.dtype) == ((num, 28, 28), torch.uint8)
    assert (first.labels_N.shape, first.labels_N.dtype) == ((num,), torch.int64)
    assert torch.equal(first.images_NHW, again.images_NHW)
    assert torch.equal(first.labels_N, again.labels_N)
    assert len(first.images_NHW.unique(dim=0)) == num, "no two processes compose the same"
    other = compose_examples(digits, num, seed=2)
    assert not torch.equal(first.images_NHW, other.images_NHW)
