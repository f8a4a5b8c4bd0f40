"""The five architectures by name; building their networks and counting the parameters.

Importing this loads no network and no torch: an architecture names its class, which is
imported when a network is built.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnistcli.errors import GateError, SettingsError, require_known

if TYPE_CHECKING:
    from torch import nn

# The name of the layer that returns the logits, in every architecture.
LAST_LAYER = "classify"


@dataclass(frozen=True)
class Architecture:
    """A parametric family of networks.

    `factory` is "module:class", `input_px` the side of the square image that
    the network takes, `default_recipe` the recipe of `--arch` alone, and
    `budget_setting` the model setting that `--max-params` chooses (None where
    the settings fix the size). `gains_from_bfloat16`: whether a CPU with
    bfloat16 instructions trains it faster that way (`docs/performance.md`).
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
            "deep fully connected network on 64x64 pixels",
            "mnistcli.models.ann:ANN",
            input_px=64,
            default_recipe="ann",
        ),
        Architecture(
            "mlp",
            "small perceptron on the 784 pixels",
            "mnistcli.models.mlp:MLP",
            input_px=28,
            default_recipe="mlp-120-84",
            gains_from_bfloat16=False,
        ),
        Architecture(
            "cnn",
            "two convolution stages, then linear layers",
            "mnistcli.models.cnn:CNN",
            input_px=28,
            default_recipe="cnn-26k",
        ),
        Architecture(
            "cnn-deep",
            "eight convolutions on 64x64 pixels",
            "mnistcli.models.cnn_deep:DeepCNN",
            input_px=64,
            default_recipe="cnn-deep",
        ),
        Architecture(
            "cnn-small",
            "the widest network that fits --max-params",
            "mnistcli.models.cnn_small:SmallCNN",
            input_px=28,
            default_recipe="cnn-small",
            budget_setting="width",
        ),
    )
}


def get_architecture(name: str) -> Architecture:
    """The architecture called `name`; raises SettingsError with the nearest name."""
    return ARCHITECTURES[require_known("architecture", name, ARCHITECTURES)]


def build_network(arch: str, model: Mapping[str, object]) -> "nn.Module":
    """A newly initialized network on the CPU, from PyTorch's global random generator.

    `model` holds the settings of the architecture (`hidden`, `channels`, `width` …) and, unless
    there are ten classes, `num_classes`.

    Raises:
        SettingsError: the settings leave no pixel of the image.
    """
    from importlib import import_module

    module_name, class_name = get_architecture(arch).factory.split(":")
    network_class = getattr(import_module(module_name), class_name)
    try:
        network: nn.Module = network_class(**model)
    except ValueError as error:
        raise SettingsError(
            f"This {arch} cannot be built.",
            why=f"{error}.",
            fix="Use fewer stages, a smaller --kernel-size or more --padding.",
        ) from error
    return network


def build_on_meta(arch: str, model: Mapping[str, object]) -> "nn.Module":
    """The network on PyTorch's "meta" device: shapes without values, and no memory.

    Raises:
        SettingsError: the settings leave no pixel of the image.
    """
    import torch

    with torch.device("meta"):
        return build_network(arch, model)


def has_batch_norm(arch: str, model: Mapping[str, object]) -> bool:
    """Whether a network has batch norm, which cannot train on batches of one image."""
    from torch import nn

    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    return any(isinstance(module, norms) for module in build_on_meta(arch, model).modules())


def count_parameters(arch: str, model: Mapping[str, object]) -> int:
    """The number of trainable parameters; allocates no memory for them."""
    return sum(parameter.numel() for parameter in build_on_meta(arch, model).parameters())


@functools.cache
def widest_fitting(arch: str, max_params: int, **others: object) -> int:
    """The largest `budget_setting` with which a network has at most `max_params` parameters.

    `others` are the other settings of the network.

    Raises:
        GateError: not even the narrowest fits.
    """
    setting = get_architecture(arch).budget_setting
    assert setting is not None

    def fits(width: int) -> bool:
        return count_parameters(arch, {**others, setting: width}) <= max_params

    if not fits(1):
        fewest = count_parameters(arch, {**others, setting: 1})
        raise GateError(
            f"No {arch} fits {max_params:,} parameters.",
            why=f"The narrowest has {fewest:,}.",
            fix=f"Raise the budget: --max-params {fewest}",
        )
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
