"""What training and evaluation are judged by. Pure functions of arrays; no torch.

Shapes: N images, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mnistcli.calibration import ConfidenceBin
from mnistcli.errors import GateError

if TYPE_CHECKING:
    from mnistcli.settings import TrainSettings

EvalSplit = Literal["val", "test"]


@dataclass(frozen=True)
class EpochResult:
    """What one epoch did.

    Training loss and accuracy are means over the epoch's batches as they were
    trained on: augmented, with dropout, by weights that changed meanwhile. The
    validation figures come from the weights that are saved; None without a
    validation split. Accuracies lie in 0..1, losses are nats an image.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class ClassScore:
    """How one class fares; all but the counts lie in 0..1, and are 0 where undefined."""

    name: str
    num_images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Mistake:
    """An image that was misread: its place in the split, what it is, what it was taken for.

    The probabilities (0..1) are those of the predicted and of the true class.
    """

    index: int
    label: int
    predicted: int
    probability: float
    label_probability: float


@dataclass(frozen=True)
class Score:
    """How a checkpoint fares on a split.

    `loss` is the mean cross-entropy in nats, `interval` the 95 % Wilson
    interval of the accuracy; `confusion` has a row a true class. Mistakes come
    most confident first. `bins` are empty in scores that older versions kept;
    `tta` says that the probabilities are means over shifted copies.
    """

    checkpoint: str
    dataset: str
    split: EvalSplit
    num_images: int
    num_errors: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    classes: list[ClassScore]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    bins: list[ConfidenceBin] = field(default_factory=list)
    tta: bool = False


@dataclass(frozen=True)
class CorruptedScore:
    """How a checkpoint fares on a split whose every image was made worse by `amount`.

    Severities count from 1, the mildest; the accuracy lies in 0..1.
    """

    corruption: str
    severity: int
    amount: str
    num_errors: int
    accuracy: float


@dataclass(frozen=True)
class Spread:
    """Accuracies (0..1) of several networks: their mean, and their sample's standard deviation.

    `deviation` is None of a single one. `num_errors` of `num_images` are those
    of all networks together, `interval` the 95 % Wilson interval of that share,
    as an accuracy. It assumes that no two networks were judged on the same image.
    """

    mean: float
    deviation: float | None
    num_errors: int
    num_images: int
    interval: tuple[float, float]


def best_epoch(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch to keep: the highest validation accuracy, of equals the lowest loss.

    Without a validation split it is the last. There must be an epoch.
    """
    if epochs[-1].val_accuracy is None:
        return epochs[-1]
    return max(epochs, key=lambda epoch: (epoch.val_accuracy or 0, -(epoch.val_loss or 0)))


def confusion_matrix(
    labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], *, num_classes: int
) -> NDArray[np.int64]:
    """Counts int64 (K, K): row the true class, column the predicted one."""
    cells_N = labels_N * num_classes + predicted_N
    counts = np.bincount(cells_N, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def class_scores(confusion_KK: NDArray[np.int64], names: tuple[str, ...]) -> list[ClassScore]:
    """Precision, recall and F1 of every class from a confusion matrix."""
    right_K = np.diag(confusion_KK).astype(float)
    precision_K = _divide_or_zero(right_K, confusion_KK.sum(axis=0))
    recall_K = _divide_or_zero(right_K, confusion_KK.sum(axis=1))
    f1_K = _divide_or_zero(2 * precision_K * recall_K, precision_K + recall_K)
    return [
        ClassScore(name, int(num), float(precision), float(recall), float(f1))
        for name, num, precision, recall, f1 in zip(
            names, confusion_KK.sum(axis=1), precision_K, recall_K, f1_K, strict=True
        )
    ]


def macro_mean(classes: Sequence[ClassScore]) -> ClassScore:
    """The mean of the classes' figures, each class weighing the same; its F1 is macro F1."""
    return ClassScore(
        "mean",
        sum(each.num_images for each in classes),
        fmean(each.precision for each in classes),
        fmean(each.recall for each in classes),
        fmean(each.f1 for each in classes),
    )


def meets_accuracy(accuracy: float, min_percent: float) -> bool:
    """Whether an accuracy (0..1) is at least `min_percent` (0..100); NaN is not."""
    # Rounded, because in binary 100 * 0.9943 is less than 99.43.
    return round(100 * accuracy, 9) >= min_percent


def has_reached_target(epochs: Sequence[EpochResult], min_percent: float | None) -> bool:
    """Whether the last epoch `reaches` a validation accuracy; not where none is asked for."""
    if min_percent is None or not epochs or epochs[-1].val_accuracy is None:
        return False
    return meets_accuracy(epochs[-1].val_accuracy, min_percent)


def is_finished(epochs: Sequence[EpochResult], settings: "TrainSettings") -> bool:
    """Whether all epochs are done, or the last reached the accuracy `until` asks for."""
    return len(epochs) >= settings.epochs or has_reached_target(epochs, settings.until)


def require_accuracy(*scores: Score, min_percent: float | None) -> None:
    """Raise GateError if the accuracy of any score is below `min_percent` (0..100)."""
    if min_percent is None:
        return
    missed = [score for score in scores if not meets_accuracy(score.accuracy, min_percent)]
    if not missed:
        return
    worst = min(missed, key=lambda score: score.accuracy)
    what = f"The accuracy is {100 * worst.accuracy:.2f} %, below {min_percent:g} %."
    why = f"{worst.num_errors:,} of {worst.num_images:,} images were misread."
    if len(scores) > 1:
        what = f"{len(missed)} of {len(scores)} checkpoints are below {min_percent:g} %."
        why = f"The worst, {worst.checkpoint}, reaches {100 * worst.accuracy:.2f} %: {why}"
    fix = "Train longer (--epochs), with --augment, or another --arch."
    raise GateError(what, why=why, fix=fix)


def wilson_interval(
    num_correct: int, num_all: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """The score interval of a proportion, in 0..1 (Wilson 1927).

    Unlike the textbook's p ± z·SE it stays inside 0..1 and keeps its coverage
    near 1, where the accuracies of this tool lie.

    Raises:
        ValueError: there are no images.
    """
    if num_all < 1:
        raise ValueError("an interval needs at least one image")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, z2_n = num_correct / num_all, z * z / num_all
    centre = (p + z2_n / 2) / (1 + z2_n)
    half = z * math.sqrt(p * (1 - p) / num_all + z2_n / (4 * num_all)) / (1 + z2_n)
    return max(0.0, centre - half), min(1.0, centre + half)


def sample_sd(values: Sequence[float]) -> float | None:
    """The sample's standard deviation; None of a single value, which has none."""
    return stdev(values) if len(values) > 1 else None


def summarize_spread(judged: Sequence[tuple[float, int]]) -> Spread:
    """The spread of accuracies (0..1), each with its number of images. There must be one."""
    accuracies = [accuracy for accuracy, _ in judged]
    num_images = sum(num for _, num in judged)
    num_correct = sum(round(accuracy * num) for accuracy, num in judged)
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
