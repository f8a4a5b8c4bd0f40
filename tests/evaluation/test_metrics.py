"""Figures against ones worked out by hand or published."""

import math

import numpy as np
import pytest

from mnistcli.evaluation.metrics import (
    class_scores,
    confusion_matrix,
    macro_mean,
    summarize_spread,
    wilson_interval,
)

# Rows are true classes. Class c has no images and is never predicted.
CONFUSION = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    labels_N, predicted_N = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2])
    counts_KK = confusion_matrix(labels_N, predicted_N, num_classes=4)
    assert counts_KK.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    none_N = np.array([], dtype=np.int64)
    assert confusion_matrix(none_N, none_N, num_classes=2).tolist() == [[0, 0], [0, 0]]


def test_precision_recall_and_f1_are_those_worked_out_by_hand() -> None:
    a, b, c = class_scores(CONFUSION, ("a", "b", "c"))
    assert (a.name, a.num_images) == ("a", 4)
    assert (a.precision, a.recall, a.f1) == pytest.approx((3 / 5, 3 / 4, 2 / (5 / 3 + 4 / 3)))
    assert (b.name, b.num_images) == ("b", 6)
    assert (b.precision, b.recall, b.f1) == pytest.approx((4 / 5, 4 / 6, 8 / 11))
    assert (c.num_images, c.precision, c.recall, c.f1) == (0, 0, 0, 0)  # undefined, not NaN
    missed = class_scores(np.array([[0, 5], [0, 5]]), ("a", "b"))[0]
    assert (missed.num_images, missed.precision, missed.recall, missed.f1) == (5, 0, 0, 0)


def test_the_macro_mean_gives_every_class_with_images_the_same_weight() -> None:
    mean = macro_mean(class_scores(CONFUSION, ("a", "b", "c")))
    assert mean.f1 == pytest.approx((2 / 3 + 8 / 11) / 2)
    assert (mean.precision, mean.recall) == pytest.approx((1.4 / 2, (3 / 4 + 4 / 6) / 2))
    assert mean.num_images == 10


@pytest.mark.parametrize(
    ("num_correct", "num_all", "low", "high"),
    [
        (9950, 10_000, 0.9934, 0.9962),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_is_the_published_one(
    num_correct: int, num_all: int, low: float, high: float
) -> None:
    interval = wilson_interval(num_correct, num_all)
    assert interval == pytest.approx((low, high), abs=5e-5)
    assert 0 <= interval[0] < interval[1] <= 1


def test_more_confidence_makes_a_wider_interval() -> None:
    (low, high), (wide_low, wide_high) = (
        wilson_interval(9, 10, confidence=confidence) for confidence in (0.95, 0.99)
    )
    assert wide_low < low < high < wide_high


def test_an_interval_needs_an_image() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        wilson_interval(0, 0)


def test_the_spread_of_several_networks() -> None:
    """Of 10, 20 and 70 images, 1, 4 and 7 misclassified: 0.9, 0.8, 0.9 and 12 errors in 100."""
    spread = summarize_spread([(0.9, 10), (0.8, 20), (0.9, 70)])
    assert spread.mean == pytest.approx(2.6 / 3)
    assert spread.deviation == pytest.approx(math.sqrt((2 / 900 + 4 / 900) / 2))
    assert (spread.num_errors, spread.num_images) == (12, 100)
    # (88 + 1.9208 -+ 1.96 * sqrt(88 * 12 / 100 + 0.9604)) / 103.8416
    assert spread.interval == pytest.approx((0.80188, 0.93001), abs=1e-5)
    assert summarize_spread([(0.9, 10)]).deviation is None
