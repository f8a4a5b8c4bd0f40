"""Five families, their recipes, and exactly as many parameters as their pages say."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from itertools import pairwise

import pytest
import torch
import torch._dynamo  # shapes on meta load it; it makes its own cache directory

from mnistcli.config.recipes import DEFAULT_RECIPE, RECIPES, Recipe, get_recipe
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import Augmentation
from mnistcli.errors import GateError, SettingsError
from mnistcli.models.registry import (
    ARCHITECTURES,
    Architecture,
    build_network,
    count_parameters,
    get_architecture,
    widest_fitting,
)
from mnistcli.models.summary import summarize_network

NUM_PARAMS = {
    "ann": 4_855_818,
    "cnn-deep": 295_002,
    "mlp-nll-sgd": 251_526,
    "cnn-linear": 62_346,
    "cnn-26k": 26_698,
    "cnn-15k": 15_106,
    "cnn-small": 7_894,
    "mlp-120-84": 105_214,
    "mlp-50-50": 42_310,
    "cnn-10-20": 21_840,
    "cnn-dropout": 421_642,
    "sprint": 46_778,
    "sprint-99.4": 80_250,
    "sprint-99.6": 184_682,
}

# Every member of a family whose size its class's docstring states.
STATED = [
    ("ann", {"hidden": [1024, 512, 256], "dropout": 0.3}, 4_855_818),
    ("ann", {"hidden": [12288, 6144, 6144, 3072], "dropout": 0.5}, 182_538_250),
    ("mlp", {"hidden": [120, 84], "dropout": 0.0}, 105_214),
    ("mlp", {"hidden": [50, 50], "dropout": 0.0}, 42_310),
    ("cnn", RECIPES["cnn-26k"].model, 26_698),
    ("cnn", RECIPES["cnn-15k"].model, 15_106),
    ("cnn", RECIPES["cnn-linear"].model, 62_346),
    ("cnn", RECIPES["cnn-10-20"].model, 21_840),
    (
        "cnn",
        {
            "channels": [32, 64],
            "kernel_size": 3,
            "padding": 0,
            "pool": "last",
            "hidden": [128],
            "dropout": 0.25,
        },
        1_199_882,
    ),
    ("cnn-deep", {"channels": [16, 32, 64, 128], "dropout": 0.1}, 295_002),
    ("cnn-deep", {"channels": [64, 256, 512, 1024], "dropout": 0.1}, 18_487_114),
    ("cnn-small", {"width": 18}, 964),
    ("cnn-small", {"width": 30}, 1_960),
    ("cnn-small", {"width": 55}, 4_960),
    ("cnn-small", {"width": 73}, 7_894),
]


# The budgets that the docstring of cnn-small names, and the widest network under each.
WIDEST = {1000: 18, 2000: 30, 5000: 55, 8000: 73}


def docstring(arch: str) -> str:
    module_name, class_name = get_architecture(arch).factory.split(":")
    return str(getattr(import_module(module_name), class_name).__doc__)


def test_there_are_five_architectures_eleven_published_recipes_and_our_sprints() -> None:
    assert list(ARCHITECTURES) == ["ann", "mlp", "cnn", "cnn-deep", "cnn-small"]
    assert list(RECIPES) == list(NUM_PARAMS)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_recipe_trains_a_known_architecture(recipe: Recipe) -> None:
    assert recipe.arch in ARCHITECTURES
    assert get_recipe(recipe.name) is recipe


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=lambda arch: arch.name)
def test_the_default_recipe_of_an_architecture_trains_it(arch: Architecture) -> None:
    assert get_recipe(arch.default_recipe).arch == arch.name
    assert get_architecture(arch.name) is arch


def test_the_default_recipe_exists() -> None:
    assert get_recipe(DEFAULT_RECIPE).name == "cnn-small"


@pytest.mark.parametrize(("name", "num_params"), NUM_PARAMS.items())
def test_a_recipe_has_exactly_its_parameters(name: str, num_params: int) -> None:
    settings = fit_budget(resolve_settings({"recipe": name}, environ={}).settings)
    assert summarize_network(settings).num_params == num_params
    assert count_parameters(settings.arch, settings.network) == num_params


@pytest.mark.parametrize(("arch", "model", "num_params"), STATED)
def test_a_docstring_states_the_true_number_of_parameters(
    arch: str, model: Mapping[str, object], num_params: int
) -> None:
    assert count_parameters(arch, model) == num_params
    assert re.search(rf"\b{num_params:,}\b", docstring(arch))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_docstring_states_no_number_that_is_not_checked(arch: str) -> None:
    budgets = {f"{budget:,}" for budget in WIDEST} if arch == "cnn-small" else set()
    stated = set(re.findall(r"\d{1,3}(?:,\d{3})+", docstring(arch))) - budgets
    counted = {f"{num:,}" for family, _, num in STATED if family == arch}
    assert stated == {num for num in counted if "," in num}


@pytest.mark.parametrize(("budget", "width"), WIDEST.items())
def test_the_widest_fits_and_the_next_does_not(budget: int, width: int) -> None:
    assert widest_fitting("cnn-small", budget) == width
    assert count_parameters("cnn-small", {"width": width}) <= budget
    assert count_parameters("cnn-small", {"width": width + 1}) > budget


def test_the_recipe_changes_at_the_widest_under_each_smaller_budget() -> None:
    assert sorted(get_recipe("cnn-small").by_size) == [18, 30, 55]


def test_the_default_augmentation_is_the_settings_own() -> None:
    recipe = get_recipe("cnn-small")
    assert recipe.by_size[30]["augmentation"] == Augmentation().model_dump()


def test_counting_allocates_nothing_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    count_parameters("ann", {"hidden": [65_536] * 8, "dropout": 0.0})
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_is_built_from_the_global_generator() -> None:
    def built(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_network("cnn-small", {"width": 3}).parameters())

    assert torch.equal(built(1), built(1))
    assert not torch.equal(built(1), built(2))


@pytest.mark.parametrize("budget", [100, 500, 2000, 4960, 7893, 7894, 8000, 26_698, 1_000_000])
def test_the_widest_network_fits_and_the_next_does_not(budget: int) -> None:
    width = widest_fitting("cnn-small", budget)
    assert count_parameters("cnn-small", {"width": width}) <= budget
    assert count_parameters("cnn-small", {"width": width + 1}) > budget


def test_the_widest_network_under_8000_parameters_has_7894() -> None:
    assert widest_fitting("cnn-small", 8000) == 73
    assert widest_fitting("cnn-small", 7893) == 72


def test_a_wider_network_never_has_fewer_parameters() -> None:
    sizes = [count_parameters("cnn-small", {"width": width}) for width in range(1, 40)]
    assert all(narrow < wide for narrow, wide in pairwise(sizes))


def test_the_smallest_budget_that_fits_gives_the_narrowest_network() -> None:
    smallest = count_parameters("cnn-small", {"width": 1})
    assert widest_fitting("cnn-small", smallest) == 1


def test_a_budget_that_nothing_fits_is_refused_with_the_smallest_that_does() -> None:
    smallest = count_parameters("cnn-small", {"width": 1})
    with pytest.raises(GateError) as caught:
        widest_fitting("cnn-small", smallest - 1)
    assert caught.value.exit_code == 5
    assert caught.value.why == f"The narrowest has {smallest}."
    assert caught.value.fix == f"Raise the budget: --max-params {smallest}"


@pytest.mark.parametrize(("typed", "meant"), [("cnn_small", "cnn-small"), ("MLP", "mlp")])
def test_an_unknown_architecture_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(SettingsError, match="no architecture") as caught:
        get_architecture(typed)
    assert caught.value.fix == f"Did you mean {meant}?"


@pytest.mark.parametrize(("typed", "meant"), [("cnn-26", "cnn-26k"), ("mlp-50", "mlp-50-50")])
def test_an_unknown_recipe_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(SettingsError, match="no recipe") as caught:
        get_recipe(typed)
    assert caught.value.fix == f"Did you mean {meant}?"


@pytest.mark.parametrize(
    ("arch", "model"),
    [
        ("cnn", {"channels": [4] * 5, "kernel_size": 3, "padding": 1}),
        ("cnn", {"channels": [4] * 3, "kernel_size": 5, "padding": 0}),
        ("cnn", {"channels": [4], "kernel_size": 28, "padding": 0}),
        ("cnn-deep", {"channels": [4] * 7}),
    ],
)
def test_stages_that_leave_no_pixel_are_refused(arch: str, model: dict[str, object]) -> None:
    rest = {"hidden": [], "dropout": 0.0} if arch == "cnn" else {"dropout": 0.0}
    with pytest.raises(SettingsError, match=f"This {arch} cannot be built") as caught:
        build_network(arch, model | rest)
    assert caught.value.why.endswith("to nothing.")


@pytest.mark.parametrize(
    ("arch", "model", "input_px"),
    [
        ("cnn", {"channels": [4] * 4, "kernel_size": 3, "padding": 1, "hidden": []}, 28),
        ("cnn", {"channels": [4], "kernel_size": 27, "padding": 0, "hidden": []}, 28),
        ("cnn-deep", {"channels": [4] * 6}, 64),
    ],
)
def test_stages_that_leave_one_pixel_still_read_it(
    arch: str, model: dict[str, object], input_px: int
) -> None:
    network = build_network(arch, {**model, "dropout": 0.0}).eval()
    assert network(torch.zeros(2, 1, input_px, input_px)).shape == (2, 10)


def test_the_registry_loads_without_torch() -> None:
    code = "import sys, mnistcli.registry; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
