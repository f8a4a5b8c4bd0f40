"""The average of the weights is the one worked out by hand."""

import pytest
import torch
from torch import nn

from mnistcli.training.ema import WeightEMA


def fill(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(value)


def test_the_decay_rises_to_its_value_and_statistics_are_copied() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = WeightEMA(model, 0.99)
    for value in (1.0, 2.0, 4.0):
        fill(model, value)
        ema.update()
    second = 2 / 11 * 1.0 + 9 / 11 * 2.0
    third = 3 / 12 * second + 9 / 12 * 4.0
    averages = ema.module.state_dict()
    for statistic in ("num_batches_tracked", "running_mean", "running_var"):
        assert (averages.pop(f"1.{statistic}") == 4).all()
    assert len(averages) == 4
    for tensor in averages.values():
        torch.testing.assert_close(tensor, torch.full_like(tensor, third))


def test_the_decay_never_exceeds_its_value() -> None:
    model = nn.Linear(1, 1)
    ema = WeightEMA(model, 0.1)
    for value in (1.0, 3.0):
        fill(model, value)
        ema.update()
    assert next(ema.module.parameters()).item() == pytest.approx(0.1 * 1 + 0.9 * 3)
