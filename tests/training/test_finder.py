"""The network that finds ink learns on composed pages, the same bits for the same seed."""

import pytest
import torch

from mnistcli.data.examples import Examples
from mnistcli.errors import RunError
from mnistcli.models.ink_finder import InkFinder
from mnistcli.training import finder
from mnistcli.training.finder import FinderStep, fit_finder
from tests.helpers.training import have_same_weights, some_digits


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "BATCH_SIZE", 4)


def train(
    num_steps: int, *, seed: int = 0, digits: Examples | None = None, report_every: int = 100
) -> tuple[InkFinder, list[FinderStep]]:
    torch.manual_seed(seed)
    network = InkFinder()
    steps = fit_finder(
        network,
        digits or some_digits(40),
        num_steps=num_steps,
        seed=seed,
        device=torch.device("cpu"),
        dtype=torch.float32,
        report_every=report_every,
    )
    return network, list(steps)


def test_a_few_steps_reduce_the_loss() -> None:
    network, steps = train(18, report_every=6)
    assert [(step.number, step.num_steps) for step in steps] == [(6, 18), (12, 18), (18, 18)]
    assert steps[0].loss > steps[2].loss > 0
    assert 0 < steps[0].seconds < steps[2].seconds
    assert not network.training


def test_the_last_step_is_always_reported() -> None:
    assert [step.number for step in train(3, report_every=2)[1]] == [2, 3]


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again, other = (train(2, seed=seed)[0] for seed in (1, 1, 2))
    assert have_same_weights(first, again)
    assert not have_same_weights(first, other)


def test_a_loss_that_is_not_finite_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "INK_WEIGHT", float("inf"))
    with pytest.raises(RunError, match="step 1"):
        train(3)
