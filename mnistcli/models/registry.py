"""The five architectures and the recipes, as plain data.

An architecture is a parametric family of networks, named by the class that
builds it; nothing is imported until `build` is called. A recipe is one member
of a family with the settings that train it. Eleven are of published descriptions,
the sprints our own. `docs/results.md` holds what each was claimed to reach and
what it reaches here.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnistcli.errors import GateError, SettingsError, unknown_name

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A family of networks.

    `factory` is "module:class", `input_px` the side of the square picture the
    network sees, `default_recipe` what `--arch` alone trains, and
    `budget_setting` the setting that `--max-params` may choose (None where the
    size is fixed by the recipe). `gains_from_bfloat16` says whether a CPU with
    the instructions trains it faster in bfloat16 (`docs/performance.md`).
    """

    name: str
    summary: str
    factory: str
    input_px: int
    default_recipe: str
    budget_setting: str | None = None
    gains_from_bfloat16: bool = True


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "ann",
            "deep fully connected net on 64x64 pixels",
            "mnistcli.models.ann:Ann",
            input_px=64,
            default_recipe="ann",
        ),
        Architecture(
            "mlp",
            "small perceptron on the 784 pixels",
            "mnistcli.models.mlp:Mlp",
            input_px=28,
            default_recipe="mlp-120-84",
            gains_from_bfloat16=False,
        ),
        Architecture(
            "cnn",
            "two convolution stages, then linear layers",
            "mnistcli.models.cnn:Cnn",
            input_px=28,
            default_recipe="cnn-26k",
        ),
        Architecture(
            "cnn-deep",
            "eight convolutions on 64x64 pixels",
            "mnistcli.models.cnn_deep:CnnDeep",
            input_px=64,
            default_recipe="cnn-deep",
        ),
        Architecture(
            "cnn-small",
            "the widest net that fits --max-params",
            "mnistcli.models.cnn_small:CnnSmall",
            input_px=28,
            default_recipe="cnn-small",
            budget_setting="width",
        ),
    )
}


def get_architecture(name: str) -> Architecture:
    """The architecture called `name`; raises SettingsError with the nearest name."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def build_network(arch: str, model: Mapping[str, object]) -> "nn.Module":
    """A freshly initialised network on the CPU, from the global random generator.

    `model` holds the family's settings (`hidden`, `channels`, `width` …).

    Raises:
        SettingsError: the settings leave no network that can see a picture.
    """
    from importlib import import_module

    module_name, class_name = get_architecture(arch).factory.split(":")
    network = getattr(import_module(module_name), class_name)
    try:
        built: nn.Module = network(**model)
    except ValueError as error:
        raise SettingsError(
            f"This {arch} cannot be built.",
            why=f"{error}.",
            fix="Use fewer stages, a smaller --kernel-size or more --padding.",
        ) from error
    return built


def build_on_meta(arch: str, model: Mapping[str, object]) -> "nn.Module":
    """The network on PyTorch's "meta" device: all shapes, no memory.

    Raises:
        SettingsError: the settings leave no network that can see a picture.
    """
    import torch

    with torch.device("meta"):
        return build_network(arch, model)


def has_batch_norm(arch: str, model: Mapping[str, object]) -> bool:
    """Whether a network can only be trained on more than one picture a batch."""
    from torch import nn

    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    return any(isinstance(module, norms) for module in build_on_meta(arch, model).modules())


def count_parameters(arch: str, model: Mapping[str, object]) -> int:
    """The number of trainable parameters, counted without allocating them."""
    return sum(parameter.numel() for parameter in build_on_meta(arch, model).parameters())


@functools.cache
def widest_fitting(arch: str, max_params: int) -> int:
    """The largest `budget_setting` whose network has at most `max_params` parameters.

    Raises:
        GateError: not even the narrowest fits.
    """
    setting = get_architecture(arch).budget_setting
    assert setting is not None

    def fits(width: int) -> bool:
        return count_parameters(arch, {setting: width}) <= max_params

    if not fits(1):
        raise GateError(
            f"No {arch} fits {max_params:,} parameters.",
            why=f"The narrowest has {count_parameters(arch, {setting: 1}):,}.",
            fix=f"Raise the budget: --max-params {count_parameters(arch, {setting: 1})}",
        )
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
