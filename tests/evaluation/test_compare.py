"""McNemar's exact test against published values and SciPy, and the sentence about two scores."""

from dataclasses import replace

import pytest
from scipy.stats import binomtest

from mnistcli.errors import SettingsError
from mnistcli.evaluation.compare import Comparison, compare, compare_all, mcnemar_p_value
from tests.helpers.evaluation import make_score


@pytest.mark.parametrize(
    ("num_only_first", "num_only_second", "p"),
    [
        (1, 7, 18 / 256),  # Fagerland, Lydersen and Laake 2013, table 1: 2 * (1 + 8) / 256
        (0, 0, 1),
        (1, 0, 1),
        (0, 6, 2 / 64),
        (4, 4, 1),
        (10_000, 0, 0),
    ],
)
def test_p_is_the_published_one_or_counted_by_hand(
    num_only_first: int, num_only_second: int, p: float
) -> None:
    assert mcnemar_p_value(num_only_first, num_only_second) == p
    assert mcnemar_p_value(num_only_second, num_only_first) == p


@pytest.mark.parametrize("counts", [(12, 31), (480, 520), (29_000, 31_000)])
def test_p_is_that_of_a_binomial_test(counts: tuple[int, int]) -> None:
    expected = binomtest(counts[0], sum(counts)).pvalue
    assert mcnemar_p_value(*counts) == pytest.approx(expected, rel=1e-6)


def test_a_comparison_counts_the_errors_of_one_and_of_both() -> None:
    first, second = make_score("a", {1, 2, 3, 4, 5, 6, 7, 50}), make_score("b", {7, 8})
    assert compare(first, second) == Comparison("a", "b", 7, 1, 1, p=18 / 256)


def test_scores_on_different_images_are_refused() -> None:
    first = make_score("a", {1, 2})
    relabeled = [replace(mistake, label=3) for mistake in first.mistakes]
    for change in ({"mistakes": relabeled}, {"split": "val"}, {"dataset": "digits"}):
        with pytest.raises(SettingsError, match="a and a cannot be compared"):
            compare(first, replace(first, **change))


def test_every_pair_is_compared_once() -> None:
    pairs = compare_all([make_score("a", {1}), make_score("b", {2}), make_score("c", {1})])
    assert [(each.first, each.second) for each in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.num_both for each in pairs] == [0, 1, 0]
    assert compare_all([make_score("a", {1})]) == []


@pytest.mark.parametrize(
    ("only_first", "only_second", "sentence"),
    [
        (31, 12, "B is better: 12 images are misclassified by B only, 31 by A only, p = 0.0054."),
        (0, 20, "A is better: 0 images are misclassified by A only, 20 by B only, p < 0.0001."),
        (
            *(1, 7),
            "No significant difference: 1 image is misclassified by A only, 7 by B only, p = 0.07.",
        ),
        (0, 0, "No significant difference: both misclassify the same images, p = 1."),
    ],
)
def test_a_comparison_in_words(only_first: int, only_second: int, sentence: str) -> None:
    p = mcnemar_p_value(only_first, only_second)
    assert Comparison("A", "B", only_first, only_second, 9, p).in_words() == sentence
    pair = Comparison("x/A.pth", "x/B.pth", only_first, only_second, 9, p)
    assert pair.in_words("A", "B") == sentence
