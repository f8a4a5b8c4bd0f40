"""Test-time augmentation is the mean over nine shifts, with background at the free edge."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mnistcli.data.examples import Examples
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.evaluation.tta import evaluate_with_tta
from tests.helpers.evaluation import hundred_digits, load_models, probabilities


def test_tta_averages_nine_shifts(trained: Path) -> None:
    model, digits = load_models(trained)[0], hundred_digits()
    # The border is empty, so that rolling the pixels shifts the image.
    assert not digits.images_NHW[:, [0, -1]].any()
    assert not digits.images_NHW[:, :, [0, -1]].any()
    shifted = [
        Examples(digits.images_NHW.roll((down, across), (1, 2)), digits.labels_N)
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
    ]
    expected_NK = torch.stack([probabilities(model, each) for each in shifted]).mean(dim=0)
    predictions = evaluate_with_tta(model.network, digits, model.normalization)
    torch.testing.assert_close(predictions.probabilities_NK, expected_NK)
    loss = F.nll_loss(expected_NK.double().log(), digits.labels_N).item()
    assert predictions.loss == pytest.approx(loss, rel=1e-5)
    plain = evaluate_network(model.network, digits, model.normalization)
    largest = (predictions.probabilities_NK - plain.probabilities_NK).abs().max()
    assert largest > 0.01


def test_pixels_shifted_out_are_gone_and_background_comes_in(trained: Path) -> None:
    """An image with ink up to its border, compared with its nine shifts cut by hand."""
    model = load_models(trained)[0]
    full = Examples(torch.full((1, 28, 28), 255, dtype=torch.uint8), torch.tensor([8]))
    shifted_NK = []
    for rows in (slice(0, 28), slice(0, 27), slice(1, 28)):
        for columns in (slice(0, 28), slice(0, 27), slice(1, 28)):
            cut_NHW = torch.zeros_like(full.images_NHW)
            cut_NHW[:, rows, columns] = 255
            shifted_NK.append(probabilities(model, Examples(cut_NHW, full.labels_N)))
    predictions = evaluate_with_tta(model.network, full, model.normalization)
    expected_NK = torch.cat(shifted_NK).mean(dim=0, keepdim=True)
    torch.testing.assert_close(predictions.probabilities_NK, expected_NK)
