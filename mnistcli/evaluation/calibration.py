"""Whether probabilities are what they say, and the temperature that makes them so. No torch.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks"
(ICML 2017, arXiv 1706.04599).

Shapes: N images, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15
# Between these a temperature is looked for. Where no image is misread, lower is always better.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
# 20 / 0.05 halved as often in its logarithm: nine digits.
NUM_BISECTIONS = 40
# What float32 may have rounded to 0 is taken for its smallest number: 87 nats.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ConfidenceBin:
    """The images of which a network was equally sure, all means in 0..1, and 0 without images.

    Of M bins, bin m holds those whose highest probability lies in (m/M, (m+1)/M];
    `confidence` is its mean.
    """

    num_images: int
    accuracy: float
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """A temperature, fitted on `num_fitted` images, and what it makes of the ones judged.

    `loss` is their mean cross-entropy in nats, and `bins` are their confidences,
    after division by the temperature.
    """

    temperature: float
    num_fitted: int
    loss: float
    bins: list[ConfidenceBin]


def confidence_bins(
    probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64], *, num_bins: int = NUM_BINS
) -> list[ConfidenceBin]:
    """The images sorted by the highest of their probabilities into bins of equal width."""
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    right_N = probabilities_NK.argmax(axis=1) == labels_N
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts, rights, sums = (
        np.bincount(bin_N, weights=each_N, minlength=num_bins).tolist()
        for each_N in (None, right_N, confidence_N)
    )
    return [
        # Rounding may leave a mean of ones above 1.
        ConfidenceBin(num, num_correct / max(num, 1), min(1.0, total / max(num, 1)))
        for num, num_correct, total in zip(counts, rights, sums, strict=True)
    ]


def expected_calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """The expected calibration error (ECE), in 0..1: by how much confidence misses accuracy.

    The mean of the bins' differences, weighted by their images (Guo et al. 2017, eq. 3).
    There must be an image.
    """
    gaps = [each.num_images * abs(each.accuracy - each.confidence) for each in bins]
    return sum(gaps) / sum(each.num_images for each in bins)


def cross_entropy(probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> float:
    """The mean negative logarithm of the labels' probabilities, in nats."""
    found_N = probabilities_NK[np.arange(len(labels_N)), labels_N].astype(np.float64)
    return float(-np.log(np.maximum(found_N, MIN_PROBABILITY)).mean())


def fit_temperature(probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> float:
    """The temperature with the lowest cross-entropy on these images, within the bounds above.

    In 1/T the cross-entropy is convex, so that its slope has one zero at most,
    which bisection cannot miss.
    """
    logits_NK = _logits(probabilities_NK)
    label_logits_N = logits_NK[np.arange(len(labels_N)), labels_N]
    low, high = MIN_TEMPERATURE, MAX_TEMPERATURE
    for _ in range(NUM_BISECTIONS):
        middle = math.sqrt(low * high)
        expected_N = (_softmax(logits_NK / middle) * logits_NK).sum(axis=1)
        if (expected_N - label_logits_N).mean() > 0:  # too sure: the optimum is hotter
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def apply_temperature(
    probabilities_NK: NDArray[np.floating], temperature: float
) -> NDArray[np.float64]:
    """The probabilities (N, K) of logits divided by `temperature`: above 1 less sure, below surer.

    The order of the classes stays, and with it every prediction.
    """
    return _softmax(_logits(probabilities_NK) / temperature)


def _logits(probabilities_NK: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logits up to a constant an image, which no softmax sees."""
    return np.log(np.maximum(probabilities_NK.astype(np.float64), MIN_PROBABILITY))


def _softmax(logits_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    powers_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    shares_NK: NDArray[np.float64] = powers_NK / powers_NK.sum(axis=1, keepdims=True)
    return shares_NK
