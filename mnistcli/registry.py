"""The five architectures and the recipes, as plain data.

An architecture is a parametric family of networks, named by the class that
builds it; nothing is imported until `build` is called. A recipe is one member
of a family with the settings that train it. Eleven are of published descriptions,
the sprints our own. `docs/results.md` holds what each was claimed to reach and
what it reaches here.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnistcli.errors import GateError, SettingsError, unknown_name

if TYPE_CHECKING:
    from torch import nn

SettingValue = int | float | str | bool | list[int] | Mapping[str, float]


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


@dataclass(frozen=True)
class Recipe:
    """One trained system: the settings of its network and of its training.

    `claim` is the test accuracy its description states, in the description's
    own precision; empty where it states none. `by_size` holds what changes in the
    training of a smaller network: the entry of the least key that is not below
    its `budget_setting`.
    """

    name: str
    arch: str
    summary: str
    model: Mapping[str, SettingValue] = field(default_factory=dict)
    training: Mapping[str, SettingValue] = field(default_factory=dict)
    claim: str = ""
    by_size: Mapping[int, Mapping[str, SettingValue]] = field(default_factory=dict)

    def step(self, size: int) -> int | None:
        """The key of `by_size` for a network of that size; None for those above them all."""
        return min((each for each in self.by_size if size <= each), default=None)


DEFAULT_RECIPE = "cnn-small"

# Both kernels see strokes whole, and the last map keeps where they are: a few passes do.
# Label smoothing holds back the confident, wrong answers of a short, fast training.
_SPRINT_MODEL: Mapping[str, SettingValue] = {
    "channels": [16, 32],
    "kernel_size": 5,
    "padding": 0,
    "batch_norm": True,
    "dropout": 0.0,
}
_SPRINT_TRAINING: Mapping[str, SettingValue] = {
    "batch_size": 128,
    "optimizer": "adamw",
    "lr": 0.02,
    "weight_decay": 0.01,
    "schedule": "onecycle",
    "label_smoothing": 0.1,
}

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

# For networks so small that more kinds of picture than MNIST's cost them accuracy on its own, and
# for those with room for more (`docs/results.md`). The default is `settings.Augmentation`'s.
_STRONGER: Mapping[str, float] = {
    "rotate_degrees": 12.0,
    "scale_fraction": 0.15,
    "shear_degrees": 8.0,
    "shift_px": 2.0,
}
_DEFAULT: Mapping[str, float] = {
    "rotate_degrees": 9.0,
    "scale_fraction": 0.1,
    "shear_degrees": 5.0,
    "shift_px": 1.5,
}
_MILD: Mapping[str, float] = {
    "rotate_degrees": 5.0,
    "scale_fraction": 0.05,
    "shear_degrees": 3.0,
    "shift_px": 1.0,
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "ann",
            "ann",
            "hidden 1024, 512, 256",
            model={"hidden": [1024, 512, 256], "dropout": 0.3},
            training={
                "epochs": 10,
                "batch_size": 128,
                "optimizer": "adamw",
                "lr": 2e-3,
                "weight_decay": 0.01,
                "schedule": "onecycle",
            },
            claim="about 89 %",
        ),
        Recipe(
            "cnn-deep",
            "cnn-deep",
            "eight convolutions",
            model={"channels": [16, 32, 64, 128], "dropout": 0.1},
            training={
                "epochs": 4,
                "batch_size": 128,
                "optimizer": "adamw",
                "lr": 5e-3,
                "weight_decay": 0.01,
                "schedule": "onecycle",
            },
            claim="about 98.6 %",
        ),
        Recipe(
            "mlp-nll-sgd",
            "mlp",
            "four hidden layers, NLL, SGD",
            model={"hidden": [264, 128, 64, 28], "dropout": 0.25},
            training={
                "epochs": 50,
                "batch_size": 256,
                "optimizer": "sgd",
                "lr": 0.025,
                "loss": "nll",
            },
        ),
        Recipe(
            "cnn-linear",
            "cnn",
            "5x5 kernels, one linear layer",
            model={
                "channels": [32, 64],
                "kernel_size": 5,
                "padding": 0,
                "hidden": [],
                "dropout": 0.0,
            },
            training={"epochs": 20, "batch_size": 64, "optimizer": "adam", "lr": 1e-3},
        ),
        Recipe(
            "cnn-26k",
            "cnn",
            "padded 3x3 kernels",
            model={
                "channels": [8, 16],
                "kernel_size": 3,
                "padding": 1,
                "hidden": [32],
                "dropout": 0.0,
            },
            training={
                "epochs": 10,
                "batch_size": 128,
                "optimizer": "adam",
                "lr": 0.01,
                "schedule": "plateau",
            },
            claim="98.63 %",
        ),
        Recipe(
            "cnn-15k",
            "cnn",
            "the same, smaller, dropout",
            model={
                "channels": [6, 12],
                "kernel_size": 3,
                "padding": 1,
                "hidden": [24],
                "dropout": 0.2,
            },
            training={
                "epochs": 12,
                "batch_size": 128,
                "optimizer": "adam",
                "lr": 0.005,
                "schedule": "plateau",
            },
        ),
        Recipe(
            "cnn-small",
            "cnn-small",
            "most accurate under 8,000",
            training={
                "epochs": 30,
                "batch_size": 128,
                "optimizer": "adamw",
                "lr": 0.015,
                "weight_decay": 0.01,
                "schedule": "onecycle",
                "augment": True,
                "augmentation": _STRONGER,
                "ema": 0.99,
                "max_params": 8000,
            },
            claim="> 99.4 %",
            # The widest under 5,000, 2,000 and 1,000. The rate times the width stays about the
            # same, and so does the time: an epoch of fewer channels is quicker.
            by_size={
                55: {"epochs": 36, "lr": 0.02},
                30: {"epochs": 64, "lr": 0.035, "augmentation": _DEFAULT},
                18: {"epochs": 90, "lr": 0.06, "augmentation": _MILD},
            },
        ),
        Recipe(
            "mlp-120-84",
            "mlp",
            "hidden 120, 84",
            model={"hidden": [120, 84], "dropout": 0.0},
            training={"epochs": 10, "batch_size": 64, "optimizer": "adam", "lr": 1e-3},
            claim="97 %",
        ),
        Recipe(
            "mlp-50-50",
            "mlp",
            "hidden 50, 50",
            model={"hidden": [50, 50], "dropout": 0.0},
            training={
                "epochs": 10,
                "batch_size": 128,
                "optimizer": "adam",
                "lr": 1e-2,
                # A rate this high, left constant, ends at 96 %.
                "schedule": "cosine",
            },
            claim="97 %",
        ),
        Recipe(
            "cnn-10-20",
            "cnn",
            "5x5 kernels, 50 hidden",
            model={
                "channels": [10, 20],
                "kernel_size": 5,
                "padding": 0,
                "hidden": [50],
                "dropout": 0.0,
            },
            training={"epochs": 10, "batch_size": 64, "optimizer": "adam", "lr": 1e-3},
            claim="99 %",
        ),
        Recipe(
            "cnn-dropout",
            "cnn",
            "3x3 kernels, dropout",
            model={
                "channels": [32, 64],
                "kernel_size": 3,
                "padding": 1,
                "hidden": [128],
                "dropout": 0.25,
            },
            training={"epochs": 10, "batch_size": 96, "optimizer": "adam", "lr": 1e-3},
        ),
        Recipe(
            "sprint",
            "cnn",
            "99.0 % in seconds",
            model={**_SPRINT_MODEL, "hidden": [64]},
            training={**_SPRINT_TRAINING, "epochs": 1, "ema": 0.95},
        ),
        Recipe(
            "sprint-99.4",
            "cnn",
            "99.4 % a little later",
            model={**_SPRINT_MODEL, "hidden": [128]},
            training={**_SPRINT_TRAINING, "epochs": 4, "ema": 0.98, "augment": True},
        ),
        Recipe(
            "sprint-99.6",
            "cnn",
            "99.6 % in a minute",
            model={**_SPRINT_MODEL, "channels": [32, 64], "hidden": [128]},
            training={**_SPRINT_TRAINING, "epochs": 8, "ema": 0.99, "augment": True},
        ),
    )
}


def get_architecture(name: str) -> Architecture:
    """The architecture called `name`; raises SettingsError with the nearest name."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`; raises SettingsError with the nearest name."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]


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
