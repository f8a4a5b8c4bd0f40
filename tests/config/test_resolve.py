"""Where a setting comes from: defaults, recipe, file, environment, flags; and the budget."""

import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mnistcli.config.recipes import RECIPES, get_recipe
from mnistcli.config.resolve import fit_budget, resolve_settings, resumed_settings
from mnistcli.config.settings import MODEL_FIELDS, Augmentation, TrainSettings
from mnistcli.errors import GateError, MnistError, SettingsError
from mnistcli.models.registry import ARCHITECTURES, get_architecture
from tests.helpers.settings import refused, resolve, write_config


def test_each_layer_overrides_the_one_before(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"recipe": "cnn-26k", "epochs": 21, "lr": 0.2, "seed": 2})
    environ = {"MNIST_EPOCHS": "22", "MNIST_LR": "0.3"}
    resolved = resolve_settings({"epochs": "23"}, config=config, environ=environ)
    settings, sources = resolved.settings, resolved.sources
    assert (settings.epochs, sources["epochs"]) == (23, "flag")
    assert (settings.lr, sources["lr"]) == (0.3, "environment")
    assert (settings.seed, sources["seed"]) == (2, str(config))
    assert (settings.schedule, sources["schedule"]) == ("plateau", "recipe cnn-26k")
    assert (settings.weight_decay, sources.get("weight_decay")) == (0.0, None)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_everything_it_names(name: str) -> None:
    recipe = get_recipe(name)
    dumped = resolve(recipe=name).model_dump(mode="json")
    assert (dumped["recipe"], dumped["model"]["arch"]) == (name, recipe.arch)
    assert {key: dumped[key] for key in recipe.training} == dict(recipe.training)
    assert {key: dumped["model"][key] for key in recipe.model} == dict(recipe.model)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_architecture_alone_trains_its_default_recipe(arch: str) -> None:
    settings = resolve(arch=arch)
    assert (settings.recipe, settings.arch) == (get_architecture(arch).default_recipe, arch)


def test_without_anything_the_default_recipe_is_trained() -> None:
    assert resolve().recipe == "cnn-small"
    assert resolve_settings({}, environ={}).sources["recipe"] == "default"


def test_the_strongest_layer_that_names_a_recipe_wins(tmp_path: Path) -> None:
    config, environ = write_config(tmp_path, {"recipe": "cnn-15k"}), {"MNIST_RECIPE": "cnn-10-20"}

    def recipe(**flags: str) -> str:
        return resolve_settings(flags, config=config, environ=environ).settings.recipe

    assert resolve_settings({}, config=config, environ={}).settings.recipe == "cnn-15k"
    assert recipe() == "cnn-10-20"
    assert recipe(arch="mlp") == "mlp-120-84"
    assert recipe(arch="cnn") == "cnn-10-20"  # which is a recipe for it


def test_a_recipe_of_another_architecture_is_refused() -> None:
    error = refused({"recipe": "cnn-26k", "arch": "mlp"})
    assert "cnn-26k" in error.what
    assert "--recipe mlp-120-84" in error.fix
    assert resolve(recipe="cnn-15k", arch="cnn").recipe == "cnn-15k"


@pytest.mark.parametrize("value", ["", 5, ["cnn"], "cnn-27k"])
@pytest.mark.parametrize("key", ["recipe", "arch"])
def test_an_unknown_recipe_or_architecture_is_refused(key: str, value: object) -> None:
    assert f"'{value}'" in refused({key: value}).what


def test_a_table_keeps_the_fields_that_a_stronger_layer_does_not_name(tmp_path: Path) -> None:
    config = write_config(tmp_path, "[augmentation]\nshift_px = 3\n", "c.toml")
    resolved = resolve_settings({}, config=config, environ={})
    assert resolved.settings.augmentation == resolve().augmentation.model_copy(
        update={"shift_px": 3}
    )
    assert resolved.sources["augmentation.shift_px"] == str(config)
    plain = resolve_settings({"recipe": "cnn-26k"}, config=config, environ={}).settings
    assert plain.augmentation == Augmentation(shift_px=3)


EVERYTHING_CHANGED: dict[str, Any] = {
    "recipe": "cnn-dropout",
    "channels": [3, 4, 5],
    "kernel_size": 5,
    "padding": 2,
    "pool": "last",
    "batch_norm": True,
    "hidden": [],
    "dropout": 0.125,
    "dataset": "/data/letters.csv",
    "own_data": {"digest": 64 * "a", "classes": ["a", "b", "c"], "test_seed": 3},
    "start": {"checkpoint": "/runs/a.pth", "sha256": 64 * "b", "mean": 0.2, "std": 0.3},
    "epochs": 7,
    "batch_size": 33,
    "optimizer": "sgd",
    "lr": 1 / 3,
    "momentum": 0.1,
    "weight_decay": 1e-7,
    "schedule": "step",
    "label_smoothing": 0.1,
    "augment": True,
    "augmentation": {"rotate_degrees": 1.1, "scale_fraction": 0.3},
    "composed": 100,
    "ema": 0.97,
    "val_size": 0,
    "train_size": 99,
    "fold": {"number": 2, "of": 7},
    "seed": 2**32 - 1,
    "device": "cpu",
    "precision": "float32",
    "max_params": 123_456,
    "until": 99.5,
}


@pytest.mark.parametrize("flags", [*({"recipe": name} for name in RECIPES), EVERYTHING_CHANGED])
@pytest.mark.parametrize("complete", [False, True], ids=["as given", "width filled in"])
def test_a_run_s_settings_file_gives_equal_settings(
    tmp_path: Path, flags: dict[str, Any], complete: bool
) -> None:
    settings = fit_budget(resolve(**flags)) if complete else resolve(**flags)
    config = write_config(tmp_path, settings.model_dump(mode="json"))
    resolved = resolve_settings({}, config=config, environ={})
    assert resolved.settings == settings
    assert resolved.sources["lr"] == str(config)


def test_the_example_changes_every_setting() -> None:
    settings = resolve(**EVERYTHING_CHANGED)
    unchanged = {
        name
        for name, field in TrainSettings.model_fields.items()
        if getattr(settings, name) == field.default
    }
    assert unchanged == {"loss"}  # label smoothing excludes the other one


def test_a_file_with_the_network_of_another_recipe_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"recipe": "mlp-50-50", "model": {"hidden": [9]}})
    assert "mlp-50-50" in refused({"recipe": "cnn-26k"}, config=config).what
    assert resolve_settings({}, config=config, environ={}).settings.network["hidden"] == (9,)


@pytest.mark.parametrize(("budget", "width"), [(8000, 64), (7881, 63)])
def test_a_budget_chooses_the_widest_network(budget: int, width: int) -> None:
    settings = fit_budget(resolve(max_params=budget))
    assert (settings.network["width"], settings.max_params) == (width, budget)


def test_a_network_of_fixed_size_must_fit_the_budget() -> None:
    fits = resolve(recipe="cnn-26k", max_params=26_698)
    assert fit_budget(fits) is fits
    with pytest.raises(GateError, match="26,698 parameters, more than 26,697") as caught:
        fit_budget(resolve(recipe="cnn-26k", max_params=26_697))
    assert "--max-params 26698" in caught.value.fix
    with pytest.raises(GateError, match="7,882 parameters, more than 7,000"):
        fit_budget(resolve(width=64, max_params=7000))


def test_without_a_budget_nothing_changes() -> None:
    for settings in (resolve(recipe="cnn-26k"), resolve(width=3)):
        assert fit_budget(settings) is settings


def test_the_stronger_of_a_width_and_a_budget_wins(tmp_path: Path) -> None:
    wide = resolve(arch="cnn-small", width=80)
    assert (wide.network["width"], wide.max_params) == (80, None)
    config = write_config(tmp_path, {"recipe": "cnn-small", "model": {"width": 73}})
    in_environ = {"MNIST_ARCH": "cnn-small", "MNIST_WIDTH": "73"}
    for file, environ in ((config, {}), (None, in_environ)):
        small = resolve_settings({"max_params": 2000}, config=file, environ=environ).settings
        assert (fit_budget(small).network["width"], small.max_params) == (30, 2000)
        narrow = resolve_settings({"width": 18}, config=file, environ=environ).settings
        assert (narrow.network["width"], narrow.max_params) == (18, None)


def test_a_run_from_before_a_setting_keeps_its_network(tmp_path: Path) -> None:
    """A run's file names the architecture in its model; what else a file lacks, the recipe sets."""
    model = {"width": 73}
    for arch, kernels in (({"arch": "cnn-small"}, (3, 1)), ({}, (5, 2))):
        config = write_config(tmp_path, {"recipe": "cnn-small", "model": {**arch, **model}})
        network = resolve_settings({}, config=config, environ={}).settings.network
        assert (network["kernel_size"], network["depthwise"]) == kernels


STRONG, MILD = (
    Augmentation(rotate_degrees=12, scale_fraction=0.15, shear_degrees=8, shift_px=2),
    Augmentation(rotate_degrees=5, scale_fraction=0.05, shear_degrees=3, shift_px=1),
)


@pytest.mark.parametrize(
    ("size", "epochs", "lr", "augmentation", "source"),
    [
        ({"max_params": 8000}, 30, 0.015, STRONG, ""),
        ({"max_params": 5200}, 30, 0.015, STRONG, ""),
        ({"max_params": 5001}, 36, 0.02, STRONG, ", width up to 55"),
        ({"width": 30, "max_params": 8000}, 64, 0.035, Augmentation(), ", width up to 30"),
        ({"max_params": 1001}, 90, 0.06, MILD, ", width up to 18"),
        ({"max_params": 700}, 90, 0.06, None, ", width up to 14"),
        ({"width": 1}, 90, 0.06, None, ", width up to 14"),
    ],
)
def test_a_recipe_trains_smaller_networks_longer(
    size: dict[str, int], epochs: int, lr: float, augmentation: Augmentation | None, source: str
) -> None:
    resolved = resolve_settings({"arch": "cnn-small", **size}, environ={})
    settings = resolved.settings
    assert (settings.epochs, settings.lr) == (epochs, lr)
    assert (settings.augmentation if settings.augment else None) == augmentation
    assert resolved.sources["epochs"] == f"recipe cnn-small{source}"
    assert resolved.sources["batch_size"] == "recipe cnn-small"


def test_settings_from_elsewhere_do_not_follow_the_size(tmp_path: Path) -> None:
    assert resolve(max_params=2000, epochs=9).epochs == 9
    config = write_config(tmp_path, "epochs = 7\n[augmentation]\nshift_px = 3\n", "c.toml")
    settings = resolve_settings({"max_params": 1000}, config=config, environ={}).settings
    assert (settings.epochs, settings.augmentation.shift_px) == (7, 3)
    assert settings.augmentation.rotate_degrees == MILD.rotate_degrees


def test_the_widest_possible_network_can_be_read_back() -> None:
    largest = fit_budget(resolve(max_params=10**9))
    assert TrainSettings.model_validate_json(largest.model_dump_json()) == largest


def test_a_resumed_run_keeps_its_settings_but_for_its_length_and_device() -> None:
    before = resolve(recipe="cnn-26k")
    after = resumed_settings(before, {"epochs": "20", "device": "cpu", "until": "99"})
    assert (after.epochs, after.device, after.until) == (20, "cpu", 99)
    with pytest.raises(SettingsError, match="--lr"):
        resumed_settings(before, {"lr": "1"})
    with pytest.raises(SettingsError) as caught:
        resumed_settings(before, {"epochs": "0"})
    assert "--epochs" in caught.value.why


NAMES = st.sampled_from(
    ["recipe", "arch", *TrainSettings.model_fields, *MODEL_FIELDS, *ARCHITECTURES]
)
NUMBERS = st.integers() | st.floats()
PLAUSIBLE = st.sampled_from([*RECIPES, *ARCHITECTURES, "1", "0.5", "8 16"])
VALUES = st.text() | PLAUSIBLE | NUMBERS | st.none() | st.lists(NUMBERS | st.text(), max_size=4)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=200)
@hypothesis.given(
    flags=st.dictionaries(NAMES | st.text(), VALUES, max_size=6),
    environ=st.dictionaries(NAMES.map(lambda name: f"MNIST_{name.upper()}"), st.text(), max_size=3),
)
def test_anything_gives_settings_or_an_error(
    flags: dict[str, Any], environ: dict[str, str]
) -> None:
    try:
        settings = resolve_settings(flags, environ=environ).settings
    except MnistError:
        return
    assert settings.arch == get_recipe(settings.recipe).arch
    assert TrainSettings.model_validate_json(json.dumps(settings.model_dump(mode="json")))


def test_the_kernels_of_cnn_small_are_all_used() -> None:
    network = resolve(width=9, kernel_size="7", depthwise="4").network
    assert (network["kernel_size"], network["depthwise"]) == (7, 4)
    with pytest.raises(SettingsError) as caught:
        resolve(width=9, kernel_size=7, depthwise=5)
    assert "depthwise can be 4 at most with a kernel_size of 7" in str(caught.value.why)


def test_a_recipe_adapts_to_a_small_data_set() -> None:
    resolved = resolve_settings({"dataset": "digits"}, environ={})
    assert (resolved.settings.epochs, resolved.settings.batch_size) == (15, 64)
    assert resolved.sources["epochs"] == "recipe cnn-small, dataset digits"
    small = resolve_settings({"dataset": "digits", "max_params": 1000}, environ={}).settings
    assert (small.epochs, small.batch_size) == (90, 128)
    assert resolve(dataset="digits", epochs=2).epochs == 2
