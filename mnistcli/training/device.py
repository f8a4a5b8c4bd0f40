"""Which device and which number format to compute in, each with the reason for the choice."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mnistcli.config.choices import DeviceName, values
from mnistcli.errors import DeviceError, unknown_name


@dataclass(frozen=True)
class Choice:
    """An automatic or demanded choice and why it was made, in words for the run's header."""

    value: str
    reason: str


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(wanted: str) -> Choice:
    """The device to train on: `wanted`, or for "auto" the first of cuda, mps, cpu that works.

    A device works when a small computation on it comes back right: that a
    driver is present does not mean that this build's kernels run on it.

    Raises:
        SettingsError: `wanted` names no device.
        DeviceError: `wanted` names a device that does not work here.
    """
    if wanted not in values(DeviceName):
        raise unknown_name("device", wanted, values(DeviceName))
    if wanted == "cpu":
        return Choice("cpu", "asked for")
    failures = []
    automatic = ("cuda", "mps") if sys.platform == "darwin" else ("cuda",)
    for device in automatic if wanted == "auto" else (wanted,):
        failure = _probe(device)
        if not failure:
            return Choice(
                device, f"{_device_name(device)} works" if wanted == "auto" else "asked for"
            )
        failures.append(f"{device}: {failure}")
    if wanted == "auto":
        return Choice("cpu", "; ".join(failures))
    raise DeviceError(
        f"The device {wanted} cannot be used.",
        why=f"{failures[0]}.",
        fix="Use --device auto, which picks what works, or --device cpu",
    )


def pick_precision(wanted: str, device: str, *, gains_on_cpu: bool = True) -> Choice:
    """The format of the forward and backward pass: `wanted`, or for "auto" by this table.

    cuda with native bfloat16 -> bfloat16; other cuda -> float16 with a scaled
    loss; a CPU with bfloat16 instructions -> bfloat16, for an architecture that
    gains from them; everything else -> float32. Weights, their updates and
    every evaluation stay in float32.

    Raises:
        DeviceError: `wanted` is float16 and the device is no cuda device.
    """
    if wanted == "float16" and device != "cuda":
        raise DeviceError(
            f"float16 cannot be trained on {device}.",
            why="Only CUDA devices are faster for it; elsewhere it would cost time and accuracy.",
            fix="Use --precision bfloat16, float32 or auto",
        )
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if device == "cuda":
        return cuda_precision(
            native_bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
            capability=torch.cuda.get_device_capability(),
        )
    if device == "cpu":
        if not gains_on_cpu:
            return Choice("float32", "a network this simple gains nothing from bfloat16 on a CPU")
        return cpu_precision(torch.cpu.get_capabilities())
    return Choice("float32", f"autocast is not worth it on {device}")


def cuda_precision(*, native_bfloat16: bool, capability: tuple[int, int]) -> Choice:
    """The format for a CUDA device of this compute capability."""
    version = f"CUDA {capability[0]}.{capability[1]}"
    if native_bfloat16:
        return Choice("bfloat16", f"{version} has native bfloat16")
    return Choice("float16", f"{version} has no native bfloat16; the loss is scaled")


def cpu_precision(capabilities: Mapping[str, Any]) -> Choice:
    """The format for a CPU with these instruction sets, as PyTorch names them."""
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if capabilities.get(flag):
            return Choice("bfloat16", f"this CPU has {name}")
    return Choice("float32", "this CPU has neither AMX nor AVX512-BF16")


def _probe(device: str) -> str:
    """What goes wrong when `device` computes something small; empty if nothing does."""
    backend = torch.cuda if device == "cuda" else torch.backends.mps
    if not backend.is_available():
        return "PyTorch finds none"
    try:
        ones = torch.ones(8, 8, device=device)
        right = (ones @ ones).sum().item() == 8**3
    except RuntimeError as error:
        first_line, _, _ = str(error).partition("\n")
        return f"its kernels fail ({first_line})"
    return "" if right else "its kernels compute wrong results"


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "Apple GPU"
