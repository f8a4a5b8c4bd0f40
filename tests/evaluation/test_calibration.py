"""Confidence, calibration error and temperature, against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from mnistcli.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    ConfidenceBin,
    apply_temperature,
    confidence_bins,
    cross_entropy,
    expected_calibration_error,
    fit_temperature,
)


def two_classes(*first: float) -> NDArray[np.float64]:
    """Probabilities of two classes, from those of the first."""
    return np.array([[each, 1 - each] for each in first])


def test_bins_and_their_error_are_those_worked_out_by_hand() -> None:
    # Right, wrong, right, wrong.
    probabilities_NK, labels_N = two_classes(0.95, 0.85, 0.55, 0.65), np.array([0, 1, 0, 1])
    bins = confidence_bins(probabilities_NK, labels_N, num_bins=5)
    assert [each.num_images for each in bins] == [0, 0, 1, 1, 2]
    assert [each.accuracy for each in bins] == [0, 0, 1, 0, 0.5]
    assert [each.confidence for each in bins] == pytest.approx([0, 0, 0.55, 0.65, 0.9])
    assert expected_calibration_error(bins) == pytest.approx((0.45 + 0.65 + 2 * 0.4) / 4)


def test_a_bin_holds_its_upper_end_and_not_its_lower() -> None:
    bins = confidence_bins(two_classes(0.5, 1.0), np.array([0, 0]), num_bins=2)
    assert bins == [ConfidenceBin(1, 1, 0.5), ConfidenceBin(1, 1, 1.0)]


def test_there_are_fifteen_bins_and_every_image_is_in_one() -> None:
    random = np.random.default_rng(0)
    probabilities_NK = random.dirichlet([0.3] * 10, size=500).astype(np.float32)
    bins = confidence_bins(probabilities_NK, random.integers(0, 10, 500))
    assert len(bins) == 15
    assert sum(each.num_images for each in bins) == 500
    for number, each in enumerate(bins):
        if each.num_images:
            assert number / 15 < each.confidence <= (number + 1) / 15


@pytest.mark.parametrize(("confidence", "num_right", "error"), [(1, 0, 1), (1, 4, 0), (0.75, 3, 0)])
def test_who_is_as_often_right_as_sure_has_no_error(
    confidence: float, num_correct: int, error: float
) -> None:
    labels_N = np.array([0] * num_correct + [1] * (4 - num_correct))
    assert (
        expected_calibration_error(confidence_bins(two_classes(*[confidence] * 4), labels_N))
        == error
    )


def test_the_cross_entropy_is_the_mean_surprise_and_never_infinite() -> None:
    assert cross_entropy(two_classes(0.5, 0.25), np.array([0, 0])) == pytest.approx(
        1.5 * math.log(2)
    )
    assert cross_entropy(two_classes(1.0), np.array([1])) == pytest.approx(87.3, abs=0.1)


@pytest.mark.parametrize(
    ("sure", "num_right", "temperature"),
    [
        # Logits ln 9 apart; the best say 3 in 4, which are ln 3 apart.
        (0.9, 3, 2.0),
        # The same the other way round, of ten images.
        (0.75, 9, 0.5),
        (0.75, 3, 1.0),
    ],
)
def test_the_temperature_is_the_one_worked_out_by_hand(
    sure: float, num_correct: int, temperature: float
) -> None:
    num = 10 if num_correct == 9 else 4
    probabilities_NK, labels_N = two_classes(*[sure] * num), np.array([0] * num)
    labels_N[num_correct:] = 1
    assert fit_temperature(probabilities_NK, labels_N) == pytest.approx(temperature, rel=1e-7)
    warm_NK = apply_temperature(probabilities_NK, temperature)
    assert warm_NK[:, 0] == pytest.approx([num_correct / num] * num)


def test_the_temperature_is_the_one_that_another_search_finds() -> None:
    random = torch.Generator().manual_seed(0)
    logits_NK = 4 * torch.randn(300, 10, generator=random)
    noisy_NK = logits_NK + 6 * torch.randn(300, 10, generator=random)
    labels_N = noisy_NK.argmax(dim=1)

    def loss(temperature: float) -> float:
        return F.cross_entropy(logits_NK.double() / temperature, labels_N).item()

    expected = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}).x
    found = fit_temperature(logits_NK.softmax(dim=1).numpy(), labels_N.numpy())
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 1.5


def test_a_temperature_stays_in_its_bounds() -> None:
    probabilities_NK = two_classes(0.9, 0.8)
    assert fit_temperature(probabilities_NK, np.array([0, 0])) == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature(probabilities_NK, np.array([1, 1])) == pytest.approx(MAX_TEMPERATURE)


def test_a_temperature_keeps_every_prediction_and_1_keeps_the_probabilities() -> None:
    probabilities_NK = np.random.default_rng(0).dirichlet([1.0] * 10, size=50)
    assert apply_temperature(probabilities_NK, 1.0) == pytest.approx(probabilities_NK)
    for temperature in (MIN_TEMPERATURE, 3.0, MAX_TEMPERATURE):
        warm_NK = apply_temperature(probabilities_NK, temperature)
        assert (warm_NK.argmax(axis=1) == probabilities_NK.argmax(axis=1)).all()
        assert warm_NK.sum(axis=1) == pytest.approx(np.ones(50))


def test_probabilities_that_were_rounded_to_0_do_no_harm() -> None:
    rounded_NK = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=np.float32)
    found = fit_temperature(rounded_NK, np.array([0, 1, 1]))
    assert MIN_TEMPERATURE < found <= MAX_TEMPERATURE
    assert np.isfinite(apply_temperature(rounded_NK, found)).all()
