"""Whether a network is as sure as it is right. Pure functions of arrays; no torch.

Shapes: N images, K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bin:
    """The images whose confidence, the highest probability, lies above `low` and up to `high`.

    `confidence` and `accuracy` are their means in 0..1, and 0 where there is no image.
    """

    low: float
    high: float
    num_images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error (0..1), and the bins it comes from, lowest first."""

    error: float
    bins: list[Bin]


def expected_calibration_error(
    probabilities_NK: NDArray[np.floating],
    labels_N: NDArray[np.int64],
    *,
    num_bins: int = 15,
) -> Calibration:
    """The mean gap between confidence and accuracy over bins of one width, weighted by images.

    Guo et al., "On Calibration of Modern Neural Networks" (2017), equation 3.

    Args:
        probabilities_NK: in 0..1, each row with a sum of 1.
        labels_N: the true classes, in 0..K-1.
        num_bins: how many bins share 0..1.

    Raises:
        ValueError: there are no images.
    """
    if not len(labels_N):
        raise ValueError("calibration needs at least one image")
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    is_right_N = probabilities_NK.argmax(axis=1) == labels_N
    edges = np.linspace(0, 1, num_bins + 1)
    # A probability may exceed 1 by a rounding error.
    place_N = np.clip(np.digitize(confidence_N, edges, right=True) - 1, 0, num_bins - 1)
    bins = []
    for place in range(num_bins):
        inside_N = place_N == place
        num = int(inside_N.sum())
        confidence = float(confidence_N[inside_N].mean()) if num else 0.0
        accuracy = float(is_right_N[inside_N].mean()) if num else 0.0
        bins.append(Bin(float(edges[place]), float(edges[place + 1]), num, confidence, accuracy))
    gaps = [each.num_images * abs(each.accuracy - each.confidence) for each in bins]
    return Calibration(sum(gaps) / len(labels_N), bins)
