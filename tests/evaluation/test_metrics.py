"""Figures against ones worked out by hand or published."""

import math

import numpy as np
import pytest

from mnistcli.errors import GateError
from mnistcli.evaluation.metrics import (
    class_scores,
    confusion_matrix,
    macro_mean,
    summarize_spread,
    wilson_interval,
)
from mnistcli.evaluation.scores import Score, require_accuracy

# Rows: the truth. Class c is never shown and never named.
CONFUSION = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])


def score(num_correct: int, num_images: int) -> Score:
    return Score(
        checkpoint="best.pth",
        dataset="digits",
        split="test",
        num_images=num_images,
        num_errors=num_images - num_correct,
        loss=0.1,
        accuracy=num_correct / num_images,
        interval=(0.0, 1.0),
        classes=[],
        confusion=[],
        mistakes=[],
    )


def test_the_confusion_matrix_has_a_row_a_true_class() -> None:
    labels_N = np.array([0, 0, 1, 2, 2, 2])
    predicted_N = np.array([0, 1, 1, 0, 0, 2])
    counts_KK = confusion_matrix(labels_N, predicted_N, num_classes=4)
    assert counts_KK.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    assert counts_KK.dtype == np.int64


def test_the_confusion_matrix_of_nothing_is_all_zeros() -> None:
    none_N = np.array([], dtype=np.int64)
    assert confusion_matrix(none_N, none_N, num_classes=2).tolist() == [[0, 0], [0, 0]]


def test_precision_recall_and_f1_are_those_worked_out_by_hand() -> None:
    a, b, _ = class_scores(CONFUSION, ("a", "b", "c"))
    assert (a.name, a.num_images) == ("a", 4)
    assert (a.precision, a.recall) == pytest.approx((3 / 5, 3 / 4))
    assert a.f1 == pytest.approx(2 / (5 / 3 + 4 / 3))
    assert (b.name, b.num_images) == ("b", 6)
    assert (b.precision, b.recall, b.f1) == pytest.approx((4 / 5, 4 / 6, 8 / 11))


def test_macro_f1_weighs_every_class_the_same() -> None:
    mean = macro_mean(class_scores(CONFUSION, ("a", "b", "c")))
    assert mean.f1 == pytest.approx((2 / 3 + 8 / 11 + 0) / 3)
    assert (mean.precision, mean.recall) == pytest.approx((1.4 / 3, (3 / 4 + 4 / 6) / 3))
    assert mean.num_images == 10


def test_a_class_that_never_occurs_scores_zero_and_not_nan() -> None:
    empty = class_scores(CONFUSION, ("a", "b", "c"))[2]
    assert (empty.num_images, empty.precision, empty.recall, empty.f1) == (0, 0, 0, 0)


def test_a_class_that_is_only_ever_missed_scores_zero() -> None:
    missed = class_scores(np.array([[0, 5], [0, 5]]), ("a", "b"))[0]
    assert (missed.num_images, missed.precision, missed.recall, missed.f1) == (5, 0, 0, 0)


@pytest.mark.parametrize(
    ("num_right", "num_all", "low", "high"),
    [
        (9950, 10_000, 0.9934, 0.9962),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_is_the_published_one(
    num_correct: int, num_all: int, low: float, high: float
) -> None:
    assert wilson_interval(num_correct, num_all) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("num_all", [1, 7, 10_000])
def test_the_wilson_interval_stays_inside_0_and_1(num_all: int) -> None:
    for num_correct in {0, 1, num_all // 2, num_all}:
        low, high = wilson_interval(num_correct, num_all)
        assert 0 <= low <= num_correct / num_all <= high + 1e-12
        assert high <= 1


def test_more_confidence_makes_a_wider_interval() -> None:
    low, high = wilson_interval(9, 10, confidence=0.99)
    assert low < wilson_interval(9, 10)[0]
    assert high > wilson_interval(9, 10)[1]


def test_the_interval_narrows_with_the_root_of_the_number_of_images() -> None:
    low, high = wilson_interval(5_000, 10_000)
    wide_low, wide_high = wilson_interval(50, 100)
    assert math.isclose((wide_high - wide_low) / (high - low), 10, rel_tol=0.05)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        wilson_interval(0, 0)


def test_an_accuracy_below_the_gate_leaves_with_exit_code_5() -> None:
    with pytest.raises(GateError) as caught:
        require_accuracy(score(9_930, 10_000), min_percent=99.4)
    assert caught.value.exit_code == 5
    assert caught.value.what == "The accuracy is 99.30 %, below 99.4 %."
    assert caught.value.why == "70 of 10,000 images were misread."


def test_of_several_checkpoints_all_must_pass_the_gate() -> None:
    scores = score(9_930, 10_000), score(9_950, 10_000), score(9_910, 10_000)
    require_accuracy(*scores, min_percent=99.1)
    with pytest.raises(GateError) as caught:
        require_accuracy(*scores, min_percent=99.4)
    assert caught.value.what == "2 of 3 checkpoints are below 99.4 %."
    assert caught.value.why == (
        "The worst, best.pth, reaches 99.10 %: 90 of 10,000 images were misread."
    )


@pytest.mark.parametrize("min_percent", [None, 0, 99.3, 99.299])
def test_an_accuracy_at_or_above_the_gate_passes(min_percent: float | None) -> None:
    require_accuracy(score(9_930, 10_000), min_percent=min_percent)


def test_an_accuracy_exactly_at_the_gate_passes_whatever_binary_fractions_say() -> None:
    for num_correct in range(10_001):
        require_accuracy(score(num_correct, 10_000), min_percent=float(f"{num_correct / 100:.2f}"))


def test_one_image_too_few_misses_the_gate() -> None:
    with pytest.raises(GateError):
        require_accuracy(score(59_699, 60_000), min_percent=99.5)


def test_the_spread_of_several_networks() -> None:
    """Of 10, 20 and 70 images, 1, 4 and 7 misread: 0.9, 0.8, 0.9 and 12 errors in 100."""
    found = summarize_spread([(0.9, 10), (0.8, 20), (0.9, 70)])
    assert found.mean == pytest.approx(2.6 / 3)
    assert found.deviation == pytest.approx(math.sqrt((2 / 900 + 4 / 900) / 2))
    assert (found.num_errors, found.num_images) == (12, 100)
    # (88 + 1.9208 -+ 1.96 * sqrt(88 * 12 / 100 + 0.9604)) / 103.8416
    assert found.interval == pytest.approx((0.80188, 0.93001), abs=1e-5)
    assert summarize_spread([(0.9, 10)]).deviation is None
