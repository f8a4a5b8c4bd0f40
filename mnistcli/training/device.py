"""The device and the precision to train in, each chosen with a reason."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mnistcli.config.choices import DeviceName, values
from mnistcli.errors import DeviceError, first_line, require_known


@dataclass(frozen=True)
class Choice:
    """A device or a precision, and the reason for it, which the run's header shows."""

    value: str
    reason: str


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str) -> Choice:
    """The device to train on: the one named, or for "auto" the first of cuda, mps, cpu that works.

    A device works if a small computation on it gives the right result: a driver alone
    does not mean that the kernels of this PyTorch build run on the device.

    Raises:
        SettingsError: there is no device of this name.
        DeviceError: the named device does not work on this machine.
    """
    name = require_known("device", name, values(DeviceName))
    if name == "auto":
        return _pick_working_device()
    if name != "cpu" and (failure := _probe_device(name)):
        raise DeviceError(
            f"The device {name} cannot be used.",
            why=f"{name}: {failure}.",
            fix="Use --device auto, which picks a device that works, or --device cpu",
        )
    return Choice(name, "requested")


def _pick_working_device() -> Choice:
    failures = []
    for device in ("cuda", "mps") if sys.platform == "darwin" else ("cuda",):
        failure = _probe_device(device)
        if not failure:
            return Choice(device, f"{_hardware_name(device)} works")
        failures.append(f"{device}: {failure}")
    return Choice("cpu", "; ".join(failures))


def pick_precision(name: str, device: str, *, gains_on_cpu: bool = True) -> Choice:
    """The precision of the forward and backward pass: the one named, or for "auto" by this table.

    cuda with native bfloat16 -> bfloat16; other cuda -> float16 with a scaled loss; a CPU
    with bfloat16 instructions -> bfloat16, if the architecture gains from them
    (`gains_on_cpu`); everything else -> float32. Weights, their updates and every
    evaluation stay in float32.

    Raises:
        DeviceError: float16 on another device than cuda.
    """
    if name == "float16" and device != "cuda":
        raise DeviceError(
            f"float16 cannot be trained on {device}.",
            why="float16 is faster on CUDA devices only; elsewhere it is slow and less accurate.",
            fix="Use --precision bfloat16, float32 or auto",
        )
    if name != "auto":
        return Choice(name, "requested")
    if device == "cuda":
        return cuda_precision(
            native_bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
            capability=torch.cuda.get_device_capability(),
        )
    if device != "cpu":
        return Choice("float32", f"autocast does not pay on {device}")
    if not gains_on_cpu:
        return Choice("float32", "a network this simple gains nothing from bfloat16 on a CPU")
    return cpu_precision(torch.cpu.get_capabilities())


def cuda_precision(*, native_bfloat16: bool, capability: tuple[int, int]) -> Choice:
    """The precision for a CUDA device of this compute capability."""
    version = f"CUDA {capability[0]}.{capability[1]}"
    if native_bfloat16:
        return Choice("bfloat16", f"{version} has native bfloat16")
    return Choice("float16", f"{version} has no native bfloat16; with loss scaling")


def cpu_precision(capabilities: Mapping[str, Any]) -> Choice:
    """The precision for a CPU with these instruction sets, by PyTorch's names for them."""
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if capabilities.get(flag):
            return Choice("bfloat16", f"this CPU has {name}")
    return Choice("float32", "this CPU has neither AMX nor AVX512-BF16")


def _probe_device(device: str) -> str:
    """The failure of a small computation on a GPU, or an empty text if it works."""
    backend = torch.cuda if device == "cuda" else torch.backends.mps
    if not backend.is_available():
        return "not available to PyTorch"
    try:
        ones = torch.ones(8, 8, device=device)
        is_correct = (ones @ ones).sum().item() == 8**3
    except RuntimeError as error:
        return f"its kernels fail ({first_line(error)})"
    return "" if is_correct else "its kernels compute wrong results"


def _hardware_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "Apple GPU"
