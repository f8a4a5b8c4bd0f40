"""Training repeats bit for bit, learns, reports what happened, and stops where it diverges."""

import math
from typing import Any

import pytest
import torch

from mnistcli.data.examples import Examples
from mnistcli.data.normalization import normalize
from mnistcli.errors import RunError
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.training import engine
from mnistcli.training.engine import StepProgress, fit
from mnistcli.training.state import TrainState
from tests.helpers.runs import without_times
from tests.helpers.training import (
    build_state,
    digits_normalization,
    have_same_weights,
    make_settings,
    some_digits,
    split_digits,
    train_network,
)

AUGMENTED = {"recipe": "cnn-15k", "batch_norm": True, "augment": True, "batch_size": 32}
ALL_RANDOM = {**AUGMENTED, "ema": 0.9}
START = {"checkpoint": "a.pth", "sha256": 64 * "a", "mean": 0.1, "std": 0.3}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_bits(precision: str) -> None:
    settings = make_settings(**ALL_RANDOM)
    train, val = some_digits(160), some_digits(40, "test")
    first, results = train_network(settings, train, val, precision=precision)
    torch.rand(7)
    second, again = train_network(settings, train, val, precision=precision)
    assert have_same_weights(first.model, second.model)
    assert have_same_weights(first.eval_model, second.eval_model)
    assert without_times(results) == without_times(again)


def test_another_seed_gives_another_network() -> None:
    first, second = (
        train_network(make_settings(epochs=1, seed=seed), some_digits(96))[0] for seed in (1, 2)
    )
    assert not have_same_weights(first.model, second.model)


@pytest.mark.parametrize(
    "flags",
    [
        {"recipe": "mlp-nll-sgd"},
        {"recipe": "cnn-small", "width": 2},
        {**ALL_RANDOM, "schedule": "onecycle"},
    ],
)
def test_validation_does_not_change_training(flags: dict[str, Any]) -> None:
    settings, train = make_settings(**{"batch_size": 32, **flags}), some_digits(96)
    validated, _ = train_network(settings, train, some_digits(50, "test"))
    plain, _ = train_network(settings, train)
    assert have_same_weights(validated.model, plain.model)
    assert have_same_weights(validated.eval_model, plain.eval_model)


def test_a_small_network_learns_to_read_digits() -> None:
    state, results = train_network(make_settings(epochs=5), *split_digits())
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5]
    assert results[-1].train_loss < results[0].train_loss
    assert results[-1].val_accuracy is not None
    assert results[-1].val_accuracy > 0.8  # a tenth by chance
    assert state.num_epochs_done == 5


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    settings = make_settings(optimizer=optimizer, epochs=3, batch_size=32)
    _, results = train_network(settings, some_digits(320))
    assert results[-1].train_loss < results[0].train_loss


def test_images_are_resized_to_the_networks_input() -> None:
    settings = make_settings(recipe="ann", hidden="8", epochs=1, batch_size=16)
    _, (result,) = train_network(settings, some_digits(32), some_digits(8, "test"))
    assert math.isfinite(result.train_loss)


def test_an_epoch_reports_what_happened() -> None:
    settings, val = make_settings(epochs=1, batch_size=64, lr=0.003), some_digits(30, "test")
    state, (result,) = train_network(settings, some_digits(150), val)
    predictions = evaluate_network(state.eval_model, val, digits_normalization(settings))
    assert (result.epoch, result.lr) == (1, 0.003)
    assert (result.val_loss, result.val_accuracy) == (predictions.loss, predictions.accuracy)
    assert result.train_accuracy * 128 == pytest.approx(round(result.train_accuracy * 128))
    assert 0 < 128 / result.images_per_second < result.seconds


def test_without_validation_there_are_no_validation_figures() -> None:
    _, (result,) = train_network(make_settings(epochs=1), some_digits(64))
    assert (result.val_loss, result.val_accuracy) == (None, None)


def test_epochs_are_trained_one_at_a_time_up_to_the_last() -> None:
    settings, train = make_settings(epochs=2), some_digits(64)
    state = build_state(settings, 64)
    epochs = fit(state, train, some_digits(0), digits_normalization(settings))
    assert state.num_epochs_done == 0
    next(epochs)
    assert state.num_epochs_done == 1
    assert len(list(epochs)) == 1
    assert list(fit(state, train, some_digits(0), digits_normalization(settings))) == []


def test_every_step_is_reported_with_running_totals() -> None:
    steps: list[tuple[int, int, float, float]] = []

    def note(step: StepProgress) -> None:
        assert step.num_images == 20 * step.number
        steps.append((step.number, step.num_steps, *step.totals.tolist()))

    settings = make_settings(epochs=2, batch_size=20)
    _, results = train_network(settings, some_digits(90), on_step=note)
    assert [step[:2] for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2
    for result, epoch in zip(results, (steps[:4], steps[4:]), strict=True):
        loss_sums, nums_correct = [step[2] for step in epoch], [step[3] for step in epoch]
        assert loss_sums == sorted(loss_sums)
        assert nums_correct == sorted(nums_correct)
        assert result.train_loss == pytest.approx(loss_sums[-1] / 80)
        assert result.train_accuracy == nums_correct[-1] / 80


def test_the_averaged_network_is_evaluated_and_kept() -> None:
    settings, val = make_settings(ema=0.9, batch_size=16), some_digits(40, "test")
    state, results = train_network(settings, some_digits(96), val)
    assert state.ema is not None
    assert state.eval_model is state.ema.module
    assert not have_same_weights(state.eval_model, state.model)
    predictions = evaluate_network(state.ema.module, val, digits_normalization(settings))
    assert results[-1].val_loss == predictions.loss


def test_averaging_does_not_change_training() -> None:
    averaged, plain = (
        train_network(make_settings(recipe="cnn-15k", ema=ema), some_digits(96))[0]
        for ema in (0.9, 0.0)
    )
    assert plain.eval_model is plain.model
    assert have_same_weights(averaged.model, plain.model)


@pytest.mark.parametrize(
    ("in_val", "where"), [(False, "in step 1 of epoch 1"), (True, "after the last step of epoch 1")]
)
def test_a_loss_of_nan_stops_training_and_suggests_a_lower_rate(in_val: bool, where: str) -> None:
    good = some_digits(64)
    bad = Examples(good.images_NHW.float() * math.nan, good.labels_N)
    settings = make_settings(lr=0.5, optimizer="sgd")
    with pytest.raises(RunError, match=where) as caught:
        train_network(settings, good if in_val else bad, bad if in_val else None)
    assert caught.value.exit_code == 1
    assert "0.5" in caught.value.why
    assert caught.value.fix.endswith("--lr 0.05")


def test_steps_that_are_far_too_large_stop_training() -> None:
    settings = make_settings(optimizer="sgd", lr=100, hidden=[50] * 8, batch_size=8)
    with pytest.raises(RunError, match="NaN or infinite") as caught:
        train_network(settings, some_digits(200))
    assert caught.value.fix.endswith("--lr 10")


def test_infinite_batch_norm_statistics_stop_training() -> None:
    """Activations of 1e20 have finite means, but their squares are infinite."""
    settings = make_settings(recipe="cnn-small", width=2, batch_size=32)
    state = build_state(settings, 64)
    with torch.no_grad():
        next(state.model.parameters()).mul_(1e25)
    with pytest.raises(RunError, match="NaN or infinite"):
        list(fit(state, some_digits(64), some_digits(0), digits_normalization(settings)))


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("tensor", ["weight", "exp_avg_sq"])
def test_an_infinite_tensor_stops_training_before_it_is_saved(tensor: str, ema: float) -> None:
    """A gradient of 1e20 moves a weight by no more than the rate, but its square is infinite."""
    settings = make_settings(hidden=[8], batch_size=32, ema=ema)
    state = build_state(settings, 96)

    def spoil(step: StepProgress) -> None:
        if (state.num_epochs_done, step.number) == (1, step.num_steps):
            weight = next(state.model.parameters())
            spoiled = weight if tensor == "weight" else state.optimizer.state[weight][tensor]
            spoiled.detach()[0, 0] = math.inf

    normalization = digits_normalization(settings)
    epochs = fit(state, some_digits(96), some_digits(0), normalization, on_step=spoil)
    next(epochs)
    with pytest.raises(RunError, match="after the last step of epoch 2"):
        next(epochs)


def test_batch_norm_keeps_the_statistics_that_a_run_starts_from() -> None:
    settings = make_settings(recipe="cnn-small", width=8, batch_size=64, epochs=1, start=START)
    momenta = []

    def note(_progress: StepProgress) -> None:
        momenta.append(state.model.get_submodule("stem.2").momentum)

    train = some_digits(192)
    state = build_state(settings, len(train))
    next(fit(state, train, some_digits(0), digits_normalization(settings), on_step=note))
    assert momenta == [0.1, 0.1, 0.1]


def test_batch_norm_begins_with_plain_means() -> None:
    """The third batch has a third of the weight, and the twentieth PyTorch's tenth."""
    settings = make_settings(recipe="cnn-small", width=8, batch_size=32, epochs=1, lr=1e-30)
    momenta = []

    def note(_progress: StepProgress) -> None:
        momenta.append(state.model.get_submodule("stem.2").momentum)

    train = some_digits(640)
    state = build_state(settings, len(train))
    batches = []
    state.model.get_submodule("stem.2").register_forward_hook(
        lambda _module, inputs, _output: batches.append(inputs[0].mean(dim=(0, 2, 3)).detach())
    )
    normalization = digits_normalization(settings)
    next(fit(state, train, some_digits(0), normalization, on_step=note))
    assert momenta == [1 / step if step < 10 else 0.1 for step in range(1, 21)]
    expected = torch.stack(batches[:10]).mean(dim=0)
    for mean in batches[10:]:
        expected = 0.9 * expected + 0.1 * mean
    torch.testing.assert_close(
        state.model.get_buffer("stem.2.running_mean"), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_batch_norm_has_the_statistics_of_unaugmented_images(ema: float) -> None:
    settings = make_settings(
        recipe="cnn-small", width=8, batch_size=32, epochs=2, augment=True, ema=ema
    )
    train, normalization = some_digits(192), digits_normalization(settings)
    state = build_state(settings, len(train))
    list(fit(state, train, some_digits(0), normalization))
    statistics = state.eval_model.state_dict()
    inputs_NCHW = []
    norm = state.eval_model.get_submodule("stem.2")
    norm.register_forward_hook(lambda _module, inputs, _output: inputs_NCHW.append(inputs[0]))
    state.eval_model(normalize(train.images_NHW, normalization))
    mean_C = inputs_NCHW[0].mean(dim=(0, 2, 3))
    variance_C = inputs_NCHW[0].var(dim=(0, 2, 3))
    torch.testing.assert_close(statistics["stem.2.running_mean"], mean_C, rtol=1e-4, atol=1e-5)
    # The mean of six batches' variances lacks the variance of their means.
    torch.testing.assert_close(statistics["stem.2.running_var"], variance_C, rtol=0.02, atol=0)


def num_batches_seen(state: TrainState) -> int:
    tensors = state.eval_model.state_dict().items()
    return next(int(num) for name, num in tensors if name.endswith("num_batches_tracked"))


def test_statistics_are_recomputed_without_dropout() -> None:
    """Dropout would add its own variance, and draw from the generator of the next epoch."""
    settings, train = make_settings(**AUGMENTED, dropout=0.5, epochs=1), some_digits(96)
    state = build_state(settings, len(train))
    draws = []

    def note(progress: StepProgress) -> None:
        if progress.number == progress.num_steps:
            draws.append(torch.get_rng_state())

    next(fit(state, train, some_digits(0), digits_normalization(settings), on_step=note))
    assert torch.equal(draws[0], torch.get_rng_state())
    assert num_batches_seen(state) == 3 + 3


@pytest.mark.parametrize(
    ("changes", "num_trained", "num_recomputing"),
    [
        ({}, 3, 2),
        ({"batch_size": 100}, 1, 1),
        ({"augment": False}, 3, 0),
        # Fine-tuning.
        ({"start": START}, 3, 0),
    ],
)
def test_statistics_are_recomputed_on_a_limited_number_of_batches(
    changes: dict[str, Any],
    num_trained: int,
    num_recomputing: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "_NUM_RECOMPUTING_IMAGES", 64)
    settings, train = make_settings(**{**AUGMENTED, "epochs": 1, **changes}), some_digits(96)
    state = build_state(settings, len(train))
    next(fit(state, train, some_digits(0), digits_normalization(settings)))
    assert num_batches_seen(state) == num_trained + num_recomputing
