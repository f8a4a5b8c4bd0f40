"""The architectures by name, the recipes' exact numbers of parameters, and parameter budgets."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from itertools import pairwise

import pytest
import torch
import torch._dynamo  # shapes on meta load it; it makes its own cache directory

from mnistcli.config.recipes import DEFAULT_RECIPE, RECIPES, get_recipe
from mnistcli.config.resolve import fit_budget
from mnistcli.errors import GateError, SettingsError
from mnistcli.models.registry import (
    ARCHITECTURES,
    LAST_LAYER,
    build_network,
    count_parameters,
    get_architecture,
    widest_fitting,
)
from tests.helpers.settings import resolve

NUM_PARAMS = {
    "ann": 4_855_818,
    "cnn-deep": 295_002,
    "mlp-nll-sgd": 251_526,
    "cnn-linear": 62_346,
    "cnn-26k": 26_698,
    "cnn-15k": 15_106,
    "cnn-small": 7_882,
    "cnn-small-15": 7_882,
    "mlp-120-84": 105_214,
    "mlp-50-50": 42_310,
    "cnn-10-20": 21_840,
    "cnn-dropout": 421_642,
    "sprint": 46_778,
    "sprint-99.4": 80_250,
    "sprint-99.6": 184_682,
    "reader": 314_714,
}

PYTORCH_EXAMPLE = {
    "channels": [32, 64],
    "kernel_size": 3,
    "padding": 0,
    "pool": "last",
    "hidden": [128],
    "dropout": 0.25,
}
# The networks whose number of parameters their class's docstring states.
STATED: list[tuple[str, Mapping[str, object], int]] = [
    ("ann", {"hidden": [1024, 512, 256], "dropout": 0.3}, 4_855_818),
    ("ann", {"hidden": [12288, 6144, 6144, 3072], "dropout": 0.5}, 182_538_250),
    ("mlp", {"hidden": [120, 84], "dropout": 0.0}, 105_214),
    ("mlp", {"hidden": [50, 50], "dropout": 0.0}, 42_310),
    ("cnn", RECIPES["cnn-26k"].model, 26_698),
    ("cnn", RECIPES["cnn-15k"].model, 15_106),
    ("cnn", RECIPES["cnn-linear"].model, 62_346),
    ("cnn", RECIPES["cnn-10-20"].model, 21_840),
    ("cnn", PYTORCH_EXAMPLE, 1_199_882),
    ("cnn-deep", {"channels": [16, 32, 64, 128], "dropout": 0.1}, 295_002),
    ("cnn-deep", {"channels": [64, 256, 512, 1024], "dropout": 0.1}, 18_487_114),
    ("cnn-small", {"width": 14}, 696),
    ("cnn-small", {"width": 18}, 964),
    ("cnn-small", {"width": 30}, 1_960),
    ("cnn-small", {"width": 55}, 4_960),
    ("cnn-small", {"width": 64, "kernel_size": 5, "depthwise": 2}, 7_882),
]
# The budgets in the docstring of cnn-small, and the widest network within each.
WIDEST = {700: 14, 1000: 18, 2000: 30, 5000: 55, 8000: 64}


def docstring(arch: str) -> str:
    module_name, class_name = get_architecture(arch).factory.split(":")
    return str(getattr(import_module(module_name), class_name).__doc__)


def test_recipes_train_known_architectures_and_defaults_exist() -> None:
    assert list(ARCHITECTURES) == ["ann", "mlp", "cnn", "cnn-deep", "cnn-small"]
    assert {recipe.arch for recipe in RECIPES.values()} == set(ARCHITECTURES)
    for arch in ARCHITECTURES.values():
        assert get_recipe(arch.default_recipe).arch == arch.name
        assert get_architecture(arch.name) is arch
    assert DEFAULT_RECIPE == "cnn-small"
    # Its settings change at the widest network of each smaller budget.
    assert sorted(get_recipe("cnn-small").by_size) == [*WIDEST.values()][:-1]


def test_recipes_have_exactly_these_numbers_of_parameters() -> None:
    settings = {name: fit_budget(resolve(recipe=name)) for name in RECIPES}
    counts = {name: count_parameters(each.arch, each.network) for name, each in settings.items()}
    assert counts == NUM_PARAMS


@pytest.mark.parametrize(("arch", "model", "num_params"), STATED)
def test_a_docstring_states_the_true_number_of_parameters(
    arch: str, model: Mapping[str, object], num_params: int
) -> None:
    assert count_parameters(arch, model) == num_params
    assert re.search(rf"\b{num_params:,}\b", docstring(arch))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_docstring_states_no_other_number(arch: str) -> None:
    budgets = {f"{budget:,}" for budget in WIDEST} if arch == "cnn-small" else set()
    stated = set(re.findall(r"\d{1,3}(?:,\d{3})+", docstring(arch))) - budgets
    counted = {f"{num:,}" for name, _, num in STATED if name == arch}
    assert stated == {num for num in counted if "," in num}


def test_counting_allocates_nothing_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    count_parameters("ann", {"hidden": [65_536] * 8, "dropout": 0.0})  # 120 GB of weights
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_is_initialized_from_the_global_generator() -> None:
    def built(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_network("cnn-small", {"width": 3}).parameters())

    assert torch.equal(built(1), built(1))
    assert not torch.equal(built(1), built(2))


@pytest.mark.parametrize("kernels", [{}, {"kernel_size": 5, "depthwise": 2}])
@pytest.mark.parametrize("budget", [200, 1000, 7_881, 7_882, 7_894, 1_000_000])
def test_the_widest_network_fits_and_the_next_does_not(
    budget: int, kernels: dict[str, int]
) -> None:
    width = widest_fitting("cnn-small", budget, **kernels)
    assert count_parameters("cnn-small", {"width": width, **kernels}) <= budget
    assert count_parameters("cnn-small", {"width": width + 1, **kernels}) > budget


@pytest.mark.parametrize(("budget", "width"), WIDEST.items())
def test_the_docstring_states_the_widest_networks(budget: int, width: int) -> None:
    settings = fit_budget(resolve(max_params=budget))
    assert settings.network["width"] == width


def test_a_wider_network_has_more_parameters() -> None:
    sizes = [count_parameters("cnn-small", {"width": width}) for width in range(1, 40)]
    assert all(narrow < wide for narrow, wide in pairwise(sizes))


def test_a_budget_below_the_narrowest_network_is_refused() -> None:
    smallest = count_parameters("cnn-small", {"width": 1})
    assert widest_fitting("cnn-small", smallest) == 1
    with pytest.raises(GateError) as caught:
        widest_fitting("cnn-small", smallest - 1)
    assert caught.value.exit_code == 5
    assert caught.value.fix.endswith(f"--max-params {smallest}")


@pytest.mark.parametrize(("typed", "meant"), [("cnn-smal", "cnn-small"), ("MPL", "mlp")])
def test_an_unknown_architecture_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(SettingsError, match="no architecture") as caught:
        get_architecture(typed)
    assert caught.value.fix == f"Did you mean {meant}?"


@pytest.mark.parametrize(
    ("arch", "too_many", "just_enough"),
    [
        (
            "cnn",
            {"channels": [4] * 5, "kernel_size": 3, "padding": 1, "hidden": []},
            {"channels": [4] * 4, "kernel_size": 3, "padding": 1, "hidden": []},
        ),
        (
            "cnn",
            {"channels": [4], "kernel_size": 28, "padding": 0, "hidden": []},
            {"channels": [4], "kernel_size": 27, "padding": 0, "hidden": []},
        ),
        ("cnn-deep", {"channels": [4] * 7}, {"channels": [4] * 6}),
    ],
)
def test_stages_that_leave_no_pixel_are_refused(
    arch: str, too_many: dict[str, object], just_enough: dict[str, object]
) -> None:
    with pytest.raises(SettingsError, match=f"This {arch} cannot be built") as caught:
        build_network(arch, {**too_many, "dropout": 0.0})
    assert caught.value.why.endswith("to nothing.")
    side = get_architecture(arch).input_px
    network = build_network(arch, {**just_enough, "dropout": 0.0}).eval()
    assert network(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_the_registry_loads_without_torch_and_pydantic() -> None:
    code = "import sys, mnistcli.models.registry; print({'torch', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_last_layer_has_its_name_in_every_architecture(arch: str) -> None:
    settings = fit_budget(resolve(arch=arch))
    network = build_network(arch, {**settings.network, "num_classes": 7})
    assert network.state_dict()[f"{LAST_LAYER}.bias"].shape == (7,)
