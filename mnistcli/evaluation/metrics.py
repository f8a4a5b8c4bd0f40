"""Accuracy intervals, confusion matrix, precision, recall and F1. Pure functions, no torch.

Shapes: N images, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

# The bounds are checked where a score is read from a file.
Proportion = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class; 0 where undefined."""

    name: str
    num_images: NonNegativeInt
    precision: Proportion
    recall: Proportion
    f1: Proportion


@dataclass(frozen=True)
class Spread:
    """The accuracies (0..1) of several networks: mean and sample standard deviation.

    `deviation` is None for a single network. `num_errors` and `num_images` are
    the sums over all networks; `interval` is the 95 % Wilson interval of the
    accuracy that they give, which treats the networks' errors as independent.
    """

    mean: float
    deviation: float | None
    num_errors: int
    num_images: int
    interval: tuple[float, float]


def confusion_matrix(
    labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """Counts int64 (K, K); rows are true classes, columns predicted ones."""
    cells_N = labels_N * num_classes + predicted_N
    counts = np.bincount(cells_N, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def class_scores(confusion_KK: NDArray[np.int64], names: tuple[str, ...]) -> list[ClassScore]:
    """Precision, recall and F1 of every class from a confusion matrix."""
    correct_K = np.diag(confusion_KK).astype(float)
    precision_K = _divide_or_zero(correct_K, confusion_KK.sum(axis=0))
    recall_K = _divide_or_zero(correct_K, confusion_KK.sum(axis=1))
    f1_K = _divide_or_zero(2 * precision_K * recall_K, precision_K + recall_K)
    return [
        ClassScore(name, int(num), float(precision), float(recall), float(f1))
        for name, num, precision, recall, f1 in zip(
            names, confusion_KK.sum(axis=1), precision_K, recall_K, f1_K, strict=True
        )
    ]


def macro_mean(classes: Sequence[ClassScore]) -> ClassScore:
    """The unweighted mean over the classes that have images; its F1 is the macro F1."""
    num_images = sum(score.num_images for score in classes)
    classes = [score for score in classes if score.num_images]
    return ClassScore(
        "mean",
        num_images,
        fmean(score.precision for score in classes),
        fmean(score.recall for score in classes),
        fmean(score.f1 for score in classes),
    )


def wilson_interval(
    num_correct: int, num_all: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """The score interval of a proportion, in 0..1 (Wilson 1927).

    Unlike the usual p ± z·SE it stays within 0..1 and keeps its coverage near
    1, where the accuracies are.

    Raises:
        ValueError: there are no images.
    """
    if num_all < 1:
        raise ValueError("an interval needs at least one image")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, z2_n = num_correct / num_all, z * z / num_all
    center = (p + z2_n / 2) / (1 + z2_n)
    half = z * math.sqrt(p * (1 - p) / num_all + z2_n / (4 * num_all)) / (1 + z2_n)
    return max(0.0, center - half), min(1.0, center + half)


def sample_sd(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for a single value."""
    return stdev(values) if len(values) > 1 else None


def summarize_spread(results: Sequence[tuple[float, int]]) -> Spread:
    """The spread of accuracies (0..1), each with its number of images; at least one."""
    accuracies = [accuracy for accuracy, _ in results]
    num_images = sum(num for _, num in results)
    num_correct = sum(round(accuracy * num) for accuracy, num in results)
    return Spread(
        mean=fmean(accuracies),
        deviation=sample_sd(accuracies),
        num_errors=num_images - num_correct,
        num_images=num_images,
        interval=wilson_interval(num_correct, num_images),
    )


def _divide_or_zero(
    part_K: NDArray[np.float64], whole_K: NDArray[np.float64] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """`part / whole`, 0 where the whole is 0."""
    return np.divide(part_K, whole_K, out=np.zeros_like(part_K), where=whole_K > 0)
