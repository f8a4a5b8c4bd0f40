"""Training gives the same bits again, falls where it should, and judges by hand-checked figures."""

import functools
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # PyTorch's own optimisers load it; it makes its own cache directory
from torch import Tensor, nn

from mnistcli.config.choices import DataSplit
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data import batches
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization
from mnistcli.data.splits import split_by_size
from mnistcli.errors import DataError, RunError
from mnistcli.evaluation.inference import Predictions, evaluate_network
from mnistcli.models.registry import build_network, get_architecture
from mnistcli.runs.history import EpochResult
from mnistcli.training.ema import WeightEMA
from mnistcli.training.engine import OnStep, StepProgress, fit
from mnistcli.training.losses import batch_loss
from mnistcli.training.lr_scheduler import LRSchedule
from mnistcli.training.state import TrainState
from tests.helpers.runs import assert_same, without_times

DIGITS = get_dataset("digits")


@functools.cache
def digits(split: DataSplit) -> Examples:
    return load_dataset(DIGITS, split, Path())


@functools.cache
def halves() -> tuple[Examples, Examples]:
    """Digits to learn from and digits to be judged on, by the same writers."""
    return split_by_size(digits("train"), 0.2, seed=0)


def some_digits(num: int, split: DataSplit = "train") -> Examples:
    return digits(split).take(torch.arange(num))


def none() -> Examples:
    return some_digits(0)


def normalization(settings: TrainSettings) -> Normalization:
    return Normalization(DIGITS.mean, DIGITS.std, get_architecture(settings.arch).input_px)


def chosen(**flags: Any) -> TrainSettings:
    flags = {
        "recipe": "mlp-50-50",
        "dataset": "digits",
        "epochs": 2,
        "schedule": "constant",
    } | flags
    return fit_budget(resolve_settings(flags, environ={}).settings)


def started(
    settings: TrainSettings, train: Examples, *, device: str = "cpu", precision: str = "float32"
) -> TrainState:
    return TrainState(settings, num_examples=len(train), device=device, precision=precision)


def trained(
    settings: TrainSettings,
    train: Examples,
    val: Examples | None = None,
    *,
    on_step: OnStep | None = None,
    precision: str = "float32",
) -> tuple[TrainState, list[EpochResult]]:
    state = started(settings, train, precision=precision)
    epochs = fit(state, train, val or none(), normalization(settings), on_step=on_step)
    return state, list(epochs)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


class Lookup(nn.Module):
    """Answers with fixed logits, whatever the pictures; notes the mode it was asked in."""

    def __init__(self, logits_NK: Tensor) -> None:
        super().__init__()
        self.logits_NK = logits_NK
        self.modes: list[bool] = []

    def forward(self, x_NCHW: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.logits_NK[: len(x_NCHW)]


EVERYTHING_RANDOM = {"recipe": "cnn-15k", "augment": True, "ema": 0.9, "batch_size": 32}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_bits(precision: str) -> None:
    settings, train, val = chosen(**EVERYTHING_RANDOM), some_digits(160), some_digits(40, "test")
    first, results = trained(settings, train, val, precision=precision)
    torch.rand(7)
    second, again = trained(settings, train, val, precision=precision)
    assert same_weights(first.model, second.model)
    assert same_weights(first.eval_model, second.eval_model)
    first = [replace(result, seconds=0, images_per_second=0) for result in results]
    assert first == [replace(result, seconds=0, images_per_second=0) for result in again]


def test_another_seed_gives_another_network() -> None:
    train = some_digits(96)
    first, _ = trained(chosen(epochs=1, seed=1), train)
    second, _ = trained(chosen(epochs=1, seed=2), train)
    assert not same_weights(first.model, second.model)


def test_a_state_starts_from_the_weights_of_its_seed() -> None:
    settings, train = chosen(seed=5), some_digits(10)
    torch.manual_seed(5)
    built = build_network(settings.arch, settings.network)
    assert same_weights(started(settings, train).model, built)


@pytest.mark.parametrize(
    "flags",
    [
        {"recipe": "cnn-15k", "schedule": "constant"},
        {"recipe": "mlp-nll-sgd"},
        {"recipe": "cnn-small", "width": 2},
        {"recipe": "cnn-15k", "schedule": "onecycle", "augment": True, "ema": 0.9},
    ],
)
def test_judging_in_between_does_not_change_training(flags: dict[str, Any]) -> None:
    settings, train = chosen(**{"batch_size": 32, **flags}), some_digits(96)
    judged, _ = trained(settings, train, some_digits(50, "test"))
    unjudged, _ = trained(settings, train)
    assert same_weights(judged.model, unjudged.model)
    assert same_weights(judged.eval_model, unjudged.eval_model)


def test_a_small_network_learns_to_read_digits() -> None:
    settings = chosen(epochs=5)
    state, results = trained(settings, *halves())
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5]
    losses = [result.train_loss for result in results]
    assert losses == sorted(losses, reverse=True)
    assert results[-1].train_accuracy > 0.95
    assert results[-1].val_accuracy is not None
    assert results[-1].val_accuracy > 0.9
    assert state.num_epochs_done == 5


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    settings = chosen(optimizer=optimizer, epochs=3, batch_size=32)
    _, results = trained(settings, some_digits(320))
    assert results[-1].train_loss < 0.8 * results[0].train_loss


def test_bfloat16_trains_about_as_well_as_float32_and_keeps_float32_weights() -> None:
    settings = chosen(recipe="cnn-26k", epochs=4)
    full, full_results = trained(settings, *halves())
    half, half_results = trained(settings, *halves(), precision="bfloat16")
    assert not same_weights(full.model, half.model)
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert full_results[-1].val_accuracy is not None
    assert half_results[-1].val_accuracy is not None
    assert full_results[-1].val_accuracy > 0.8
    assert half_results[-1].val_accuracy == pytest.approx(full_results[-1].val_accuracy, abs=0.08)


def test_pictures_are_resized_to_what_the_network_sees() -> None:
    settings = chosen(recipe="ann", hidden="8", epochs=1, batch_size=16)
    _, (result,) = trained(settings, some_digits(32), some_digits(8, "test"))
    assert math.isfinite(result.train_loss)


def test_an_epoch_reports_what_happened() -> None:
    settings, train = chosen(epochs=1, batch_size=64, lr=0.003), some_digits(150)
    state, (result,) = trained(settings, train, some_digits(30, "test"))
    judged = evaluate_network(state.eval_model, some_digits(30, "test"), normalization(settings))
    assert (result.epoch, result.lr) == (1, 0.003)
    assert (result.val_loss, result.val_accuracy) == (judged.loss, judged.accuracy)
    assert result.train_accuracy * 128 == pytest.approx(round(result.train_accuracy * 128))
    assert 0 < 128 / result.images_per_second < result.seconds


def test_without_validation_there_are_no_validation_figures() -> None:
    _, (result,) = trained(chosen(epochs=1), some_digits(64))
    assert (result.val_loss, result.val_accuracy) == (None, None)


def test_a_state_that_is_done_trains_no_further() -> None:
    settings, train = chosen(epochs=1), some_digits(64)
    state, _ = trained(settings, train)
    assert list(fit(state, train, none(), normalization(settings))) == []


def test_training_goes_epoch_by_epoch_as_it_is_asked_for() -> None:
    settings, train = chosen(epochs=3), some_digits(64)
    state = started(settings, train)
    epochs = fit(state, train, none(), normalization(settings))
    assert state.num_epochs_done == 0
    next(epochs)
    assert state.num_epochs_done == 1


def test_every_step_is_announced_with_running_totals_that_end_at_the_epochs() -> None:
    steps: list[tuple[int, int, float, float]] = []

    def note(step: StepProgress) -> None:
        loss_sum, num_correct = step.totals.tolist()
        assert step.num_images == 20 * step.number
        steps.append((step.number, step.num_steps, loss_sum, num_correct))

    settings = chosen(epochs=2, batch_size=20)
    _, results = trained(settings, some_digits(90), on_step=note)
    assert [(step, num) for step, num, *_ in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2
    for result, epoch in zip(results, (steps[:4], steps[4:]), strict=True):
        loss_sums, num_rights = [step[2] for step in epoch], [step[3] for step in epoch]
        assert loss_sums == sorted(loss_sums)
        assert num_rights == sorted(num_rights)
        assert result.train_loss == pytest.approx(loss_sums[-1] / 80)
        assert result.train_accuracy == num_rights[-1] / 80


def test_nll_equals_cross_entropy_on_the_same_logits() -> None:
    logits_NK = 5 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    labels_N = torch.arange(64) % 10
    nll = batch_loss(logits_NK, labels_N, chosen(loss="nll"))
    cross_entropy = batch_loss(logits_NK, labels_N, chosen(loss="cross-entropy"))
    torch.testing.assert_close(nll, cross_entropy)


def test_a_loss_is_the_mean_of_what_each_image_costs() -> None:
    logits_NK = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])) + 7
    loss = batch_loss(logits_NK, torch.tensor([0, 2]), chosen())
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)


def test_label_smoothing_gives_the_value_worked_out_by_hand() -> None:
    logits_NK = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    loss = batch_loss(logits_NK, torch.tensor([0]), chosen(label_smoothing=0.3))
    expected = -(0.7 + 0.1) * math.log(0.5) - 0.1 * math.log(0.3) - 0.1 * math.log(0.2)
    assert loss.item() == pytest.approx(expected)


WHERE = {False: "NaN or infinite in step 1 of epoch 1", True: "after the last step of epoch 1"}


@pytest.mark.parametrize("with_val", [False, True])
def test_a_loss_that_is_no_number_stops_training_and_advises_smaller_steps(with_val: bool) -> None:
    good = some_digits(64)
    bad = Examples(good.images_NHW.float() * math.nan, good.labels_N)
    settings = chosen(lr=0.5, optimizer="sgd")
    with pytest.raises(RunError, match=WHERE[with_val]) as caught:
        trained(settings, good if with_val else bad, bad if with_val else None)
    assert caught.value.exit_code == 1
    assert "learning rate 0.5" in caught.value.why
    assert caught.value.fix.endswith("--lr 0.05")


def test_steps_that_are_far_too_large_stop_training() -> None:
    settings = chosen(optimizer="sgd", lr=100, hidden=[50] * 8, batch_size=8)
    with pytest.raises(RunError, match="The loss became") as caught:
        trained(settings, some_digits(200))
    assert caught.value.fix.endswith("--lr 10")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_weight_decay_is_kept_off_biases_and_batch_norm(optimizer: str) -> None:
    settings = chosen(recipe="cnn-small", width=3, optimizer=optimizer, weight_decay=0.25)
    state = started(settings, some_digits(10))
    decayed, free = state.optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.25, 0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    in_groups = [id(p) for p in (*decayed["params"], *free["params"])]
    assert sorted(in_groups) == sorted(id(p) for p in state.model.parameters())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_the_optimizer_is_the_one_that_was_asked_for(name: str, kind: type) -> None:
    optimizer = started(chosen(optimizer=name, lr=0.02), some_digits(10)).optimizer
    assert type(optimizer).__bases__ == (kind,)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.02]


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_sgd_keeps_the_momentum_that_was_asked_for(momentum: float, schedule: str) -> None:
    settings = chosen(optimizer="sgd", momentum=momentum, schedule=schedule, batch_size=16)
    state, _ = trained(settings, some_digits(64))
    assert {group["momentum"] for group in state.optimizer.param_groups} == {momentum}
    assert {group["nesterov"] for group in state.optimizer.param_groups} == {momentum > 0}


def rates(
    name: str, *, epochs: int, steps: int, losses: list[float] | None = None
) -> list[list[float]]:
    """The learning rate of every step, a list an epoch, from a schedule with --lr 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = LRSchedule(optimizer, chosen(schedule=name, lr=1.0, epochs=epochs), steps=steps)
    found: list[list[float]] = []
    for epoch in range(epochs):
        found.append([])
        for _ in range(steps):
            found[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step_batch()
        schedule.step_epoch(losses[epoch] if losses else 1 / (epoch + 1))
    return found


def flat(by_epoch: list[list[float]]) -> list[float]:
    return [rate for epoch in by_epoch for rate in epoch]


def test_a_constant_rate_stays() -> None:
    assert rates("constant", epochs=3, steps=2) == [[1, 1]] * 3


def test_onecycle_rises_to_the_rate_and_falls_to_nothing() -> None:
    by_step = flat(rates("onecycle", epochs=5, steps=4))
    peak = by_step.index(max(by_step))
    assert max(by_step) == pytest.approx(1)
    assert peak == 5
    assert by_step[0] == pytest.approx(1 / 25)
    assert by_step[: peak + 1] == sorted(by_step[: peak + 1])
    assert by_step[peak:] == sorted(by_step[peak:], reverse=True)
    assert by_step[-1] < 1e-5


def test_a_cosine_starts_at_the_rate_and_ends_near_nothing() -> None:
    by_step = flat(rates("cosine", epochs=5, steps=4))
    expected = [(1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert by_step == pytest.approx(expected)
    assert by_step[-1] < 0.01


@pytest.mark.parametrize(("epochs", "first", "second"), [(3, 1, 2), (6, 2, 4), (12, 4, 8)])
def test_steps_cut_the_rate_to_a_tenth_at_one_and_two_thirds(
    epochs: int, first: int, second: int
) -> None:
    by_epoch = [epoch[0] for epoch in rates("step", epochs=epochs, steps=2)]
    expected = [1.0] * first + [0.1] * (second - first) + [0.01] * (epochs - second)
    assert by_epoch == pytest.approx(expected)


def test_a_plateau_cuts_the_rate_after_two_epochs_without_progress() -> None:
    losses = [1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.1, 0.1]
    by_epoch = [epoch[0] for epoch in rates("plateau", epochs=8, steps=1, losses=losses)]
    assert by_epoch == pytest.approx([1, 1, 1, 1, 0.3, 0.3, 0.09, 0.09])


def test_a_plateau_leaves_the_rate_while_the_loss_falls() -> None:
    assert rates("plateau", epochs=5, steps=1) == [[1]] * 5


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step", "plateau", "constant"])
@pytest.mark.parametrize(("epochs", "num"), [(1, 8), (3, 40)])
def test_every_schedule_trains_even_for_a_single_step(schedule: str, epochs: int, num: int) -> None:
    settings = chosen(schedule=schedule, epochs=epochs, batch_size=16)
    _, results = trained(settings, some_digits(num), some_digits(8, "test"))
    assert len(results) == epochs
    assert all(0 < result.lr <= settings.lr for result in results)


def filled(model: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(value)
    return model


def test_the_average_warms_up_as_worked_out_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightEMA(model, 0.99)
    for value in (1.0, 2.0, 4.0):
        filled(model, value)
        average.update()
    second = 2 / 11 * 1.0 + 9 / 11 * 2.0
    third = 3 / 12 * second + 9 / 12 * 4.0
    averaged = (*average.module.parameters(), *average.module.buffers())
    for tensor in averaged:
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.full_like(tensor, third))
    assert sum(tensor.is_floating_point() for tensor in averaged) == 6


def test_the_decay_never_exceeds_what_was_asked_for() -> None:
    model = nn.Linear(1, 1)
    average = WeightEMA(model, 0.1)
    for value in (1.0, 3.0):
        filled(model, value)
        average.update()
    (weight, _) = average.module.parameters()
    assert weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)


def test_the_averaged_network_is_the_one_judged_and_kept() -> None:
    settings, train = chosen(ema=0.9, batch_size=16), some_digits(96)
    state, results = trained(settings, train, some_digits(40, "test"))
    assert state.ema is not None
    assert state.eval_model is state.ema.module
    assert not same_weights(state.eval_model, state.model)
    judged = evaluate_network(state.ema.module, some_digits(40, "test"), normalization(settings))
    assert results[-1].val_loss == judged.loss


def test_averaging_does_not_change_training() -> None:
    train = some_digits(96)
    averaged, _ = trained(chosen(recipe="cnn-15k", ema=0.9), train)
    plain, _ = trained(chosen(recipe="cnn-15k"), train)
    assert plain.eval_model is plain.model
    assert same_weights(averaged.model, plain.model)


def test_an_evaluation_is_the_one_worked_out_by_hand() -> None:
    probabilities_NK = torch.full((3, 10), 0.05)
    probabilities_NK[0, 4], probabilities_NK[1, 7], probabilities_NK[2, 0] = 0.55, 0.55, 0.55
    examples = Examples(torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([4, 7, 1]))
    judged = evaluate_network(Lookup(probabilities_NK.log() - 3), examples, Normalization(0, 1, 28))
    assert judged.accuracy == 2 / 3
    assert judged.loss == pytest.approx(-(2 * math.log(0.55) + math.log(0.05)) / 3)
    torch.testing.assert_close(judged.probabilities_NK, probabilities_NK)
    assert judged.labels_N.tolist() == [4, 7, 1]


def test_an_accuracy_is_the_exact_share() -> None:
    probabilities_NK = torch.eye(10)
    assert Predictions(0.0, probabilities_NK, torch.arange(10)).accuracy == 1
    assert Predictions(0.0, probabilities_NK, torch.zeros(10, dtype=torch.int64)).accuracy == 0.1


@pytest.mark.parametrize("training", [False, True])
def test_an_evaluation_leaves_the_mode_and_asks_without_dropout(training: bool) -> None:
    model = Lookup(torch.zeros(5, 10)).train(training)
    evaluate_network(model, some_digits(5), Normalization(0, 1, 28))
    assert model.training is training
    assert model.modes == [False]


def test_an_evaluation_uses_no_randomness_and_changes_no_weight() -> None:
    settings = chosen(recipe="cnn-small", width=2)
    model = started(settings, some_digits(8)).model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    rng = torch.get_rng_state()
    evaluate_network(model, some_digits(20), normalization(settings))
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_evaluation_computes_in_float32_whatever_training_does() -> None:
    settings, train = chosen(epochs=1), some_digits(64)
    state = started(settings, train, precision="bfloat16")
    dtypes: list[tuple[bool, torch.dtype]] = []
    state.model.register_forward_hook(
        lambda model, _inputs, output: dtypes.append((model.training, output.dtype))
    )
    list(fit(state, train, some_digits(8, "test"), normalization(settings)))
    assert set(dtypes) == {(True, torch.bfloat16), (False, torch.float32)}


def test_an_evaluation_in_batches_equals_one_in_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, test = chosen(), some_digits(50, "test")
    model = started(settings, test).model
    whole = evaluate_network(model, test, normalization(settings))
    monkeypatch.setattr(batches, "evaluation_batch_size", lambda _device: 7)
    parts = evaluate_network(model, test, normalization(settings))
    torch.testing.assert_close(parts.probabilities_NK, whole.probabilities_NK)
    assert parts.loss == pytest.approx(whole.loss)
    assert parts.accuracy == whole.accuracy


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("recipe", ["mlp-50-50", "cnn-26k", "cnn-small"])
def test_every_precision_learns_to_read_digits_on_cuda(recipe: str, precision: str) -> None:
    settings = chosen(recipe=recipe, epochs=12, batch_size=32)
    cuda = torch.device("cuda")
    train, val = (half.to(cuda) for half in halves())
    state = started(settings, train, device="cuda", precision=precision)
    results = list(fit(state, train, val, normalization(settings)))
    assert results[-1].val_accuracy is not None
    assert results[-1].val_accuracy > 0.9
    assert state.scaler.is_enabled() is (precision == "float16")


@pytest.mark.gpu
def test_a_checkpoint_is_judged_alike_on_cuda_and_cpu() -> None:
    settings = chosen(recipe="cnn-26k")
    state, _ = trained(settings, some_digits(320))
    on_cpu = evaluate_network(state.eval_model, digits("test"), normalization(settings))
    cuda = torch.device("cuda")
    on_cuda = evaluate_network(
        state.eval_model.to(cuda), digits("test").to(cuda), normalization(settings)
    )
    assert on_cuda.accuracy == pytest.approx(on_cpu.accuracy, abs=0.003)
    assert on_cuda.loss == pytest.approx(on_cpu.loss, rel=0.01)
    assert on_cuda.probabilities_NK.device.type == "cpu"


def kept(state: TrainState) -> dict[str, Any]:
    """The state of a training as a file brings it back."""
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    back: dict[str, Any] = torch.load(file, weights_only=True)
    return back


def everything(state: TrainState) -> dict[str, Any]:
    """All that decides how a training goes on, not only what its `state_dict` knows of."""
    kinds = (state.lr_schedule._by_step, state.lr_schedule._by_epoch, state.lr_schedule._by_loss)
    return {
        "losses": state.losses,
        "model": state.model.state_dict(),
        "average": state.ema and state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": [kind and kind.state_dict() for kind in kinds],
        "scaler": state.scaler.state_dict(),
        "dropout": torch.get_rng_state(),
        "shuffling": state.shuffle_rng.get_state(),
        "augmenting": state.augment_rng.get_state(),
    }


SCHEDULES = ("onecycle", "cosine", "step", "plateau", "constant")
SMALL = {"hidden": [8], "batch_size": 32, "epochs": 4, "lr": 0.02}
CNN = {"recipe": "cnn-15k", "batch_size": 32, "epochs": 4}
KINDS: dict[str, dict[str, Any]] = {
    **{
        f"{optimizer}-{schedule}": {**SMALL, "optimizer": optimizer, "schedule": schedule}
        for optimizer in ("sgd", "adam", "adamw")
        for schedule in SCHEDULES
    },
    "sgd-without-momentum": {**SMALL, "optimizer": "sgd", "momentum": 0.0},
    "nll": {**SMALL, "loss": "nll"},
    "smoothed": {**SMALL, "label_smoothing": 0.1, "weight_decay": 0.1},
    "averaged": {**SMALL, "ema": 0.9},
    "augmented": {**SMALL, "augment": True},
    "one-step-an-epoch": {**SMALL, "batch_size": 96, "schedule": "onecycle"},
    "dropout": {**CNN, "dropout": 0.4},
    "batch-norm": {"recipe": "cnn-small", "width": 2, "batch_size": 32, "epochs": 4, "ema": 0.9},
    "batch-norm-and-dropout": {"recipe": "ann", "hidden": [12], "batch_size": 32, "epochs": 4},
    "deep": {"recipe": "cnn-deep", "channels": [3, 4], "batch_size": 48, "epochs": 3},
    "all-random": {**CNN, "dropout": 0.2, "augment": True, "ema": 0.9, "schedule": "onecycle"},
}


def stopped_and_resumed(
    settings: TrainSettings, train: Examples, val: Examples, *, precision: str = "float32"
) -> None:
    """Hold a training that is stopped after every epoch, and after all, against one in one go."""
    whole = started(settings, train, precision=precision)
    saved, results = [], []
    for result in fit(whole, train, val, normalization(settings)):
        results.append(result)
        saved.append(kept(whole))
    end = everything(whole)

    def resumed(state: dict[str, Any]) -> tuple[TrainState, Iterator[EpochResult]]:
        torch.rand(3)  # another process's generator is somewhere else
        resumed = started(settings, train, precision=precision)
        resumed.load_state_dict(state)
        return resumed, fit(resumed, train, val, normalization(settings))

    for num_done in range(1, settings.epochs):
        state, epochs = resumed(saved[num_done - 1])
        assert without_times(list(epochs)) == without_times(results[num_done:])
        assert_same(everything(state), end)
    step_by_step = saved[0]
    for number in range(1, settings.epochs):
        state, epochs = resumed(step_by_step)
        assert without_times([next(epochs)]) == without_times([results[number]])
        step_by_step = kept(state)
    assert_same(step_by_step, saved[-1])
    assert_same(everything(state), end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_out", [True, False])
def test_a_resumed_training_ends_with_the_same_bits(kind: str, held_out: bool) -> None:
    val = some_digits(24, "test") if held_out else none()
    stopped_and_resumed(chosen(**KINDS[kind]), some_digits(96), val)


@pytest.mark.parametrize("kind", ["all-random", "batch-norm", "adam-plateau", "sgd-onecycle"])
def test_a_resumed_training_in_bfloat16_ends_with_the_same_bits(kind: str) -> None:
    settings = chosen(**KINDS[kind])
    stopped_and_resumed(settings, some_digits(96), some_digits(24, "test"), precision="bfloat16")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_resumed_training_on_cuda_follows_the_one_in_one_go(precision: str) -> None:
    """To the bit where CUDA's own sums are; its generators and its loss scale always."""
    settings, cuda = chosen(**KINDS["all-random"]), torch.device("cuda")
    train, val = some_digits(96).to(cuda), some_digits(24, "test").to(cuda)
    whole = started(settings, train, device="cuda", precision=precision)
    epochs = fit(whole, train, val, normalization(settings))
    next(epochs)
    saved = kept(whole)
    rest = list(epochs)
    state = started(settings, train, device="cuda", precision=precision)
    state.load_state_dict(saved)
    again = list(fit(state, train, val, normalization(settings)))
    assert [result.lr for result in again] == [result.lr for result in rest]
    for ours, theirs in zip(again, rest, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=0.02)
    for one, other in zip(state._generators(), whole._generators(), strict=True):
        assert torch.equal(one.get_state(), other.get_state())
    assert_same(state.scaler.state_dict(), whole.scaler.state_dict())


def test_a_resumed_training_keeps_the_scale_of_its_loss() -> None:
    settings, train = chosen(**SMALL), some_digits(96)

    def scaled() -> TrainState:
        state = started(settings, train)
        state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
        return state

    whole = scaled()
    epochs = fit(whole, train, none(), normalization(settings))
    next(epochs)
    next(epochs)
    saved = kept(whole)
    assert saved["scaler"]["scale"] == 16
    list(epochs)
    resumed = scaled()
    resumed.load_state_dict(saved)
    list(fit(resumed, train, none(), normalization(settings)))
    assert resumed.scaler.state_dict()["scale"] == 32
    assert_same(everything(resumed), everything(whole))


@pytest.mark.parametrize("stop", ["closed", "failed"])
def test_an_epoch_that_was_broken_off_leaves_no_trace(stop: str) -> None:
    settings, train = chosen(**KINDS["all-random"]), some_digits(96)
    whole, results = trained(settings, train)
    broken = started(settings, train)

    def on_step(step: StepProgress) -> None:
        if stop == "failed" and broken.num_epochs_done == 2 and step.number == 2:
            raise KeyboardInterrupt

    epochs = fit(broken, train, none(), normalization(settings), on_step=on_step)
    next(epochs)
    next(epochs)
    saved = kept(broken)
    if stop == "failed":
        with pytest.raises(KeyboardInterrupt):
            next(epochs)
        assert broken.num_epochs_done == 2
    epochs.close()  # type: ignore[attr-defined]
    resumed = started(settings, train)
    resumed.load_state_dict(saved)
    rest = list(fit(resumed, train, none(), normalization(settings)))
    assert without_times(rest) == without_times(results[2:])
    assert_same(everything(resumed), everything(whole))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("planned", "stopped"), [(3, 3), (4, 2)])
def test_with_more_epochs_a_training_follows_the_longer_one(
    schedule: str, planned: int, stopped: int
) -> None:
    flags, train = {**KINDS["all-random"], "schedule": schedule}, some_digits(96)
    val = some_digits(24, "test")
    longer, shorter = chosen(**{**flags, "epochs": 7}), chosen(**{**flags, "epochs": planned})
    whole, results = trained(longer, train, val)
    state = started(shorter, train)
    list(itertools.islice(fit(state, train, val, normalization(shorter)), stopped))
    saved = kept(state)
    resumed = started(longer, train)
    resumed.load_state_dict(saved)
    rest = list(fit(resumed, train, val, normalization(longer)))
    assert [result.epoch for result in rest] == list(range(stopped + 1, 8))
    if schedule in ("constant", "plateau"):
        assert without_times(rest) == without_times(results[stopped:])
        assert_same(everything(resumed), everything(whole))
    else:
        assert [result.lr for result in rest] == [result.lr for result in results[stopped:]]


def test_a_plateau_is_remembered() -> None:
    """The rate was cut before the stop, and is cut again one epoch after it."""
    settings, train = chosen(**SMALL, schedule="plateau"), some_digits(96)
    settings = settings.model_copy(update={"epochs": 10})
    state = started(settings, train)
    list(itertools.islice(fit(state, train, none(), normalization(settings)), 5))
    saved = kept(state) | {"losses": [0.1, 0.2, 0.3, 0.4, 0.5]}
    resumed = started(settings, train)
    resumed.load_state_dict(saved)
    rates = [r.lr for r in fit(resumed, train, none(), normalization(settings))]
    assert rates[:3] == pytest.approx([0.3**2 * 0.02] * 2 + [0.3**3 * 0.02], rel=1e-6)


def without(key: str) -> Any:
    return lambda saved: saved.pop(key)


def moments(saved: dict[str, Any]) -> Any:
    return saved["optimizer"][0]


def of_another_network(saved: dict[str, Any]) -> None:
    other = started(chosen(**SMALL | {"hidden": [9]}), some_digits(96))
    saved["model"] = other.model.state_dict()


@pytest.mark.parametrize(
    "spoil",
    [
        *(without(k) for k in ("model", "average", "optimizer", "losses", "generators")),
        of_another_network,
        lambda saved: saved["model"].popitem(),
        lambda saved: saved.update(model=None),
        lambda saved: saved.update(average=None),
        lambda saved: saved["average"].pop("num_updates"),
        lambda saved: saved["average"].update(average={}),
        lambda saved: saved.update(losses=["high", "low"]),
        lambda saved: saved.update(losses=3),
        lambda saved: saved.update(generators=saved["generators"][:2]),
        lambda saved: saved["generators"][0].resize_(10),
        lambda saved: saved.update(generators=["a", "b", "c"]),
        lambda saved: saved.update(optimizer={}),
        lambda saved: saved.update(optimizer=[]),
        lambda saved: saved["optimizer"].pop(3),
        lambda saved: saved["optimizer"].update({4: moments(saved)}),
        lambda saved: moments(saved).pop("exp_avg"),
        lambda saved: moments(saved).pop("step"),
        lambda saved: moments(saved).update(more=torch.zeros(())),
        lambda saved: moments(saved).update(exp_avg=torch.zeros(3)),
        lambda saved: moments(saved).update(exp_avg=torch.zeros(())),
        lambda saved: moments(saved).update(exp_avg_sq=0.0),
        lambda saved: moments(saved).update(exp_avg=saved["optimizer"][1]["exp_avg"]),
        lambda saved: moments(saved).update(exp_avg=moments(saved)["exp_avg"].half()),
        lambda saved: moments(saved).update(step=torch.zeros(8, 784)),
        lambda saved: moments(saved).update(step=torch.zeros(3)),
        lambda saved: moments(saved).update(step="first"),
        lambda saved: saved["optimizer"].update({0: None}),
        lambda saved: saved["optimizer"].update({0: {"momentum_buffer": moments(saved)["step"]}}),
    ],
)
def test_a_state_that_does_not_fit_is_refused(spoil: Any) -> None:
    settings, train = chosen(**SMALL, ema=0.9), some_digits(96)
    state, _ = trained(settings, train)
    saved = kept(state)
    spoil(saved)
    with pytest.raises(DataError, match="does not fit") as refused:
        started(settings, train).load_state_dict(saved)
    assert refused.value.exit_code == 3
    assert refused.value.why
    assert refused.value.fix


@pytest.mark.parametrize(("before", "now"), [("sgd", "adam"), ("adam", "sgd")])
def test_the_memory_of_another_optimizer_is_refused(before: str, now: str) -> None:
    train = some_digits(96)
    state, _ = trained(chosen(**SMALL, optimizer=before), train)
    with pytest.raises(DataError, match="does not fit"):
        started(chosen(**SMALL, optimizer=now), train).load_state_dict(kept(state))


def test_moments_are_laid_out_as_their_parameters_are_however_they_were_saved() -> None:
    """Fused steps walk through memory: one number spread over a shape would take them beyond it."""
    settings, train = chosen(**CNN), some_digits(96)
    state, _ = trained(settings, train)
    saved = kept(state)
    for each in saved["optimizer"].values():
        each["exp_avg"] = each["exp_avg"].contiguous()
        each["exp_avg_sq"] = torch.full((1,), 0.5).expand(each["exp_avg_sq"].shape)
    resumed = started(settings, train)
    resumed.load_state_dict(saved)
    for number, parameter in enumerate(
        each for group in resumed.optimizer.param_groups for each in group["params"]
    ):
        taken = resumed.optimizer.state[parameter]
        assert taken["exp_avg"].stride() == taken["exp_avg_sq"].stride() == parameter.stride()
        assert torch.equal(taken["exp_avg"], saved["optimizer"][number]["exp_avg"])
        assert taken["exp_avg_sq"].untyped_storage().nbytes() == 4 * parameter.numel()


def test_on_another_kind_of_device_the_random_choices_begin_anew() -> None:
    settings, train = chosen(**KINDS["all-random"]), some_digits(96)
    state = started(settings, train)
    next(fit(state, train, none(), normalization(settings)))
    saved = kept(state) | {"device": "cuda", "generators": [torch.zeros(16, dtype=torch.uint8)] * 3}
    found = []
    for _ in range(2):
        resumed = started(settings, train)
        resumed.load_state_dict(saved)
        list(fit(resumed, train, none(), normalization(settings)))
        found.append(everything(resumed))
    first, second = found
    assert_same(first, second)


def test_statistics_that_are_no_numbers_stop_training() -> None:
    """Activations of 1e20 have finite means, but their squares are infinite."""
    settings, train = chosen(recipe="cnn-small", width=2, batch_size=32), some_digits(64)
    state = started(settings, train)
    with torch.no_grad():
        next(state.model.parameters()).mul_(1e25)
    with pytest.raises(RunError, match="The loss became NaN or infinite"):
        list(fit(state, train, none(), normalization(settings)))


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("lost", ["weight", "moment"])
def test_what_could_not_be_resumed_is_not_kept(lost: str, ema: float) -> None:
    """A gradient of 1e20 moves a weight by no more than the rate, but its square is infinite."""
    settings, train = chosen(**SMALL, ema=ema), some_digits(96)

    def lose(step: StepProgress) -> None:
        if (state.num_epochs_done, step.number) == (1, step.num_steps):
            weight = next(state.model.parameters())
            spoiled = weight if lost == "weight" else state.optimizer.state[weight]["exp_avg_sq"]
            spoiled.detach()[0, 0] = math.inf

    state = started(settings, train)
    epochs = fit(state, train, none(), normalization(settings), on_step=lose)
    next(epochs)
    with pytest.raises(RunError, match="after the last step of epoch 2"):
        next(epochs)


def after_an_epoch(**flags: Any) -> tuple[TrainSettings, dict[str, Any]]:
    settings = chosen(hidden=[3], **flags)
    state = started(settings, some_digits(64))
    next(fit(state, some_digits(64), none(), normalization(settings)))
    return settings, state.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.update(losses=[10**400]),
        lambda saved: saved.update(losses=["x" * 9000]),
        lambda saved: saved["model"].update({"x" * 9000: torch.zeros(1)}),
        lambda saved: saved["average"].update(num_updates=math.inf),
        lambda saved: saved["average"].update(num_updates=-10),
        lambda saved: saved.clear(),
    ],
)
def test_a_state_that_makes_no_sense_is_refused_in_short(change: Any) -> None:
    settings, saved = after_an_epoch(ema=0.9)
    change(saved)
    with pytest.raises(DataError, match="does not fit its settings") as refused:
        started(settings, some_digits(64)).load_state_dict(saved)
    assert len(refused.value.why) < 300
