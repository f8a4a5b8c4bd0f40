"""The expected calibration error, against values computed by hand."""

import itertools

import numpy as np
import pytest

from mnistcli.calibration import Bin, expected_calibration_error


def answers(*confidences: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Probabilities of two classes, of which the first is the more probable."""
    return np.array([[each, 1 - each] for each in confidences])


def test_the_error_is_the_mean_gap_weighted_by_images() -> None:
    found = expected_calibration_error(
        answers(0.9, 0.8, 0.6, 0.55), np.array([0, 1, 0, 1]), num_bins=5
    )
    # Gaps: 0.075 for two images, 0.8 and 0.1 for one each.
    assert found.error == pytest.approx((2 * 0.075 + 0.8 + 0.1) / 4)
    assert [each.num_images for each in found.bins] == [0, 0, 2, 1, 1]
    assert [each.confidence for each in found.bins] == pytest.approx([0, 0, 0.575, 0.8, 0.9])
    assert [each.accuracy for each in found.bins] == [0, 0, 0.5, 0, 1]


def test_fifteen_bins_of_one_width_share_everything() -> None:
    bins = expected_calibration_error(answers(0.7), np.array([0])).bins
    assert len(bins) == 15
    assert bins[0].low == 0
    assert bins[-1].high == 1
    assert [each.high - each.low for each in bins] == pytest.approx([1 / 15] * 15)
    assert all(before.high == after.low for before, after in itertools.pairwise(bins))


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_it() -> None:
    bins = expected_calibration_error(answers(0.75, 1.0), np.array([0, 0]), num_bins=4).bins
    assert bins[2] == Bin(0.5, 0.75, 1, 0.75, 1.0)
    assert bins[3] == Bin(0.75, 1.0, 1, 1.0, 1.0)


def test_who_is_as_sure_as_right_has_no_error() -> None:
    labels_N = np.array([0] * 80 + [1] * 20)
    assert expected_calibration_error(answers(*[0.8] * 100), labels_N).error == pytest.approx(0)


def test_who_is_always_sure_errs_by_the_share_of_mistakes() -> None:
    labels_N = np.array([0] * 97 + [1] * 3)
    assert expected_calibration_error(answers(*[1.0] * 100), labels_N).error == pytest.approx(0.03)


def test_a_probability_rounded_above_one_is_in_the_last_bin() -> None:
    found = expected_calibration_error(answers(1 + 1e-7), np.array([0]))
    assert found.bins[-1].num_images == 1


def test_without_images_there_is_no_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        expected_calibration_error(np.zeros((0, 10)), np.zeros(0, np.int64))
