"""A training that is resumed from its state ends with the same bits; a wrong state is refused."""

import itertools
from typing import Any

import pytest
import torch

from mnistcli.config.settings import TrainSettings
from mnistcli.data.examples import Examples
from mnistcli.errors import DataError
from mnistcli.models.registry import build_network
from mnistcli.training.engine import StepProgress, fit
from mnistcli.training.state import TrainState
from tests.helpers.runs import assert_same, without_times
from tests.helpers.training import (
    build_state,
    digits_normalization,
    have_same_weights,
    make_settings,
    saved_copy,
    some_digits,
    train_network,
)

SMALL: dict[str, Any] = {"hidden": [8], "batch_size": 32, "epochs": 4, "lr": 0.02}
CNN: dict[str, Any] = {"recipe": "cnn-15k", "batch_size": 32, "epochs": 4}
AUGMENTED: dict[str, Any] = {**CNN, "batch_norm": True, "dropout": 0.2, "augment": True}
ALL_RANDOM = {**AUGMENTED, "ema": 0.9, "schedule": "onecycle"}
# Every optimizer, every schedule, and everything else that is random or remembered.
CASES: dict[str, dict[str, Any]] = {
    "sgd-onecycle": {**SMALL, "optimizer": "sgd", "schedule": "onecycle"},
    "sgd-without-momentum": {**SMALL, "optimizer": "sgd", "momentum": 0.0},
    "adam-plateau": {**SMALL, "optimizer": "adam", "schedule": "plateau"},
    "adam-onecycle": {**SMALL, "optimizer": "adam", "schedule": "onecycle"},
    "adam-cosine": {**SMALL, "optimizer": "adam", "schedule": "cosine"},
    "adamw-step": {**SMALL, "optimizer": "adamw", "schedule": "step", "weight_decay": 0.1},
    "one-step-an-epoch": {**SMALL, "batch_size": 96, "schedule": "onecycle"},
    "batch-norm": {"recipe": "cnn-small", "width": 2, "batch_size": 32, "epochs": 3, "ema": 0.9},
    "batch-norm-and-dropout": {"recipe": "ann", "hidden": [12], "batch_size": 32, "epochs": 3},
    "augmented-without-ema": AUGMENTED,
    "all-random": ALL_RANDOM,
}


def everything(state: TrainState) -> dict[str, Any]:
    """All that decides how a training continues, whether `state_dict` has it or not."""
    return {
        "losses": state.losses,
        "model": state.model.state_dict(),
        "ema": state.ema and state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.lr_schedule._scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "dropout": torch.get_rng_state(),
        "shuffle": state.shuffle_rng.get_state(),
        "augment": state.augment_rng.get_state(),
    }


def resume(
    settings: TrainSettings, saved: dict[str, Any], num_examples: int, *, precision: str = "float32"
) -> TrainState:
    torch.rand(3)  # another process's generator is at another position
    state = build_state(settings, num_examples, precision=precision)
    state.load_state_dict(saved)
    return state


def assert_resumes_to_the_same_bits(
    settings: TrainSettings, train: Examples, val: Examples, *, precision: str = "float32"
) -> None:
    """Compare a training that is stopped after any of its epochs with one that is not."""
    normalization = digits_normalization(settings)
    whole = build_state(settings, len(train), precision=precision)
    saved, results = [], []
    for result in fit(whole, train, val, normalization):
        results.append(result)
        saved.append(saved_copy(whole))
    end = everything(whole)
    for num_done in range(1, settings.epochs):
        state = resume(settings, saved[num_done - 1], len(train), precision=precision)
        rest = list(fit(state, train, val, normalization))
        assert without_times(rest) == without_times(results[num_done:])
        assert_same(everything(state), end)


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_training_ends_with_the_same_bits(case: str) -> None:
    settings = make_settings(**CASES[case])
    assert_resumes_to_the_same_bits(settings, some_digits(96), some_digits(24, "test"))


@pytest.mark.parametrize("case", ["all-random", "adam-plateau"])
def test_a_resumed_training_without_validation_ends_with_the_same_bits(case: str) -> None:
    assert_resumes_to_the_same_bits(make_settings(**CASES[case]), some_digits(96), some_digits(0))


@pytest.mark.parametrize("case", ["all-random", "batch-norm"])
def test_a_resumed_training_in_bfloat16_ends_with_the_same_bits(case: str) -> None:
    settings = make_settings(**CASES[case])
    assert_resumes_to_the_same_bits(
        settings, some_digits(96), some_digits(24, "test"), precision="bfloat16"
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_resumed_training_on_cuda_has_the_same_generators_and_scale(precision: str) -> None:
    """CUDA's sums need not repeat bit for bit, so the weights are only close."""
    settings, cuda = make_settings(**ALL_RANDOM), torch.device("cuda")
    train, val = some_digits(96).to(cuda), some_digits(24, "test").to(cuda)
    normalization = digits_normalization(settings)
    whole = build_state(settings, 96, device="cuda", precision=precision)
    epochs = fit(whole, train, val, normalization)
    next(epochs)
    saved = saved_copy(whole)
    rest = list(epochs)
    resumed = build_state(settings, 96, device="cuda", precision=precision)
    resumed.load_state_dict(saved)
    again = list(fit(resumed, train, val, normalization))
    assert [result.lr for result in again] == [result.lr for result in rest]
    for one, other in zip(resumed._generators(), whole._generators(), strict=True):
        assert torch.equal(one.get_state(), other.get_state())
    assert_same(resumed.scaler.state_dict(), whole.scaler.state_dict())


def test_a_resumed_training_keeps_the_scale_of_its_loss() -> None:
    settings, train = make_settings(**SMALL), some_digits(96)

    def build_scaled() -> TrainState:
        state = build_state(settings, 96)
        state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
        return state

    whole = build_scaled()
    epochs = fit(whole, train, some_digits(0), digits_normalization(settings))
    next(epochs)
    next(epochs)
    saved = saved_copy(whole)
    assert saved["scaler"]["scale"] == 16
    list(epochs)
    resumed = build_scaled()
    resumed.load_state_dict(saved)
    list(fit(resumed, train, some_digits(0), digits_normalization(settings)))
    assert resumed.scaler.state_dict()["scale"] == 32
    assert_same(everything(resumed), everything(whole))


def test_an_interrupted_epoch_leaves_no_trace() -> None:
    settings, train = make_settings(**ALL_RANDOM), some_digits(96)
    whole, results = train_network(settings, train)
    interrupted = build_state(settings, 96)

    def interrupt(step: StepProgress) -> None:
        if interrupted.num_epochs_done == 2 and step.number == 2:
            raise KeyboardInterrupt

    normalization = digits_normalization(settings)
    epochs = fit(interrupted, train, some_digits(0), normalization, on_step=interrupt)
    next(epochs)
    next(epochs)
    saved = saved_copy(interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(epochs)
    assert interrupted.num_epochs_done == 2
    resumed = resume(settings, saved, 96)
    rest = list(fit(resumed, train, some_digits(0), normalization))
    assert without_times(rest) == without_times(results[2:])
    assert_same(everything(resumed), everything(whole))


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step", "plateau", "constant"])
@pytest.mark.parametrize(("planned", "stopped"), [(3, 3), (4, 2)])
def test_with_more_epochs_a_training_follows_the_longer_schedule(
    schedule: str, planned: int, stopped: int
) -> None:
    flags, train, val = {**SMALL, "schedule": schedule}, some_digits(96), some_digits(24, "test")
    longer, shorter = (make_settings(**flags | {"epochs": number}) for number in (7, planned))
    normalization = digits_normalization(longer)
    whole, results = train_network(longer, train, val)
    state = build_state(shorter, 96)
    list(itertools.islice(fit(state, train, val, normalization), stopped))
    resumed = resume(longer, saved_copy(state), 96)
    rest = list(fit(resumed, train, val, normalization))
    assert [result.epoch for result in rest] == list(range(stopped + 1, 8))
    if schedule in ("constant", "plateau"):  # which do not depend on the number of epochs
        assert without_times(rest) == without_times(results[stopped:])
        assert_same(everything(resumed), everything(whole))
    else:
        assert [result.lr for result in rest] == [result.lr for result in results[stopped:]]


def test_a_plateau_is_remembered() -> None:
    """The rate was cut before the stop, and is cut again one epoch after it."""
    settings, train = (
        make_settings(**SMALL | {"schedule": "plateau", "epochs": 10}),
        some_digits(96),
    )
    state, _ = train_network(make_settings(**SMALL | {"schedule": "plateau", "epochs": 5}), train)
    resumed = resume(settings, saved_copy(state) | {"losses": [0.1, 0.2, 0.3, 0.4, 0.5]}, 96)
    epochs = fit(resumed, train, some_digits(0), digits_normalization(settings))
    rates = [epoch.lr for epoch in itertools.islice(epochs, 3)]
    assert rates == pytest.approx([0.3**2 * 0.02] * 2 + [0.3**3 * 0.02])


def test_a_state_starts_with_the_weights_of_its_seed() -> None:
    settings = make_settings(seed=5)
    torch.manual_seed(5)
    network = build_network(settings.arch, settings.network)
    assert have_same_weights(build_state(settings, 10).model, network)


def test_on_another_kind_of_device_the_generators_get_new_seeds() -> None:
    settings, train = make_settings(**ALL_RANDOM), some_digits(96)
    state = build_state(settings, 96)
    next(fit(state, train, some_digits(0), digits_normalization(settings)))
    cuda = {"device": "cuda", "generators": [torch.zeros(16, dtype=torch.uint8)] * 3}
    saved = saved_copy(state) | cuda
    ends = []
    for _ in range(2):
        resumed = resume(settings, saved, 96)
        list(fit(resumed, train, some_digits(0), digits_normalization(settings)))
        ends.append(everything(resumed))
    first, second = ends
    assert_same(first, second)


def first_tensors(saved: dict[str, Any]) -> Any:
    """The optimizer's tensors for the first parameter, float32 (8, 784)."""
    return saved["optimizer"][0]


def take_another_networks_weights(saved: dict[str, Any]) -> None:
    saved["model"] = build_state(make_settings(hidden=[9]), 96).model.state_dict()


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: saved.clear(),
        lambda saved: saved.pop("generators"),
        take_another_networks_weights,
        lambda saved: saved["model"].popitem(),
        lambda saved: saved["model"].update({"x" * 9000: torch.zeros(1)}),
        lambda saved: saved.update(average=None),
        lambda saved: saved["average"].update(average={}),
        lambda saved: saved["average"].update(num_updates=float("inf")),
        lambda saved: saved["average"].update(num_updates=-10),
        lambda saved: saved.update(losses=["x" * 9000]),
        lambda saved: saved.update(losses=[10**400]),
        lambda saved: saved.update(losses=3),
        lambda saved: saved.update(generators=saved["generators"][:2]),
        lambda saved: saved["generators"][0].resize_(10),
        lambda saved: saved.update(optimizer=[]),
        lambda saved: saved["optimizer"].pop(3),
        lambda saved: saved["optimizer"].update({4: first_tensors(saved)}),
        lambda saved: saved["optimizer"].update({0: None}),
        lambda saved: first_tensors(saved).pop("step"),
        lambda saved: first_tensors(saved).update(more=torch.zeros(())),
        lambda saved: first_tensors(saved).update(exp_avg=torch.zeros(3)),
        lambda saved: first_tensors(saved).update(exp_avg=torch.zeros(8, 784).half()),
        lambda saved: first_tensors(saved).update(exp_avg_sq=0.0),
        lambda saved: first_tensors(saved).update(step=torch.zeros(3)),
    ],
)
def test_a_state_that_does_not_fit_is_refused(damage: Any) -> None:
    settings, train = make_settings(**SMALL, ema=0.9), some_digits(96)
    state = build_state(settings, 96)
    next(fit(state, train, some_digits(0), digits_normalization(settings)))
    saved = saved_copy(state)
    damage(saved)
    with pytest.raises(DataError, match="does not fit its settings") as refused:
        build_state(settings, 96).load_state_dict(saved)
    assert 0 < len(refused.value.why) < 300


@pytest.mark.parametrize(("before", "now"), [("sgd", "adam"), ("adam", "sgd")])
def test_the_state_of_another_optimizer_is_refused(before: str, now: str) -> None:
    state, _ = train_network(make_settings(**SMALL, optimizer=before), some_digits(96))
    with pytest.raises(DataError, match="does not fit"):
        build_state(make_settings(**SMALL, optimizer=now), 96).load_state_dict(saved_copy(state))
