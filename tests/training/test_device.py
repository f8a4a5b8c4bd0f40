"""The device and the precision, and the reason given for each."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnistcli.config.choices import PrecisionName, values
from mnistcli.errors import DeviceError, SettingsError
from mnistcli.training.device import (
    DTYPES,
    Choice,
    cpu_precision,
    cuda_precision,
    pick_device,
    pick_precision,
)

TORCH_ONES = torch.ones


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def fake_cuda(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[..., Any]], None]:
    """Install a CUDA device that computes with the given function in place of torch.ones."""

    def install(ones: Callable[..., Any]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Pretend 3000")
        monkeypatch.setattr(torch, "ones", ones)

    return install


def correct(*size: int, device: str) -> Any:
    return TORCH_ONES(*size)


def wrong(*size: int, device: str) -> Any:
    return TORCH_ONES(*size) * 2


def nan(*size: int, device: str) -> Any:
    return TORCH_ONES(*size) * float("nan")


def without_kernels(*_size: int, device: str) -> Any:
    raise RuntimeError("no kernel image is available\nCUDA kernel errors might be …")


def out_of_memory(*_size: int, device: str) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory.\nmore")


def test_every_precision_of_the_settings_has_its_dtype() -> None:
    assert {name: getattr(torch, name) for name in values(PrecisionName)[1:]} == DTYPES


@pytest.mark.parametrize(
    ("native", "capability", "value"),
    [(True, (8, 0), "bfloat16"), (False, (7, 5), "float16")],
)
def test_cuda_computes_in_bfloat16_where_it_is_native(
    native: bool, capability: tuple[int, int], value: str
) -> None:
    choice = cuda_precision(native_bfloat16=native, capability=capability)
    assert choice.value == value
    assert choice.reason.startswith(f"CUDA {capability[0]}.{capability[1]} ")


@pytest.mark.parametrize(
    ("capabilities", "value", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16", "this CPU has AMX"),
        ({"avx512_bf16": True}, "bfloat16", "this CPU has AVX512-BF16"),
        (
            {"amx_bf16": False, "avx512_f": True},
            "float32",
            "this CPU has neither AMX nor AVX512-BF16",
        ),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_the_instructions(
    capabilities: dict[str, bool], value: str, reason: str
) -> None:
    assert cpu_precision(capabilities) == Choice(value, reason)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_named_precision_is_used(device: str) -> None:
    for gains_on_cpu in (True, False):
        choice = pick_precision("bfloat16", device, gains_on_cpu=gains_on_cpu)
        assert choice == Choice("bfloat16", "requested")


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_float16_needs_cuda(device: str) -> None:
    with pytest.raises(DeviceError, match=device) as caught:
        pick_precision("float16", device)
    assert caught.value.exit_code == 4
    assert "--precision" in caught.value.fix
    assert pick_precision("float16", "cuda") == Choice("float16", "requested")


def test_auto_asks_the_cpu_for_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert pick_precision("auto", "cpu") == Choice("bfloat16", "this CPU has AMX")
    assert pick_precision("auto", "cpu", gains_on_cpu=False).value == "float32"


def test_auto_asks_cuda_for_native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def supports(*, including_emulation: bool) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supports)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert pick_precision("auto", "cuda").value == "float16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    # An architecture that gains nothing on a CPU may gain on a GPU.
    assert pick_precision("auto", "cuda", gains_on_cpu=False).value == "bfloat16"


def test_mps_computes_in_float32() -> None:
    assert pick_precision("auto", "mps").value == "float32"


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu() -> None:
    mps = "; mps: not available to PyTorch" if sys.platform == "darwin" else ""
    assert pick_device("auto") == Choice("cpu", f"cuda: not available to PyTorch{mps}")
    assert pick_device("cpu") == Choice("cpu", "requested")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_missing_device_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=device) as caught:
        pick_device(device)
    assert caught.value.exit_code == 4
    assert caught.value.why == f"{device}: not available to PyTorch."
    assert "--device auto" in caught.value.fix


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(SettingsError, match="tpu"):
        pick_device("tpu")


def test_auto_takes_a_gpu_that_computes_correctly(
    fake_cuda: Callable[[Callable[..., Any]], None],
) -> None:
    fake_cuda(correct)
    assert pick_device("auto") == Choice("cuda", "Pretend 3000 works")
    assert pick_device("cuda") == Choice("cuda", "requested")


@pytest.mark.parametrize(
    ("ones", "failure"),
    [
        (without_kernels, "its kernels fail (no kernel image is available)"),
        (out_of_memory, "its kernels fail (CUDA out of memory)"),
        (wrong, "its kernels compute wrong results"),
        (nan, "its kernels compute wrong results"),
    ],
)
def test_a_gpu_that_does_not_compute_correctly_is_not_used(
    fake_cuda: Callable[[Callable[..., Any]], None], ones: Callable[..., Any], failure: str
) -> None:
    fake_cuda(ones)
    choice = pick_device("auto")
    assert choice.value == "cpu"
    assert choice.reason.startswith(f"cuda: {failure}")
    with pytest.raises(DeviceError) as caught:
        pick_device("cuda")
    assert caught.value.why == f"cuda: {failure}."


@pytest.mark.usefixtures("no_gpu")
def test_a_mac_computes_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (
        pick_device("auto").reason
        == "cuda: not available to PyTorch; mps: not available to PyTorch"
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", correct)
    assert pick_device("auto") == Choice("mps", "Apple GPU works")
    assert pick_device("mps") == Choice("mps", "requested")
    monkeypatch.setattr(torch, "ones", wrong)
    assert pick_device("auto").value == "cpu"
