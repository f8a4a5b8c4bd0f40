"""The most probable division of a line, from probabilities made up by hand."""

import numpy as np
import pytest

from mnistcli.reading.digit import DigitImage
from mnistcli.reading.lattice import TextLine
from mnistcli.reading.pipeline import PICTURE_PRIOR, THUMBNAIL_PRIOR
from mnistcli.reading.predict import Scores, best_path

Span = tuple[int, int]
Path = list[tuple[Span, bool]]


def path(
    probabilities: dict[Span, float],
    heights: dict[Span, float] | None = None,
    *,
    no_digit_prior: float = PICTURE_PRIOR,
) -> Path:
    """The best path if each span is a digit with this probability, and as high as the line."""
    pixels_HW = np.zeros((28, 28), np.uint8)
    candidates = {span: DigitImage(pixels_HW, (0, 0, 1, 1)) for span in probabilities}
    num = max(end for _, end in probabilities)
    scores: Scores = {}
    for span, image in candidates.items():
        share = probabilities[span]
        # Nearly all of it for one class.
        classes_K = np.array([0.99 * share, *[0.01 * share / 9] * 9, 1 - share])
        scores[image] = np.log(classes_K).astype(np.float32)
    all_heights = dict.fromkeys(probabilities, 1.0) | (heights or {})
    return best_path(TextLine(num, candidates, all_heights), scores, no_digit_prior)


def test_one_digit_or_two() -> None:
    assert path({(0, 1): 0.3, (1, 2): 0.3, (0, 2): 0.9}) == [((0, 2), True)]
    assert path({(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.3}) == [((0, 1), True), ((1, 2), True)]


def test_the_whole_line_counts_and_not_each_digit() -> None:
    # The most probable candidate leaves a rest that is no digit.
    probabilities = {(0, 1): 0.7, (0, 2): 0.99, (1, 3): 0.7, (2, 3): 0.01}
    probabilities |= {(1, 2): 0.01, (0, 3): 0.01}
    assert path(probabilities) == [((0, 1), True), ((1, 3), True)]


def test_what_is_surely_no_digit_is_left_out() -> None:
    assert path({(0, 1): 0.9, (1, 2): 1e-5}) == [((0, 1), True), ((1, 2), False)]
    assert path({(0, 1): 1e-5}) == [((0, 1), False)]


@pytest.mark.parametrize("prior", [THUMBNAIL_PRIOR, 0.0])
def test_a_strange_digit_is_read_where_there_is_hardly_anything_else(prior: float) -> None:
    assert path({(0, 1): 1e-5}, no_digit_prior=prior) == [((0, 1), True)]


def test_an_unlikely_digit_is_read_rather_than_left_out() -> None:
    assert path({(0, 1): 0.2}) == [((0, 1), True)]


@pytest.mark.parametrize(("height", "is_read"), [(0.15, False), (0.3, False), (0.48, True)])
def test_a_small_mark_is_left_out_however_much_it_looks_like_a_digit(
    height: float, is_read: bool
) -> None:
    found = path({(0, 1): 0.9, (1, 2): 0.9}, {(1, 2): height})
    assert found == [((0, 1), True), ((1, 2), is_read)]


def test_a_small_part_of_a_digit_belongs_to_it() -> None:
    found = path({(0, 1): 0.6, (1, 2): 0.6, (0, 2): 0.95}, {(1, 2): 0.2})
    assert found == [((0, 2), True)]


def test_only_single_fragments_are_left_out() -> None:
    nothing = path({(0, 1): 1e-5, (1, 2): 1e-5, (0, 2): 1e-5})
    assert nothing == [((0, 1), False), ((1, 2), False)]


def test_a_line_without_fragments_has_no_digits() -> None:
    assert best_path(TextLine(0, {}, {}), {}, PICTURE_PRIOR) == []
