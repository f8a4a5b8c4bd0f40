"""McNemar's exact test against published values and a coin tossed by hand."""

import time
from collections.abc import Collection
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from mnistcli.errors import SettingsError
from mnistcli.evaluation.compare import compare, compare_all, mcnemar_p_value
from mnistcli.evaluation.scores import Mistake, Score


def score(name: str, wrong: Collection[int]) -> Score:
    """A score on 100 images, of which those in `wrong` were misread."""
    return Score(
        *(name, "digits", "test", 100, len(wrong), 0.5, 1 - len(wrong) / 100, (0.0, 1.0)),
        classes=[],
        confusion=[],
        mistakes=[Mistake(index, 1, 2, 0.9, 0.1) for index in wrong],
    )


@pytest.mark.parametrize(
    ("num_only_first", "num_only_second", "p"),
    [
        # Fagerland, Lydersen and Laake 2013, table 1: 2 * (1 + 8) / 256.
        (1, 7, 18 / 256),
        (0, 0, 1),
        (1, 0, 1),
        (0, 5, 2 / 32),
        (0, 6, 2 / 64),
        (4, 4, 1),
        (2, 3, 1),
        (10_000, 0, 0),
    ],
)
def test_p_is_the_published_one_or_that_of_a_coin(
    num_only_first: int, num_only_second: int, p: float
) -> None:
    assert mcnemar_p_value(num_only_first, num_only_second) == p
    assert mcnemar_p_value(num_only_second, num_only_first) == p


@pytest.mark.parametrize("counts", [(12, 31), (31, 12), (6, 16), (480, 520), (3, 40)])
def test_p_is_that_of_a_binomial_test(counts: tuple[int, int]) -> None:
    assert mcnemar_p_value(*counts) == pytest.approx(
        binomtest(counts[0], sum(counts)).pvalue, rel=1e-9
    )


def test_all_images_of_a_training_set_are_compared_in_no_time() -> None:
    started = time.process_time()
    assert 0 < mcnemar_p_value(29_000, 31_000) < 1e-15
    assert time.process_time() - started < 2


def test_a_pair_counts_who_alone_misread_what() -> None:
    pair = compare(score("a", {1, 2, 3, 4, 5, 6, 7, 50}), score("b", {7, 8}))
    assert (pair.first, pair.second) == ("a", "b")
    assert (pair.num_only_first, pair.num_only_second, pair.num_both) == (7, 1, 1)
    assert pair.p == 18 / 256


def test_scores_on_other_images_are_refused() -> None:
    first = score("a", {1, 2})
    elsewhere = replace(first, mistakes=[replace(each, label=3) for each in first.mistakes])
    for other in (elsewhere, replace(first, split="val"), replace(first, dataset="mnist")):
        with pytest.raises(SettingsError, match="a and a cannot be compared"):
            compare(first, other)


def test_every_two_are_compared_once() -> None:
    found = compare_all([score("a", {1}), score("b", {2}), score("c", {1})])
    assert [(each.first, each.second) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.num_both for each in found] == [0, 1, 0]
    assert compare_all([score("a", {1})]) == []
