"""What the devices compute: judged right and wrong by injection, and for real on this processor."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.diagnostics import device_checks as probes
from mnistcli.diagnostics import system_checks as inventory
from mnistcli.diagnostics.checks import Check, DoctorOptions, Task
from mnistcli.diagnostics.device_checks import (
    LONG_TRAINING,
    SHORT_TRAINING,
    TF32_TOLERANCE,
    _error,
    _settings,
    assess_kernels,
    assess_repeatable,
    assess_training,
    check_device,
    check_kernels,
    check_loss_scaling,
    check_number_format,
    check_repeatable,
    check_training,
    guard,
    is_required_format,
    run_task,
)
from mnistcli.errors import DataError, RunError
from mnistcli.runs.history import EpochResult
from mnistcli.training import device as precision
from mnistcli.training.device import Choice
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import TrainingPlan, make_plan

AUTO = Choice("bfloat16", "this CPU has AMX")


def test_the_kernels_of_this_processor_are_right() -> None:
    check = check_kernels("cpu")
    assert check.status == "ok", check
    assert set(check.facts["errors"]) == {"matmul", "convolution"}
    assert all(0 < error < 1e-5 for error in check.facts["errors"].values())


@pytest.mark.parametrize(
    ("matmul", "convolution", "status", "words"),
    [
        (1e-6, 1e-6, "ok", "matmul and convolution right to 1e-06"),
        (9e-5, 1e-6, "ok", "right to 9e-05"),
        (3e-4, 1e-6, "warning", "rounded like TF32: matmul off by 3e-04"),
        (3e-4, 0.1, "failed", "convolution computes wrong results: off by 1e-01"),
        (math.inf, 1e-6, "failed", "matmul computes wrong results: off by inf"),
        (math.nan, 1e-6, "failed", "matmul computes wrong results: off by nan"),
    ],
)
def test_what_the_errors_of_kernels_mean(
    matmul: float, convolution: float, status: str, words: str
) -> None:
    check = assess_kernels("cuda:0", {"matmul": matmul, "convolution": convolution})
    assert check.status == status
    assert words in check.finding
    assert bool(check.fix) is (status != "ok")


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_one_wrong_number_is_a_wrong_result(bad: float) -> None:
    right = torch.ones(4, dtype=torch.float64)
    got = torch.tensor([1.0, 1.0, bad, 1.0])
    assert _error([got], [right]) > TF32_TOLERANCE


def test_a_rounding_of_10_bits_is_told_from_one_of_23(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 by hand: the last 13 bits of every factor are dropped."""

    def rounded(target: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
        drawing = torch.Generator().manual_seed(0)
        factors = [torch.randn(256, 256, generator=drawing) for _ in range(2)]
        if dtype == torch.float32:
            factors = [(each.view(torch.int32) & ~0x1FFF).view(torch.float32) for each in factors]
        left, right = (each.to(dtype) for each in factors)
        return [left @ right]

    monkeypatch.setattr(probes, "_matmul", rounded)
    assert check_kernels("cpu").status == "warning"


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_format_that_works(name: str) -> None:
    check = check_number_format("cpu", name, AUTO)
    assert check.status == "ok"
    assert check.facts["last_loss"] < 0.5 * check.facts["first_loss"]
    assert ("auto picks it: this CPU has AMX" in check.finding) is (name == "bfloat16")


def test_a_format_that_the_device_has_not() -> None:
    check = check_number_format("cpu", "float16", AUTO)
    assert check.status == "skipped"
    assert check.finding.startswith("not available: ")


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
def trains_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[Outcome], None]:
    """The short training ends with these losses, or this error."""

    def install(outcome: Outcome) -> None:
        def train(name: str, number_format: str) -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            state = TrainState(
                _settings(SHORT_TRAINING), num_examples=512, device="cpu", precision="float32"
            )
            return state, [epoch(i, loss=loss) for i, loss in enumerate(outcome, 1)]

        monkeypatch.setattr(probes, "_train_shortly", train)

    return install


@pytest.mark.parametrize(
    ("device", "name", "auto", "outcome", "status", "words"),
    [
        ("cuda:0", "bfloat16", "bfloat16", [2.3, 0.7], "ok", "loss 2.30 to 0.70 in 8 steps; auto"),
        ("cuda:0", "float16", "bfloat16", [2.3, 0.7], "ok", "loss 2.30 to 0.70 in 8 steps"),
        ("cuda:0", "float16", "float16", [2.3, 2.2], "failed", "does not learn"),
        ("cuda:0", "bfloat16", "float16", [2.3, 2.3], "failed", "does not learn"),
        ("cpu", "float32", "float32", RunError("The loss became nan."), "failed", "became nan"),
        ("cuda:0", "float16", "bfloat16", RuntimeError("cuDNN\nmore"), "failed", "cuDNN"),
        ("cuda:0", "bfloat16", "float16", RuntimeError("none"), "skipped", "not available: none"),
        ("mps", "bfloat16", "float32", RuntimeError("macOS 14"), "skipped", "not available: mac"),
        ("mps", "float32", "float32", RuntimeError("fails"), "failed", "fails"),
        ("mps", "float16", "float32", [2.3, 0.7], "skipped", "not available"),
    ],
)
def test_what_a_training_in_a_format_means(
    device: str,
    name: str,
    auto: str,
    outcome: Outcome,
    status: str,
    words: str,
    trains_to: Callable[[Outcome], None],
) -> None:
    trains_to(outcome)
    check = guard(name, device, lambda: check_number_format(device, name, Choice(auto, "so")))
    assert (check.label, check.status) == (f"{device} {name}", status)
    assert words in check.finding
    assert "\n" not in check.finding
    assert bool(check.fix) is (status == "failed")


@pytest.mark.parametrize(
    ("name", "kind", "auto", "promised"),
    [
        ("float32", "mps", "float32", True),
        ("float16", "cuda", "bfloat16", True),
        ("bfloat16", "cuda", "bfloat16", True),
        ("bfloat16", "cuda", "float16", False),
        ("bfloat16", "mps", "float32", False),
        ("bfloat16", "cpu", "float32", True),
    ],
)
def test_what_a_device_must_have(name: str, kind: str, auto: str, promised: bool) -> None:
    assert is_required_format(name, kind, Choice(auto, "")) is promised


def test_an_overflow_is_skipped() -> None:
    """On this processor, which has the same scaler."""
    check = check_loss_scaling("cpu")
    assert check.status == "ok", check
    assert check.facts["scale"] == 2.0**15


def test_a_scaler_that_lets_an_overflow_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.amp.GradScaler, "step", lambda _self, optimizer: optimizer.step())
    monkeypatch.setattr(torch.amp.GradScaler, "update", lambda _self: None)
    check = check_loss_scaling("cpu")
    assert check.status == "failed"
    assert "is not skipped" in check.finding


def test_this_processor_repeats_itself() -> None:
    assert check_repeatable("cpu", "float32").facts["same_bits"]


@pytest.mark.parametrize(
    ("device", "same", "status"),
    [
        ("cpu", True, "ok"),
        ("cuda:0", True, "ok"),
        ("cpu", False, "failed"),
        ("cuda:0", False, "warning"),
        ("mps", False, "warning"),
    ],
)
def test_other_bits_are_a_failure_on_a_processor_only(device: str, same: bool, status: str) -> None:
    check = assess_repeatable(device, "float32", same=same)
    assert check.status == status
    assert bool(check.fix) is not same


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    return make_plan(_settings(LONG_TRAINING, device="cpu", precision="float32"))


@pytest.mark.parametrize(
    ("num_epochs", "accuracy", "status", "fix"),
    [
        (12, 0.99, "ok", ""),
        (1, 0.81, "ok", ""),
        (3, 0.5, "warning", "mnist doctor --seconds 27"),
        (12, 0.5, "failed", "Install"),
        (12, None, "failed", "Install"),
    ],
)
def test_what_a_training_means(
    num_epochs: int, accuracy: float | None, status: str, fix: str, plan: TrainingPlan
) -> None:
    epochs = [epoch(number, accuracy=accuracy) for number in range(1, num_epochs + 1)]
    check = assess_training(plan, epochs, 4.0)
    assert check.status == status
    assert check.fix.startswith(fix)
    assert bool(check.fix) is bool(fix)
    # The first epoch, which waits for libraries, is not counted where there are others.
    speed = 100.0 if num_epochs == 1 else 2700.0
    assert check.facts["images_per_second"] == speed
    assert check.facts["estimated_train_seconds"] == pytest.approx(30 * 54_000 / speed)
    if num_epochs == 12:
        assert "2,700 images/s (mnist train: about 10 min)" in check.finding


def test_a_gpu_that_trains_wrong_is_told_from_the_processor(plan: TrainingPlan) -> None:
    on_cuda = replace(plan, device=Choice("cuda", "asked for"))
    check = assess_training(on_cuda, [epoch(i, accuracy=0.1) for i in range(1, 11)], 4.0)
    assert (check.status, check.fix) == ("failed", "mnist doctor --device cpu")


def test_a_training_ends_in_time() -> None:
    check = check_training("cpu", 2.0)
    assert check.status in ("ok", "warning")
    assert check.facts["num_epochs"] >= 1
    assert check.facts["device"] == "cpu"


@pytest.mark.parametrize(
    ("error", "finding", "fix"),
    [
        (DataError("It is\nbroken.", why="So.", fix="Mend it"), "It is broken. So", "Mend it"),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied", "Check the path"),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled", "Install"),
        (ZeroDivisionError(), "ZeroDivisionError", "Install"),
    ],
)
def test_whatever_goes_wrong_is_a_finding(error: Exception, finding: str, fix: str) -> None:
    def look() -> Check:
        raise error

    check = guard("kernels", "cuda:0", look)
    assert (check.label, check.status) == ("cuda:0 kernels", "failed")
    assert check.finding.startswith(finding)
    assert "\n" not in check.finding
    assert check.fix.startswith(fix)


def test_a_device_without_kernels_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Check("kernels", "mps", "failed", "wrong")
    monkeypatch.setattr(probes, "kernels", lambda _name: broken)
    assert list(check_device("mps", lambda *_each: None)) == [broken]


def test_the_checks_of_a_cuda_device_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(precision, "pick_precision", lambda *_each: AUTO)
    for name in ("kernels", "number_format", "loss_scaling", "repeatable"):
        monkeypatch.setattr(probes, name, lambda *_each: Check("", "", "ok", ""))
    begun: list[tuple[str, str]] = []
    found = list(check_device("cuda:1", lambda *each: begun.append(each)))
    assert chosen == ["cuda:1"]
    assert [name for name, _ in begun] == [
        "kernels",
        "number formats",
        "float32",
        "bfloat16",
        "float16",
        "loss scaling",
        "repeatable",
    ]
    assert len(found) == 6


@pytest.mark.parametrize(
    ("device", "asked"),
    [("auto", ["cpu", "accelerators"]), ("cpu", ["cpu"]), ("cuda", ["accelerators"])],
)
def test_a_device_that_is_asked_for_is_the_only_one(
    device: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "device", lambda name, _begin: [Check("kernels", name, "ok", "")])
    monkeypatch.setattr(
        inventory, "accelerators", lambda _wanted: Check("accelerators", "", "ok", "")
    )
    wanted = DoctorOptions(device, data_dir="data", out=str(Path("out")))
    found = list(run_task(Task("machine", device, wanted), lambda *_each: None))
    assert [each.subject or each.name for each in found[8:]] == asked
    assert [each.label for each in found[:8]] == [
        "versions",
        "processor",
        "mnist data",
        "fashion-mnist data",
        "kmnist data",
        "digits data",
        "data directory",
        "runs directory",
    ]
