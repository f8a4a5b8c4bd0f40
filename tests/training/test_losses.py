"""The losses are the values worked out by hand."""

import math

import pytest
import torch

from mnistcli.config.choices import LossName, values
from mnistcli.training.losses import LOSSES, batch_loss, with_no_digit
from tests.helpers.training import make_settings


def test_every_loss_of_the_settings_is_in_the_table() -> None:
    assert set(LOSSES) == set(values(LossName))


@pytest.mark.parametrize("loss", values(LossName))
def test_a_loss_is_the_mean_over_the_images(loss: str) -> None:
    logits_NK = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])) + 7
    value = batch_loss(logits_NK, torch.tensor([0, 2]), make_settings(loss=loss))
    assert value.item() == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)


def test_label_smoothing_spreads_a_share_of_the_target_over_all_classes() -> None:
    logits_NK = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    value = batch_loss(logits_NK, torch.tensor([0]), make_settings(label_smoothing=0.3))
    expected = -(0.7 + 0.1) * math.log(0.5) - 0.1 * math.log(0.3) - 0.1 * math.log(0.2)
    assert value.item() == pytest.approx(expected)


def test_the_log_sum_exp_is_the_log_odds_of_being_a_digit() -> None:
    logits_NK = torch.tensor([[1.0, -2.0, 0.5], [-3.0, -4.0, -5.0]])
    with_none_NK = with_no_digit(logits_NK)
    assert torch.equal(with_none_NK, torch.cat([logits_NK, torch.zeros(2, 1)], dim=1))
    no_digit_N = with_none_NK.softmax(dim=1)[:, -1]
    expected_N = torch.logit(1 - no_digit_N)
    assert torch.allclose(logits_NK.logsumexp(dim=1), expected_N, atol=1e-5)


@pytest.mark.parametrize("loss", values(LossName))
def test_the_loss_of_no_digit(loss: str) -> None:
    logits_NK = torch.log(torch.tensor([[0.5, 1.0, 1.5]]))
    value = batch_loss(with_no_digit(logits_NK), torch.tensor([3]), make_settings(loss=loss))
    assert value.item() == pytest.approx(math.log(4))
