"""Which device and number format are chosen, and that the reason is said."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnistcli.errors import DeviceError
from mnistcli.training.device import (
    DTYPES,
    Choice,
    cpu_precision,
    cuda_precision,
    pick_device,
    pick_precision,
)

ONES = torch.ones
NO_BFLOAT16 = "this CPU has neither AMX nor AVX512-BF16"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any accelerator."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def with_cuda(bare: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """A machine whose CUDA device, as its driver says, computes by the function given."""

    def install(ones: Callable[..., Any]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Pretend 3000")
        monkeypatch.setattr(torch, "ones", ones)

    return install


def failing(*_size: int, device: str) -> Any:
    raise RuntimeError("no kernel image is available\nCUDA kernel errors might be …")


def silently_failing(*_size: int, device: str) -> Any:
    raise RuntimeError


def full(*_size: int, device: str) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …\nmore")


def asserting(*_size: int, device: str) -> Any:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered\nmore")


def no_numbers(*size: int, device: str) -> Any:
    return ONES(*size) * float("nan")


def wrong(*size: int, device: str) -> Any:
    return ONES(*size) * 2


def right(*size: int, device: str) -> Any:
    return ONES(*size)


@pytest.mark.parametrize(
    ("native", "capability", "value", "reason"),
    [
        (True, (9, 0), "bfloat16", "CUDA 9.0 has native bfloat16"),
        (True, (8, 0), "bfloat16", "CUDA 8.0 has native bfloat16"),
        (True, (12, 0), "bfloat16", "CUDA 12.0 has native bfloat16"),
        (False, (7, 5), "float16", "CUDA 7.5 has no native bfloat16; the loss is scaled"),
        (False, (5, 2), "float16", "CUDA 5.2 has no native bfloat16; the loss is scaled"),
    ],
)
def test_cuda_computes_in_bfloat16_where_it_is_native(
    native: bool, capability: tuple[int, int], value: str, reason: str
) -> None:
    choice = cuda_precision(native_bfloat16=native, capability=capability)
    assert choice == Choice(value, reason)


@pytest.mark.parametrize(
    ("capabilities", "value", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16", "this CPU has AMX"),
        ({"amx_bf16": True}, "bfloat16", "this CPU has AMX"),
        ({"avx512_bf16": True}, "bfloat16", "this CPU has AVX512-BF16"),
        ({"avx512_f": True, "amx_int8": True}, "float32", NO_BFLOAT16),
        ({"amx_bf16": False, "avx2": True}, "float32", NO_BFLOAT16),
        ({}, "float32", NO_BFLOAT16),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_the_instructions(
    capabilities: dict[str, bool], value: str, reason: str
) -> None:
    assert cpu_precision(capabilities) == Choice(value, reason)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_format_that_was_asked_for_wins(wanted: str, device: str) -> None:
    assert pick_precision(wanted, device) == Choice(wanted, "asked for")
    assert pick_precision(wanted, device, gains_on_cpu=False) == Choice(wanted, "asked for")


def test_bfloat16_may_be_asked_of_a_cpu_without_the_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pick_precision("bfloat16", "cpu") == Choice("bfloat16", "asked for")
    assert pick_precision("auto", "cpu") == Choice("float32", NO_BFLOAT16)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_float16_needs_cuda(device: str) -> None:
    with pytest.raises(DeviceError, match=f"float16 cannot be trained on {device}") as caught:
        pick_precision("float16", device)
    assert caught.value.exit_code == 4
    assert "--precision" in caught.value.fix
    assert pick_precision("float16", "cuda") == Choice("float16", "asked for")


def test_auto_asks_the_cpu_for_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert pick_precision("auto", "cpu") == Choice("bfloat16", "this CPU has AMX")


def test_auto_asks_cuda_for_native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def native(*, including_emulation: bool) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", native)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert pick_precision("auto", "cuda").value == "float16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_how: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    # What gains nothing on a CPU may gain on a GPU.
    assert pick_precision("auto", "cuda", gains_on_cpu=False).value == "bfloat16"


def test_a_network_that_gains_nothing_stays_in_float32_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    choice = pick_precision("auto", "cpu", gains_on_cpu=False)
    assert choice.value == "float32"
    assert "gains nothing" in choice.reason


def test_mps_computes_in_float32() -> None:
    choice = pick_precision("auto", "mps")
    assert choice.value == "float32"
    assert "mps" in choice.reason


def test_every_choice_has_its_dtype() -> None:
    for name in ("float32", "bfloat16", "float16"):
        assert DTYPES[name] is getattr(torch, name)


@pytest.mark.usefixtures("bare")
def test_the_cpu_always_works() -> None:
    assert pick_device("cpu") == Choice("cpu", "asked for")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=f"The device {device} cannot be used") as caught:
        pick_device(device)
    assert caught.value.exit_code == 4
    assert caught.value.why == f"{device}: PyTorch finds none."
    assert "--device auto" in caught.value.fix


@pytest.mark.usefixtures("bare")
def test_auto_falls_back_to_the_cpu_and_says_why() -> None:
    mps = "; mps: PyTorch finds none" if sys.platform == "darwin" else ""
    assert pick_device("auto") == Choice("cpu", f"cuda: PyTorch finds none{mps}")


def test_auto_takes_a_device_that_computes_right(
    with_cuda: Callable[[Callable[..., Any]], None],
) -> None:
    with_cuda(right)
    assert pick_device("auto") == Choice("cuda", "Pretend 3000 works")
    assert pick_device("cuda") == Choice("cuda", "asked for")


@pytest.mark.parametrize(
    ("ones", "failure"),
    [
        (failing, "its kernels fail (no kernel image is available)"),
        (silently_failing, "its kernels fail ()"),
        (full, "its kernels fail (CUDA out of memory. Tried to allocate …)"),
        (asserting, "its kernels fail (CUDA error: device-side assert triggered)"),
        (wrong, "its kernels compute wrong results"),
        (no_numbers, "its kernels compute wrong results"),
    ],
)
def test_a_device_that_computes_nothing_right_is_left_alone(
    with_cuda: Callable[[Callable[..., Any]], None], ones: Callable[..., Any], failure: str
) -> None:
    with_cuda(ones)
    choice = pick_device("auto")
    assert choice.value == "cpu"
    assert choice.reason.startswith(f"cuda: {failure}")
    with pytest.raises(DeviceError) as caught:
        pick_device("cuda")
    assert caught.value.why == f"cuda: {failure}."


@pytest.mark.usefixtures("bare")
def test_a_mac_computes_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pick_device("auto").reason == "cuda: PyTorch finds none; mps: PyTorch finds none"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", right)
    assert pick_device("auto") == Choice("mps", "Apple GPU works")
    assert pick_device("mps") == Choice("mps", "asked for")
    monkeypatch.setattr(torch, "ones", wrong)
    assert pick_device("auto").value == "cpu"


@pytest.mark.gpu
def test_a_real_cuda_device_is_found_and_named() -> None:
    choice = pick_device("auto")
    assert choice == Choice("cuda", f"{torch.cuda.get_device_name()} works")
    assert pick_precision("auto", "cuda").value in ("bfloat16", "float16")
