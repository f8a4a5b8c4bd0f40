"""Confidence bins, calibration error and temperature, against values worked out by hand."""

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
    """The probabilities of two classes, from those of the first."""
    return np.array([[p, 1 - p] for p in first])


def test_bins_and_ece_are_those_worked_out_by_hand() -> None:
    # Correct, wrong, correct, wrong.
    probabilities_NK, labels_N = two_classes(0.95, 0.85, 0.55, 0.65), np.array([0, 1, 0, 1])
    bins = confidence_bins(probabilities_NK, labels_N, num_bins=5)
    assert [each.num_images for each in bins] == [0, 0, 1, 1, 2]
    assert [each.accuracy for each in bins] == [0, 0, 1, 0, 0.5]
    assert [each.confidence for each in bins] == pytest.approx([0, 0, 0.55, 0.65, 0.9])
    assert expected_calibration_error(bins) == pytest.approx((0.45 + 0.65 + 2 * 0.4) / 4)


def test_a_bin_includes_its_upper_bound_only() -> None:
    bins = confidence_bins(two_classes(0.5, 1.0), np.array([0, 0]), num_bins=2)
    assert bins == [ConfidenceBin(1, 1, 0.5), ConfidenceBin(1, 1, 1.0)]


def test_every_image_is_in_one_of_fifteen_bins() -> None:
    random = np.random.default_rng(0)
    probabilities_NK = random.dirichlet([0.3] * 10, size=500).astype(np.float32)
    bins = confidence_bins(probabilities_NK, random.integers(0, 10, 500))
    assert (len(bins), sum(each.num_images for each in bins)) == (15, 500)
    for m, each in enumerate(bins):
        assert not each.num_images or m / 15 < each.confidence <= (m + 1) / 15


def test_the_cross_entropy_is_finite_for_a_probability_of_0() -> None:
    expected = 1.5 * math.log(2)
    assert cross_entropy(two_classes(0.5, 0.25), np.array([0, 0])) == pytest.approx(expected)
    assert cross_entropy(two_classes(1.0), np.array([1])) == pytest.approx(87.3, abs=0.1)


@pytest.mark.parametrize(
    ("confidence", "num_correct", "num_images", "temperature"),
    [
        (0.9, 3, 4, 2.0),  # logits ln 9 apart, whereas 3 in 4 are ln 3 apart
        (0.75, 9, 10, 0.5),
        (0.75, 3, 4, 1.0),
        (0.9, 2, 2, MIN_TEMPERATURE),
        (0.9, 0, 2, MAX_TEMPERATURE),
    ],
)
def test_the_temperature_is_the_one_worked_out_by_hand(
    confidence: float, num_correct: int, num_images: int, temperature: float
) -> None:
    probabilities_NK = two_classes(*[confidence] * num_images)
    labels_N = np.array([0] * num_correct + [1] * (num_images - num_correct))
    assert fit_temperature(probabilities_NK, labels_N) == pytest.approx(temperature, rel=1e-7)


def test_another_search_finds_the_same_temperature() -> None:
    random = torch.Generator().manual_seed(0)
    logits_NK = 4 * torch.randn(300, 10, generator=random)
    labels_N = (logits_NK + 6 * torch.randn(300, 10, generator=random)).argmax(dim=1)

    def loss(temperature: float) -> float:
        return F.cross_entropy(logits_NK.double() / temperature, labels_N).item()

    expected = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}).x
    temperature = fit_temperature(logits_NK.softmax(dim=1).numpy(), labels_N.numpy())
    assert temperature == pytest.approx(expected, rel=1e-4)
    assert temperature > 1.5


def test_a_temperature_changes_confidence_and_no_prediction() -> None:
    probabilities_NK = np.random.default_rng(0).dirichlet([1.0] * 10, size=50)
    assert apply_temperature(probabilities_NK, 1.0) == pytest.approx(probabilities_NK)
    assert apply_temperature(two_classes(0.9), 2.0) == pytest.approx(two_classes(0.75))
    for temperature in (MIN_TEMPERATURE, MAX_TEMPERATURE):
        scaled_NK = apply_temperature(probabilities_NK, temperature)
        assert (scaled_NK.argmax(axis=1) == probabilities_NK.argmax(axis=1)).all()
        assert scaled_NK.sum(axis=1) == pytest.approx(np.ones(50))


def test_probabilities_rounded_to_0_have_a_temperature() -> None:
    rounded_NK = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=np.float32)
    temperature = fit_temperature(rounded_NK, np.array([0, 1, 1]))
    assert MIN_TEMPERATURE < temperature <= MAX_TEMPERATURE
    assert np.isfinite(apply_temperature(rounded_NK, temperature)).all()
