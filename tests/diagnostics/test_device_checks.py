"""Checks of devices: on this CPU for real, and on wrong results that are injected."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mnistcli.diagnostics import device_checks
from mnistcli.diagnostics.checks import Check, CheckStart, run_check
from mnistcli.diagnostics.device_checks import (
    LONG_TRAINING,
    SHORT_TRAINING,
    TF32_TOLERANCE,
    _digits_settings,
    _relative_error,
    assess_kernels,
    assess_repeatable,
    assess_training,
    check_device,
    check_kernels,
    check_loss_scaling,
    check_precision,
    check_repeatable,
    check_training,
)
from mnistcli.errors import RunError
from mnistcli.runs.history import EpochResult
from mnistcli.training.device import Choice
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import TrainingPlan, make_plan

AUTO = Choice("bfloat16", "this CPU has AMX")


def test_the_kernels_of_this_cpu_are_right() -> None:
    check = check_kernels("cpu")
    assert check.status == "ok", check
    assert set(check.facts["errors"]) == {"matmul", "convolution"}
    assert all(0 < error <= check.facts["tolerance"] for error in check.facts["errors"].values())


@pytest.mark.parametrize(
    ("matmul", "convolution", "status", "part"),
    [
        (9e-5, 1e-6, "ok", "9e-05"),
        (3e-4, 1e-6, "warning", "TF32: matmul off by 3e-04"),
        (3e-4, 0.1, "failed", "convolution off by 1e-01"),
        (math.inf, 1e-6, "failed", "matmul off by inf"),
        (math.nan, 1e-6, "failed", "matmul off by nan"),
    ],
)
def test_errors_of_kernels_are_right_like_tf32_or_wrong(
    matmul: float, convolution: float, status: str, part: str
) -> None:
    check = assess_kernels("cuda:0", {"matmul": matmul, "convolution": convolution})
    assert check.status == status
    assert part in check.finding
    assert bool(check.fix) is (status != "ok")
    assert (None in check.facts["errors"].values()) is not math.isfinite(matmul)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_one_wrong_number_is_a_wrong_result(bad: float) -> None:
    right = torch.ones(4, dtype=torch.float64)
    got = torch.tensor([1.0, 1.0, bad, 1.0])
    assert _relative_error([got], [right]) > TF32_TOLERANCE


def test_tf32_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 by hand: the last 13 of 23 bits of every factor are dropped."""

    def rounded(_device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        factors = [torch.randn(256, 256, generator=generator) for _ in range(2)]
        if dtype == torch.float32:
            factors = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in factors]
        left, right = (x.to(dtype) for x in factors)
        return [left @ right]

    monkeypatch.setattr(device_checks, "_matmul", rounded)
    assert check_kernels("cpu").status == "warning"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_works(precision: str) -> None:
    check = check_precision("cpu", precision, AUTO)
    assert check.status == "ok"
    assert check.facts["last_loss"] < 0.8 * check.facts["first_loss"]
    assert check.facts["auto"] is (precision == "bfloat16")


def epoch(number: int, *, loss: float = 0.1, accuracy: float | None = 0.99) -> EpochResult:
    return EpochResult(
        epoch=number,
        lr=0.01,
        train_loss=loss,
        train_accuracy=0.9,
        val_loss=0.1,
        val_accuracy=accuracy,
        seconds=0.5,
        images_per_second=100.0 if number == 1 else 2700.0,
    )


Outcome = list[float] | Exception


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Outcome], None]:
    """Let the short training have these losses, or raise this error."""

    def install(outcome: Outcome) -> None:
        def train(_name: str, _precision: str) -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            state = TrainState(
                _digits_settings(SHORT_TRAINING),
                num_examples=512,
                device="cpu",
                precision="float32",
            )
            return state, [epoch(i, loss=loss) for i, loss in enumerate(outcome, 1)]

        monkeypatch.setattr(device_checks, "_train_briefly", train)

    return install


@pytest.mark.parametrize(
    ("device", "precision", "auto", "outcome", "status", "part"),
    [
        ("cuda:0", "bfloat16", "bfloat16", [2.3, 0.7], "ok", "loss 2.30 to 0.70"),
        ("cuda:0", "float16", "float16", [2.3, 2.2], "failed", "does not learn"),
        ("cpu", "float32", "float32", RunError("The loss became nan."), "failed", "became nan"),
        ("cuda:0", "float16", "bfloat16", RuntimeError("cuDNN\nmore"), "failed", "cuDNN"),
        ("cuda:0", "bfloat16", "float16", RuntimeError("none"), "skipped", "not available: none"),
        ("mps", "bfloat16", "float32", RuntimeError("none"), "skipped", "not available: none"),
        ("mps", "float32", "float16", RuntimeError("none"), "failed", "none"),
        ("mps", "float16", "float32", [2.3, 0.7], "skipped", "not available"),
        ("cpu", "bfloat16", "float32", RuntimeError("none"), "failed", "none"),
    ],
)
def test_a_precision_works_fails_or_is_not_available(
    device: str,
    precision: str,
    auto: str,
    outcome: Outcome,
    status: str,
    part: str,
    short_training: Callable[[Outcome], None],
) -> None:
    short_training(outcome)
    _, check = run_check(
        precision, device, lambda: check_precision(device, precision, Choice(auto, "so"))
    )
    assert isinstance(check, Check)
    assert (check.label, check.status) == (f"{device} {precision}", status)
    assert part in check.finding
    assert "\n" not in check.finding
    assert bool(check.fix) is (status == "failed")


def test_an_overflow_is_skipped() -> None:
    """On this CPU, which has the same scaler."""
    check = check_loss_scaling("cpu")
    assert check.status == "ok", check
    assert check.facts["scale"] == 2.0**15


def test_a_scaler_that_lets_an_overflow_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.amp.GradScaler, "step", lambda _self, optimizer: optimizer.step())
    monkeypatch.setattr(torch.amp.GradScaler, "update", lambda _self: None)
    check = check_loss_scaling("cpu")
    assert check.status == "failed"
    assert "is not skipped" in check.finding


def test_this_cpu_is_repeatable() -> None:
    assert check_repeatable("cpu", "float32").facts["same_bits"]


@pytest.mark.parametrize(
    ("device", "same", "status"),
    [
        ("cpu", True, "ok"),
        ("cpu", False, "failed"),
        ("cuda:0", False, "warning"),
    ],
)
def test_different_bits_are_a_failure_on_a_cpu_only(device: str, same: bool, status: str) -> None:
    check = assess_repeatable(device, "float32", same=same)
    assert check.status == status
    assert bool(check.fix) is not same


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    return make_plan(_digits_settings(LONG_TRAINING, device="cpu", precision="float32"))


@pytest.mark.parametrize(
    ("num_epochs", "accuracy", "status", "fix"),
    [
        (12, 0.99, "ok", ""),
        (1, 0.81, "ok", ""),
        (3, 0.5, "warning", "mnist doctor --seconds 27"),
        (12, 0.5, "failed", "Install"),
    ],
)
def test_a_training_reaches_the_accuracy_or_is_too_short_or_fails(
    num_epochs: int, accuracy: float | None, status: str, fix: str, plan: TrainingPlan
) -> None:
    epochs = [epoch(number, accuracy=accuracy) for number in range(1, num_epochs + 1)]
    check = assess_training(plan, epochs, 4.0)
    assert check.status == status
    assert check.fix.startswith(fix)
    assert bool(check.fix) is bool(fix)
    # The first epoch, which loads libraries, is not counted where there are others.
    speed = 100.0 if num_epochs == 1 else 2700.0
    assert check.facts["images_per_second"] == speed
    assert check.facts["estimated_train_seconds"] == pytest.approx(30 * 54_000 / speed)
    if status == "failed":
        on_gpu = replace(plan, device=Choice("cuda", "requested"))
        assert assess_training(on_gpu, epochs, 4.0).fix == "mnist doctor --device cpu"


def test_a_training_ends_in_time() -> None:
    check = check_training("cpu", 0.0)
    assert check.status in ("ok", "warning")
    assert check.facts["num_epochs"] == 1
    assert check.facts["device"] == "cpu"


def test_a_device_with_wrong_kernels_is_not_checked_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Check("kernels", "mps", "failed", "wrong")
    monkeypatch.setattr(device_checks, "check_kernels", lambda _name: broken)
    assert list(check_device("mps")) == [CheckStart("kernels", "mps"), broken]


def test_the_checks_of_a_cuda_device_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(device_checks, "pick_precision", lambda *_args: AUTO)
    for name in ("kernels", "precision", "loss_scaling", "repeatable"):
        monkeypatch.setattr(device_checks, f"check_{name}", lambda *_args: Check("", "", "ok", ""))
    events = list(check_device("cuda:1"))
    assert chosen == ["cuda:1"]
    assert [event.name for event in events if isinstance(event, CheckStart)] == [
        "kernels",
        "precisions",
        "float32",
        "bfloat16",
        "float16",
        "loss scaling",
        "repeatable",
    ]
    assert sum(isinstance(event, Check) for event in events) == 6
