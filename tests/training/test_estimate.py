"""The estimated time follows from what trial steps take; they leave no trace in the training."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mnistcli.data.examples import Examples
from mnistcli.errors import RunError
from mnistcli.runs.history import EpochResult
from mnistcli.training import estimate, trainer
from mnistcli.training.estimate import estimate_epoch_seconds
from tests.helpers.training import have_same_weights, make_settings, split_digits, train_network


def epoch_result(number: int, *, images_per_second: float, seconds: float) -> EpochResult:
    return EpochResult(number, 0.1, 0.0, 1.0, 0.0, 1.0, seconds, images_per_second)


def plan_for(**flags: Any) -> trainer.TrainingPlan:
    return trainer.make_plan(make_settings(device="cpu", **flags))


def test_the_estimate_scales_what_a_step_and_a_batch_of_evaluation_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, val = split_digits()
    assert (len(train), len(val)) == (1293, 144)

    def fit(_state: object, sample: Examples, val_sample: Examples, *_: object) -> Iterator[Any]:
        assert (len(sample), len(val_sample)) == (128, 100)
        yield epoch_result(1, images_per_second=1, seconds=999)
        yield epoch_result(2, images_per_second=640, seconds=0.2 + 0.05)
        yield epoch_result(3, images_per_second=320, seconds=0.4 + 0.07)

    monkeypatch.setattr(estimate, "fit", fit)
    seconds = estimate_epoch_seconds(plan_for(batch_size=128, epochs=3), train, val)
    assert seconds == pytest.approx(10 * 0.2 + 1.44 * 0.05)


@pytest.mark.parametrize(("batch_size", "num_val"), [(32, 144), (32, 0), (1024, 144)])
def test_the_estimate_counts_the_images_that_statistics_are_recomputed_on(
    batch_size: int, num_val: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = split_digits()
    val = val.take(torch.arange(num_val))

    def fit(*_: object) -> Iterator[Any]:
        for number in (1, 2, 3):
            yield epoch_result(number, images_per_second=batch_size / 0.2, seconds=0.2 + 0.05)

    monkeypatch.setattr(estimate, "fit", fit)
    plan = plan_for(recipe="cnn-small", width=18, batch_size=batch_size, epochs=30)
    num_steps = 1293 // batch_size
    num_images, num_tried = num_val + num_steps * batch_size, min(num_val, 100) + batch_size
    seconds = estimate_epoch_seconds(plan, train, val)
    assert seconds == pytest.approx(num_steps * 0.2 + num_images / num_tried * 0.05)


@pytest.mark.parametrize("num_val", [0, 20])
def test_the_trial_steps_leave_the_training_as_it_is(num_val: int) -> None:
    train, val = split_digits()
    val = val.take(torch.arange(num_val))
    flags = {"recipe": "cnn-15k", "dropout": 0.2, "augment": True, "batch_size": 64}
    plain, _ = train_network(make_settings(**flags), train, val)
    seconds = estimate_epoch_seconds(plan_for(**flags), train, val)
    assert seconds is not None
    assert seconds > 0
    tried, _ = train_network(make_settings(**flags), train, val)
    assert have_same_weights(tried.model, plain.model)


def test_there_is_no_estimate_if_the_trial_steps_diverge(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object) -> Iterator[Any]:
        raise RunError("The loss became NaN.")
        yield

    monkeypatch.setattr(estimate, "fit", fit)
    assert estimate_epoch_seconds(plan_for(epochs=10), *split_digits()) is None


def test_a_training_of_a_few_steps_is_not_estimated() -> None:
    assert estimate_epoch_seconds(plan_for(batch_size=128, epochs=2), *split_digits()) is None
