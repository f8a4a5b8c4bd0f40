"""The learning rate of every step under each schedule."""

import math

import pytest
from torch import nn

from mnistcli.config.choices import ScheduleName, values
from mnistcli.training.lr_scheduler import SCHEDULES, LRSchedule
from mnistcli.training.optim import build_optimizer
from tests.helpers.training import make_settings, some_digits, train_network


def learning_rates(
    schedule: str, *, epochs: int, steps: int, losses: list[float] | None = None
) -> list[float]:
    """The learning rate of every step of a training with --lr 1."""
    settings = make_settings(schedule=schedule, optimizer="sgd", lr=1.0, epochs=epochs)
    optimizer = build_optimizer(nn.Linear(1, 1), settings)
    lr_schedule = LRSchedule(optimizer, settings, steps_per_epoch=steps)
    rates: list[float] = []
    for epoch in range(epochs):
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            lr_schedule.after_step()
        lr_schedule.after_epoch(losses[epoch] if losses else 1 / (epoch + 1))
    return rates


def test_every_schedule_of_the_settings_is_in_the_table() -> None:
    assert set(SCHEDULES) == set(values(ScheduleName))


def test_a_constant_rate_stays() -> None:
    assert learning_rates("constant", epochs=3, steps=2) == [1] * 6


def test_onecycle_rises_to_the_rate_and_falls_to_nothing() -> None:
    rates = learning_rates("onecycle", epochs=5, steps=4)
    peak = rates.index(max(rates))
    assert peak == 5
    assert rates[peak] == pytest.approx(1)
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-5


def test_a_cosine_starts_at_the_rate_and_ends_near_nothing() -> None:
    expected = [(1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert learning_rates("cosine", epochs=5, steps=4) == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "first", "second"), [(3, 1, 2), (12, 4, 8)])
def test_steps_cut_the_rate_to_a_tenth_at_one_and_two_thirds(
    epochs: int, first: int, second: int
) -> None:
    expected = [1.0] * first + [0.1] * (second - first) + [0.01] * (epochs - second)
    assert learning_rates("step", epochs=epochs, steps=1) == pytest.approx(expected)


def test_a_plateau_cuts_the_rate_after_two_epochs_without_progress() -> None:
    losses = [1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.1, 0.1]
    rates = learning_rates("plateau", epochs=8, steps=1, losses=losses)
    assert rates == pytest.approx([1, 1, 1, 1, 0.3, 0.3, 0.09, 0.09])


@pytest.mark.parametrize("schedule", values(ScheduleName))
@pytest.mark.parametrize("epochs", [1, 3])
def test_every_schedule_trains_with_one_step_an_epoch(schedule: str, epochs: int) -> None:
    settings = make_settings(schedule=schedule, epochs=epochs, batch_size=16)
    _, results = train_network(settings, some_digits(8), some_digits(8, "test"))
    assert len(results) == epochs
    assert all(0 < result.lr <= settings.lr for result in results)
