"""How well probabilities match accuracy: the calibration error (ECE) and temperature scaling.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks"
(ICML 2017, arXiv 1706.04599). No torch.

Shapes: N images, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from mnistcli.evaluation.metrics import Proportion

NUM_BINS = 15
# The range in which a temperature is searched. Without errors, lower is always better.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
# Halving the logarithm of 20 / 0.05 as often gives nine digits.
NUM_BISECTIONS = 40
# Stands for probabilities that float32 has rounded to 0: a loss of 87 nats.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ConfidenceBin:
    """Images of similar confidence: their accuracy and mean confidence, 0 without images.

    The confidence is the highest probability. Of M bins, bin m (from 0) has
    the images with a confidence in (m/M, (m+1)/M].
    """

    num_images: NonNegativeInt
    accuracy: Proportion
    confidence: Proportion


@dataclass(frozen=True)
class Calibration:
    """A temperature, fitted on `num_fitted` held-out images, and its effect on the evaluated ones.

    `loss` is their mean cross-entropy in nats and `bins` are their confidences,
    both after the logits have been divided by the temperature.
    """

    temperature: float
    num_fitted: int
    loss: float
    bins: list[ConfidenceBin]


def confidence_bins(
    probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64], *, num_bins: int = NUM_BINS
) -> list[ConfidenceBin]:
    """The images sorted by confidence into bins of equal width."""
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    is_correct_N = probabilities_NK.argmax(axis=1) == labels_N
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    nums_images, nums_correct, confidence_sums = (
        np.bincount(bin_N, weights=weights_N, minlength=num_bins).tolist()
        for weights_N in (None, is_correct_N, confidence_N)
    )
    return [
        # Rounding may leave a mean of ones above 1.
        ConfidenceBin(num, num_correct / max(num, 1), min(1.0, confidence_sum / max(num, 1)))
        for num, num_correct, confidence_sum in zip(
            nums_images, nums_correct, confidence_sums, strict=True
        )
    ]


def expected_calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """The expected calibration error (ECE), in 0..1 (Guo et al. 2017, eq. 3).

    The mean difference between confidence and accuracy of the bins, weighted by
    their images; there must be at least one.
    """
    gaps = [bin_.num_images * abs(bin_.accuracy - bin_.confidence) for bin_ in bins]
    return sum(gaps) / sum(bin_.num_images for bin_ in bins)


def cross_entropy(probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> float:
    """The mean negative log probability of the labels, in nats."""
    label_probabilities_N = probabilities_NK[np.arange(len(labels_N)), labels_N].astype(np.float64)
    return float(-np.log(np.maximum(label_probabilities_N, MIN_PROBABILITY)).mean())


def fit_temperature(probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> float:
    """The temperature with the lowest cross-entropy on these images, within the bounds above.

    In 1/T the cross-entropy is convex: bisection finds the only zero of its slope.
    """
    logits_NK = _logits(probabilities_NK)
    label_logits_N = logits_NK[np.arange(len(labels_N)), labels_N]
    low, high = MIN_TEMPERATURE, MAX_TEMPERATURE
    for _ in range(NUM_BISECTIONS):
        middle = math.sqrt(low * high)
        expected_N = (_softmax(logits_NK / middle) * logits_NK).sum(axis=1)
        if (expected_N - label_logits_N).mean() > 0:  # overconfident: a higher temperature
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def apply_temperature(
    probabilities_NK: NDArray[np.floating], temperature: float
) -> NDArray[np.float64]:
    """The probabilities (N, K) after dividing the logits by `temperature`.

    Above 1 the confidence falls, below 1 it rises; predictions do not change.
    """
    return _softmax(_logits(probabilities_NK) / temperature)


def _logits(probabilities_NK: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logits up to a constant per image, which softmax ignores."""
    return np.log(np.maximum(probabilities_NK.astype(np.float64), MIN_PROBABILITY))


def _softmax(logits_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    powers_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    shares_NK: NDArray[np.float64] = powers_NK / powers_NK.sum(axis=1, keepdims=True)
    return shares_NK
