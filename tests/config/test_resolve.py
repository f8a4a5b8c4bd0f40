"""Where a setting comes from, what it may be, and what is said when it may not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import ValidationError

from mnistcli.config.differences import changes_from_recipe
from mnistcli.config.recipes import RECIPES, get_recipe
from mnistcli.config.resolve import fit_budget, misspelled_variables, read_config, resolve_settings
from mnistcli.config.settings import MODEL_FIELDS, Augmentation, ModelSettings, TrainSettings
from mnistcli.errors import GateError, MnistError, SettingsError
from mnistcli.models.registry import ARCHITECTURES, get_architecture

# Name, an architecture that has it, the least, the most and values just beyond each.
BOUNDS: list[tuple[str, str, float, float, float, float]] = [
    ("epochs", "cnn", 1, 10_000, 0, 10_001),
    ("batch_size", "cnn", 1, 60_000, 0, 60_001),
    ("lr", "cnn", 1e-12, 100, 0, 100.1),
    ("momentum", "cnn", 0, 0.999, -0.001, 1),
    ("weight_decay", "cnn", 0, 10, -0.001, 10.001),
    ("label_smoothing", "cnn", 0, 0.999, -0.001, 1),
    ("ema", "cnn", 0, 0.9999, -0.001, 1),
    ("val_size", "cnn", 0, 59_999, -0.001, 60_000),
    ("seed", "cnn", 0, 2**32 - 1, -1, 2**32),
    ("max_params", "cnn", 1, 1_000_000_000, 0, 1_000_000_001),
    ("kernel_size", "cnn", 1, 28, 0, 29),
    ("padding", "cnn", 0, 14, -1, 15),
    ("dropout", "cnn", 0, 0.999, -0.001, 1),
    ("dropout", "mlp", 0, 0.999, -0.001, 1),
    ("dropout", "ann", 0, 0.999, -0.001, 1),
    ("dropout", "cnn-deep", 0, 0.999, -0.001, 1),
    ("width", "cnn-small", 1, 32_768, 0, 32_769),
]
# How the bounds read, by name.
WORDS = {
    "epochs": "a whole number at least 1 and at most 10,000",
    "batch_size": "a whole number at least 1 and at most 60,000",
    "lr": "a number above 0 and at most 100",
    "momentum": "a number at least 0 and below 1",
    "weight_decay": "a number at least 0 and at most 10",
    "label_smoothing": "a number at least 0 and below 1",
    "ema": "a number at least 0 and below 1",
    "val_size": "a number at least 0 and at most 59,999",
    "seed": "a whole number at least 0 and at most 4,294,967,295",
    "max_params": "a whole number at least 1 and at most 1,000,000,000",
    "kernel_size": "a whole number at least 1 and at most 28",
    "padding": "a whole number at least 0 and at most 14",
    "dropout": "a number at least 0 and below 1",
    "width": "a whole number at least 1 and at most 32,768",
}
NESTED_BOUNDS = [
    ("rotate_degrees", 180, 180.1, "a number at least 0 and at most 180"),
    ("scale_fraction", 0.999, 1, "a number at least 0 and below 1"),
    ("shear_degrees", 60, 60.1, "a number at least 0 and at most 60"),
    ("shift_px", 14, 14.1, "a number at least 0 and at most 14"),
]
every_bound = pytest.mark.parametrize(
    ("name", "arch", "least", "most", "below", "above"),
    BOUNDS,
    ids=[f"{arch}-{name}" for name, arch, *_ in BOUNDS],
)


def flagged(**flags: Any) -> TrainSettings:
    return resolve_settings(flags, environ={}).settings


def value_of(chosen: TrainSettings, name: str) -> Any:
    return getattr(chosen.model if name in MODEL_FIELDS else chosen, name)


def refused(
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        resolve_settings(flags, config=config, environ=environ or {})
    assert caught.value.exit_code == 2
    return caught.value


def written(path: Path, values: object) -> Path:
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path


def test_each_layer_is_stronger_than_the_one_before(tmp_path: Path) -> None:
    config = written(tmp_path / "c.json", {"recipe": "cnn-26k", "epochs": 21, "lr": 0.2, "seed": 2})
    environ = {"MNIST_EPOCHS": "22", "MNIST_LR": "0.3"}
    resolved = resolve_settings({"epochs": "23"}, config=config, environ=environ)
    chosen, sources = resolved.settings, resolved.sources
    assert (chosen.epochs, sources["epochs"]) == (23, "flag")
    assert (chosen.lr, sources["lr"]) == (0.3, "environment")
    assert (chosen.seed, sources["seed"]) == (2, str(config))
    assert (chosen.schedule, sources["schedule"]) == ("plateau", "recipe cnn-26k")
    assert (chosen.weight_decay, sources.get("weight_decay")) == (0.0, None)


@pytest.mark.parametrize(
    ("num_layers", "epochs", "source"),
    [(0, 10, "recipe cnn-26k"), (1, 21, "file"), (2, 22, "environment"), (3, 23, "flag")],
)
def test_a_setting_comes_from_the_strongest_layer_that_gives_it(
    tmp_path: Path, num_layers: int, epochs: int, source: str
) -> None:
    config = written(tmp_path / "c.json", {"epochs": 21} if num_layers >= 1 else {})
    environ = {"MNIST_EPOCHS": "22"} if num_layers >= 2 else {}
    flags = {"recipe": "cnn-26k"} | ({"epochs": 23} if num_layers >= 3 else {})
    resolved = resolve_settings(flags, config=config, environ=environ)
    assert resolved.settings.epochs == epochs
    assert resolved.sources["epochs"] == (str(config) if source == "file" else source)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fills_in_all_that_it_names(name: str) -> None:
    recipe = get_recipe(name)
    resolved = resolve_settings({"recipe": name}, environ={})
    dumped = resolved.settings.model_dump(mode="json")
    assert dumped["recipe"] == name
    assert resolved.settings.arch == recipe.arch
    assert {key: dumped[key] for key in recipe.training} == dict(recipe.training)
    assert {key: dumped["model"][key] for key in recipe.model} == dict(recipe.model)
    assert {resolved.sources[key] for key in (*recipe.training, *recipe.model)} == {
        f"recipe {name}"
    }


def test_nothing_given_trains_the_default_recipe() -> None:
    chosen = flagged()
    assert (chosen.recipe, chosen.arch) == ("cnn-small", "cnn-small")
    assert chosen.network == {"width": None}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_architecture_alone_trains_its_default_recipe(arch: str) -> None:
    chosen = flagged(arch=arch)
    assert chosen.recipe == get_architecture(arch).default_recipe
    assert chosen.arch == arch


def test_the_strongest_layer_that_names_a_recipe_picks_it(tmp_path: Path) -> None:
    config = written(tmp_path / "c.json", {"recipe": "cnn-15k"})
    environ = {"MNIST_RECIPE": "cnn-10-20"}
    assert resolve_settings({}, config=config, environ={}).settings.recipe == "cnn-15k"
    assert resolve_settings({}, config=config, environ=environ).settings.recipe == "cnn-10-20"
    chosen = resolve_settings({"arch": "mlp"}, config=config, environ=environ).settings
    assert chosen.recipe == "mlp-120-84"


def test_a_recipe_of_another_architecture_is_refused() -> None:
    error = refused({"recipe": "cnn-26k", "arch": "mlp"})
    assert error.what == "The recipe cnn-26k is no mlp."
    assert error.why == "It trains the architecture cnn."
    assert "--recipe mlp-120-84" in error.fix


def test_a_recipe_and_its_own_architecture_agree() -> None:
    assert flagged(recipe="cnn-15k", arch="cnn").recipe == "cnn-15k"


@pytest.mark.parametrize("given", ["", 5, ["cnn"], False, "cnn-27k"])
@pytest.mark.parametrize("key", ["recipe", "arch"])
def test_a_recipe_or_architecture_that_is_no_known_name_is_refused(key: str, given: object) -> None:
    assert refused({key: given}).what.endswith(f"called '{given}'.")


def test_an_empty_environment_variable_is_not_set() -> None:
    assert (
        resolve_settings({}, environ={"MNIST_EPOCHS": "", "MNIST_ARCH": ""}).settings == flagged()
    )


def test_only_variables_with_our_prefix_count() -> None:
    assert resolve_settings({}, environ={"EPOCHS": "3", "MNIST_OTHER": "x"}).settings == flagged()


@pytest.mark.parametrize("given", ["120,84", "120 84", "120, 84", [120, 84], (120, 84)])
def test_a_list_is_written_with_commas_or_spaces(given: object) -> None:
    assert flagged(arch="mlp", hidden=given).network["hidden"] == (120, 84)


def test_a_list_comes_from_the_environment_too() -> None:
    environ = {"MNIST_ARCH": "cnn", "MNIST_CHANNELS": "4,5", "MNIST_HIDDEN": "7"}
    network = resolve_settings({}, environ=environ).settings.network
    assert (network["channels"], network["hidden"]) == ((4, 5), (7,))


def test_no_hidden_layers_may_be_asked_for() -> None:
    assert flagged(arch="mlp", hidden="").network["hidden"] == ()


@pytest.mark.parametrize(
    "given", ["0", "65537", "1.5", "a", "8 b", " ".join(["1"] * 33), 120, [True, None]]
)
def test_a_list_of_anything_but_sizes_is_refused(given: object) -> None:
    error = refused({"arch": "mlp", "hidden": given})
    assert error.why.startswith("--hidden: ")
    assert "up to 32 whole numbers from 1 to 65,536" in error.why


def test_a_convolution_needs_a_stage() -> None:
    assert "--channels" in refused({"arch": "cnn", "channels": ""}).why


@pytest.mark.parametrize("given", ["1", "65536", " ".join(["1"] * 32)])
def test_a_list_may_be_as_long_and_wide_as_its_bounds(given: str) -> None:
    network = flagged(arch="mlp", hidden=given).network
    assert network["hidden"] == tuple(int(size) for size in given.split())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"recipe": "cnn-26k", "epochs": 3, "model": {"hidden": [9], "dropout": 0.5}}'),
        ("c.toml", 'recipe = "cnn-26k"\nepochs = 3\n[model]\nhidden = [9]\ndropout = 0.5\n'),
        ("c.toml", 'recipe = "cnn-26k"\nepochs = 3\nhidden = "9"\ndropout = 0.5\n'),
    ],
)
def test_settings_come_from_json_and_toml(tmp_path: Path, name: str, text: str) -> None:
    chosen = resolve_settings({}, config=written(tmp_path / name, text), environ={}).settings
    assert (chosen.recipe, chosen.epochs) == ("cnn-26k", 3)
    assert (chosen.network["hidden"], chosen.network["dropout"]) == ((9,), 0.5)


def test_a_nested_table_leaves_what_it_does_not_name(tmp_path: Path) -> None:
    config = written(tmp_path / "c.toml", "[augmentation]\nshift_px = 3\n")
    of_recipe = resolve_settings({}, environ={}).settings.augmentation
    augmentation = resolve_settings({}, config=config, environ={}).settings.augmentation
    assert augmentation == of_recipe.model_copy(update={"shift_px": 3})
    plain = resolve_settings({"recipe": "cnn-26k"}, config=config, environ={}).settings.augmentation
    assert plain == Augmentation(shift_px=3)


EVERYTHING_CHANGED: dict[str, Any] = {
    "recipe": "cnn-dropout",
    "channels": [3, 4, 5],
    "kernel_size": 5,
    "padding": 2,
    "pool": "last",
    "batch_norm": True,
    "hidden": [],
    "dropout": 0.125,
    "dataset": "kmnist",
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
    "ema": 0.97,
    "val_size": 0,
    "fold": {"number": 2, "of": 7},
    "seed": 2**32 - 1,
    "device": "cpu",
    "precision": "float32",
    "max_params": 123_456,
    "until": 99.5,
}


@pytest.mark.parametrize("flags", [*({"recipe": name} for name in RECIPES), EVERYTHING_CHANGED])
@pytest.mark.parametrize("complete", [False, True], ids=["as given", "width filled in"])
def test_the_settings_file_of_a_run_gives_equal_settings(
    tmp_path: Path, flags: dict[str, Any], complete: bool
) -> None:
    chosen = fit_budget(flagged(**flags)) if complete else flagged(**flags)
    config = written(tmp_path / "settings.json", chosen.model_dump(mode="json"))
    resolved = resolve_settings({}, config=config, environ={})
    assert resolved.settings == chosen
    assert resolved.sources["lr"] == str(config)


def test_the_example_with_everything_changed_changes_everything() -> None:
    defaults = {name: field.default for name, field in TrainSettings.model_fields.items()}
    chosen = flagged(**EVERYTHING_CHANGED)
    same = {name for name, default in defaults.items() if getattr(chosen, name) == default}
    assert same == {"loss"}  # label smoothing rules the other one out


@pytest.mark.parametrize("name", ["c.json", "c.toml"])
@pytest.mark.parametrize("text", ["{", "epochs = = 3", "\udcff"])
def test_a_broken_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    config = tmp_path / name
    config.write_bytes(text.encode("utf-8", "surrogateescape"))
    error = refused({}, config=config)
    assert error.what == f"The settings file {config} is broken."
    assert error.why


@pytest.mark.parametrize(("text", "kind"), [("[1, 2]", "list"), ("3", "int"), ('"x"', "str")])
def test_a_file_without_a_table_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    error = refused({}, config=written(tmp_path / "c.json", text))
    assert error.what.endswith("holds no settings.")
    assert f"It holds a {kind} " in error.why


@pytest.mark.parametrize("name", ["missing.json", "missing.toml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    error = refused({}, config=tmp_path / name)
    assert error.what == f"Cannot read the settings file {tmp_path / name}."


@pytest.mark.parametrize("table", ["model", "augmentation"])
def test_a_value_where_a_table_belongs_is_refused(tmp_path: Path, table: str) -> None:
    config = written(tmp_path / "c.json", {table: 3})
    why = refused({}, config=config).why
    assert why == f"{table} (in {config}): 3 will not do; it must be a table of settings."


@pytest.mark.parametrize(
    ("arch", "typed", "meant"),
    [
        ("cnn", "epoch", "epochs"),
        ("cnn", "batchsize", "batch_size"),
        ("cnn", "kernal_size", "kernel_size"),
        ("cnn-small", "hiden", "hidden"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(
    tmp_path: Path, arch: str, typed: str, meant: str
) -> None:
    config = written(tmp_path / "c.json", {"arch": arch, typed: 3})
    error = refused({}, config=config)
    assert error.what == "A setting is wrong."
    assert error.why == f"{typed} (in {config}): no such setting. Did you mean {meant}?"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_key_named_like_an_architecture_is_named_in_the_message(
    tmp_path: Path, arch: str
) -> None:
    config = written(tmp_path / "c.json", {arch: 3})
    assert refused({}, config=config).why.startswith(f"{arch} (in {config}): no such setting.")


def test_an_unknown_key_in_a_nested_table_is_named_with_its_table(tmp_path: Path) -> None:
    config = written(tmp_path / "c.json", {"augmentation": {"rotate_degree": 3}})
    why = refused({}, config=config).why
    assert why.startswith(f"augmentation.rotate_degree (in {config}): no such setting.")
    assert why.endswith("Did you mean augmentation.rotate_degrees?")


@pytest.mark.parametrize(
    ("arch", "name", "given"),
    [
        ("cnn-small", "hidden", "3"),
        ("cnn-small", "dropout", "0.1"),
        ("mlp", "kernel_size", "3"),
        ("mlp", "width", "3"),
        ("ann", "channels", "3"),
        ("cnn-deep", "hidden", "3"),
        ("cnn", "width", "3"),
    ],
)
def test_a_setting_of_another_family_is_refused(arch: str, name: str, given: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    why = refused({"arch": arch, name: given}).why
    assert why == f"{flag}: the architecture {arch} has no such setting."


def test_every_numeric_setting_has_its_bounds_tested() -> None:
    families = get_args(get_args(ModelSettings)[0])
    numeric = {
        (name, family.model_fields["arch"].default if family else "")
        for family in (None, *families)
        for name, field in (family or TrainSettings).model_fields.items()
        if field.annotation in (int, float, int | None)
    }
    tested = {(name, arch if name in MODEL_FIELDS else "") for name, arch, *_ in BOUNDS}
    assert tested == numeric
    assert {name for name, *_ in NESTED_BOUNDS} == set(Augmentation.model_fields)


@every_bound
def test_a_setting_may_lie_on_its_bounds(
    name: str, arch: str, least: float, most: float, below: float, above: float
) -> None:
    for given in (least, most):
        assert value_of(flagged(arch=arch, **{name: str(given)}), name) == given
        assert value_of(flagged(arch=arch, **{name: given}), name) == given


@every_bound
def test_a_flag_beyond_its_bounds_is_refused_as_it_was_typed(
    name: str, arch: str, least: float, most: float, below: float, above: float
) -> None:
    flag = f"--{name.replace('_', '-')}"
    for given in (below, above):
        error = refused({"arch": arch, name: str(given)})
        assert error.what == "A setting is wrong."
        assert error.why == f"{flag}: {given} will not do; it must be {WORDS[name]}."


@every_bound
def test_a_variable_or_file_beyond_the_bounds_is_refused_by_its_name(
    tmp_path: Path, name: str, arch: str, least: float, most: float, below: float, above: float
) -> None:
    variable = f"MNIST_{name.upper()}"
    error = refused({"arch": arch}, environ={variable: str(above)})
    assert error.why == f"{variable}: {above} will not do; it must be {WORDS[name]}."
    config = written(tmp_path / "c.json", {"arch": arch, name: below})
    error = refused({}, config=config)
    assert error.why == f"{name} (in {config}): {below} will not do; it must be {WORDS[name]}."


@every_bound
@pytest.mark.parametrize("given", ["nan", "inf", "-inf", "many", "", None, [1]])
def test_what_is_no_finite_number_is_refused(
    name: str,
    arch: str,
    least: float,
    most: float,
    below: float,
    above: float,
    given: object,
) -> None:
    if given is None and name in ("max_params", "width"):
        return  # how these say that they were not given
    assert WORDS[name] in refused({"arch": arch, name: given}).why


@pytest.mark.parametrize("name", ["epochs", "batch_size", "seed", "max_params"])
def test_a_whole_number_takes_no_fraction(name: str) -> None:
    assert "a whole number" in refused({name: "1.5"}).why


@pytest.mark.parametrize(("name", "most", "above", "words"), NESTED_BOUNDS)
def test_augmentation_is_bounded_and_its_message_names_the_field(
    tmp_path: Path, name: str, most: float, above: float, words: str
) -> None:
    for good in (0, most):
        config = written(tmp_path / "c.json", {"augmentation": {name: good}})
        augmentation = resolve_settings({}, config=config, environ={}).settings.augmentation
        assert getattr(augmentation, name) == good
    for bad in (-0.1, above):
        config = written(tmp_path / "c.json", {"augmentation": {name: bad}})
        assert refused({}, config=config).why == (
            f"augmentation.{name} (in {config}): {bad} will not do; it must be {words}."
        )


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("dataset", "mnist, fashion-mnist, kmnist, digits"),
        ("optimizer", "sgd, adam, adamw"),
        ("schedule", "onecycle, cosine, step, plateau, constant"),
        ("loss", "cross-entropy, nll"),
        ("device", "auto, cpu, cuda, mps"),
        ("precision", "auto, float32, bfloat16, float16"),
    ],
)
def test_a_choice_is_one_of_those_listed(name: str, choices: str) -> None:
    assert refused({name: "other"}).why == (
        f"--{name}: other will not do; it must be one of {choices}."
    )
    for choice in choices.split(", "):
        assert value_of(flagged(**{name: choice}), name) == choice


def test_every_wrong_setting_has_its_line() -> None:
    error = refused({"epochs": "0", "lr": "-1", "augment": "maybe", "optimizer": "lion"})
    assert error.what == "4 settings are wrong."
    assert len(error.why.splitlines()) == 4
    assert "--augment: maybe will not do; it must be true or false." in error.why


def test_a_long_value_is_shown_shortened() -> None:
    assert f"{'x' * 40}… will not do" in refused({"lr": "x" * 1000}).why


def test_label_smoothing_needs_cross_entropy() -> None:
    why = refused({"loss": "nll", "label_smoothing": "0.1"}).why
    assert why == "label_smoothing needs loss cross-entropy."
    assert flagged(loss="nll", label_smoothing="0").loss == "nll"


@pytest.mark.parametrize(
    ("fold", "val_size", "why"),
    [
        ({"number": 1, "of": 5}, 0.1, "fold needs a val_size of 0."),
        ({"number": 6, "of": 5}, 0, "there is no fold 6 of 5."),
        ({"number": 0, "of": 5}, 0, "--fold.number: 0 will not do; it must be a whole number"),
        ({"number": 1, "of": 1}, 0, "at least 2 and at most 100."),
        (3, 0, "--fold: 3 will not do; it must be a table of settings."),
    ],
)
def test_a_fold_is_one_of_several_and_held_out_alone(
    fold: object, val_size: float, why: str
) -> None:
    assert why in refused({"fold": fold, "val_size": val_size}).why


def test_a_fold_is_held_out_whatever_the_val_size() -> None:
    assert flagged(fold={"number": 5, "of": 5}, val_size=0, until=99).holds_out
    assert flagged(val_size=0.1).holds_out
    assert not flagged(val_size=0).holds_out


def test_cnn_small_needs_a_width_or_a_budget() -> None:
    assert refused({"max_params": None}).why == "cnn-small needs a width or max_params."
    assert flagged(max_params=None, width=4).network == {"width": 4}


def test_settings_are_frozen() -> None:
    chosen = flagged(arch="cnn")
    for model, name in ((chosen, "epochs"), (chosen.model, "dropout"), (chosen.augmentation, "lr")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, 1)


@pytest.mark.parametrize(("budget", "width"), [(8000, 73), (7893, 72)])
def test_a_budget_fills_in_the_widest_width(budget: int, width: int) -> None:
    chosen = fit_budget(flagged(max_params=budget))
    assert chosen.network == {"width": width}
    assert chosen.max_params == budget


def test_a_width_that_was_given_is_kept() -> None:
    assert fit_budget(flagged(width=3)).network == {"width": 3}


def test_a_width_over_the_budget_is_refused() -> None:
    with pytest.raises(GateError, match="7,894 parameters, more than 7,000"):
        fit_budget(flagged(width=73, max_params=7000))


def test_a_network_of_fixed_size_over_the_budget_is_refused() -> None:
    with pytest.raises(GateError) as caught:
        fit_budget(flagged(recipe="cnn-26k", max_params=26_697))
    assert caught.value.exit_code == 5
    assert caught.value.what == "cnn-26k has 26,698 parameters, more than 26,697."
    assert "--max-params 26698" in caught.value.fix


def test_a_network_of_fixed_size_that_fits_is_left_as_it_is() -> None:
    chosen = flagged(recipe="cnn-26k", max_params=26_698)
    assert fit_budget(chosen) is chosen


def test_without_a_budget_nothing_is_changed() -> None:
    chosen = flagged(recipe="cnn-26k")
    assert fit_budget(chosen) is chosen


NAMES = st.sampled_from(
    ["recipe", "arch", *TrainSettings.model_fields, *MODEL_FIELDS, *ARCHITECTURES]
)
NUMBERS = st.integers() | st.floats()
WELL_MEANT = st.sampled_from([*RECIPES, *ARCHITECTURES, "1", "0.5", "8 16"])
VALUES = st.text() | WELL_MEANT | NUMBERS | st.none() | st.lists(NUMBERS | st.text(), max_size=4)


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=300)
@hypothesis.given(flags=st.dictionaries(NAMES | st.text(), VALUES, max_size=6))
def test_any_flags_give_settings_or_an_error_of_ours(flags: dict[str, Any]) -> None:
    try:
        resolved = resolve_settings(flags, environ={})
    except MnistError:
        return
    assert resolved.settings.arch in ARCHITECTURES
    assert resolved.settings.arch == get_recipe(resolved.settings.recipe).arch


@hypothesis.settings(deadline=None, derandomize=True, database=None, max_examples=150)
@hypothesis.given(
    environ=st.dictionaries(NAMES.map(lambda name: f"MNIST_{name.upper()}"), st.text())
)
def test_any_environment_gives_settings_or_an_error_of_ours(environ: dict[str, str]) -> None:
    try:
        resolved = resolve_settings({}, environ=environ)
    except MnistError:
        return
    assert resolved.settings.arch in ARCHITECTURES


def test_the_stronger_of_a_width_and_a_budget_wins(tmp_path: Path) -> None:
    wide = resolve_settings({"arch": "cnn-small", "width": 80}, environ={}).settings
    assert (wide.network, wide.max_params) == ({"width": 80}, None)
    config = written(tmp_path / "c.json", '{"model": {"arch": "cnn-small", "width": 73}}')
    replayed = written(tmp_path / "d.json", '{"recipe": "cnn-small", "model": {"width": 73}}')
    in_environ = {"MNIST_ARCH": "cnn-small", "MNIST_WIDTH": "73"}
    for file, environ in ((config, {}), (replayed, {}), (None, in_environ)):
        small = resolve_settings({"max_params": 2000}, config=file, environ=environ).settings
        assert (fit_budget(small).network, small.max_params) == ({"width": 30}, 2000)
        narrow = resolve_settings({"width": 18}, config=file, environ=environ).settings
        assert (narrow.network, narrow.max_params) == ({"width": 18}, None)
    both = resolve_settings(
        {"arch": "cnn-small", "width": 80, "max_params": 8000}, environ={}
    ).settings
    with pytest.raises(GateError, match="more than 8,000"):
        fit_budget(both)


@pytest.mark.parametrize(
    ("name", "near"),
    {
        "MNIST_EPOCH": "MNIST_EPOCHS",
        "MNIST_BATCHSIZE": "MNIST_BATCH_SIZE",
        "MNIST_DATADIR": "MNIST_DATA_DIR",
        "MNIST_SEEDS": "--seeds",
        "MNIST_FOLDS": "--folds",
        "MNIST_EPOCHS": None,
        "MNIST_DATA_DIR": None,
        "MNIST_MODELS": None,
        "MNIST_AUGMENTATIONS": None,
        "MNIST_ROOT": None,
        "MNIST": None,
        "EPOCHS": None,
    }.items(),
)
def test_nearly_a_variable_of_a_setting(name: str, near: str | None) -> None:
    assert misspelled_variables({name: "7"}) == ({name: near} if near else {})


STRONGER, MILD = (
    Augmentation(rotate_degrees=12, scale_fraction=0.15, shear_degrees=8, shift_px=2),
    Augmentation(rotate_degrees=5, scale_fraction=0.05, shear_degrees=3, shift_px=1),
)


@pytest.mark.parametrize(
    ("size", "epochs", "lr", "augmentation", "source"),
    [
        ({"max_params": 10**9}, 30, 0.015, STRONGER, ""),
        ({"max_params": 8000}, 30, 0.015, STRONGER, ""),
        ({"max_params": 5200}, 30, 0.015, STRONGER, ""),
        ({"max_params": 5001}, 36, 0.02, STRONGER, ", width up to 55"),
        ({"width": 55}, 36, 0.02, STRONGER, ", width up to 55"),
        ({"max_params": 2001}, 64, 0.035, Augmentation(), ", width up to 30"),
        ({"width": 30, "max_params": 8000}, 64, 0.035, Augmentation(), ", width up to 30"),
        ({"max_params": 1001}, 90, 0.06, MILD, ", width up to 18"),
        ({"width": 1}, 90, 0.06, MILD, ", width up to 18"),
    ],
)
def test_a_smaller_network_trains_longer_in_larger_steps(
    size: dict[str, int], epochs: int, lr: float, augmentation: Augmentation, source: str
) -> None:
    resolved = resolve_settings({"arch": "cnn-small", **size}, environ={})
    chosen = resolved.settings
    assert (chosen.epochs, chosen.lr, chosen.augmentation) == (epochs, lr, augmentation)
    for name in ("epochs", "lr"):
        assert resolved.sources[name] == f"recipe cnn-small{source}"
    assert resolved.sources["batch_size"] == "recipe cnn-small"


def test_a_size_alone_is_the_only_change_to_a_recipe() -> None:
    assert changes_from_recipe(flagged(width=18)) == {"width": 18}
    small = fit_budget(flagged(max_params=1000, epochs=9))
    assert changes_from_recipe(small) == {"width": 18, "epochs": 9}


def test_the_widest_that_may_be_asked_for_can_be_read_back() -> None:
    largest = fit_budget(flagged(max_params=10**9))
    assert TrainSettings.model_validate_json(largest.model_dump_json()) == largest


def test_only_the_recipes_own_settings_follow_the_size(tmp_path: Path) -> None:
    assert flagged(max_params=2000, epochs=9).epochs == 9
    config = written(tmp_path / "c.toml", "epochs = 7\n[augmentation]\nshift_px = 3\n")
    resolved = resolve_settings({"max_params": 1000}, config=config, environ={})
    mine = resolved.settings
    assert (mine.epochs, mine.augmentation.shift_px) == (7, 3)
    assert mine.augmentation.rotate_degrees == 5
    assert resolved.sources["augmentation.shift_px"] == str(config)
    others = resolved.sources["augmentation.rotate_degrees"]
    assert others == "recipe cnn-small, width up to 18"
    assert (
        resolve_settings({}, config=config, environ={}).settings.augmentation.rotate_degrees == 12
    )
    assert resolve_settings({}, environ={"MNIST_MAX_PARAMS": "2000"}).settings.epochs == 64
    assert flagged(recipe="cnn-26k", max_params=30_000).epochs == 10


def test_a_file_with_another_recipes_network_is_refused(tmp_path: Path) -> None:
    config = written(tmp_path / "c.json", '{"recipe": "mlp-50-50", "model": {"hidden": [9]}}')
    error = refused({"recipe": "cnn-26k"}, config=config)
    assert error.what == f"{config} is for the recipe mlp-50-50, not cnn-26k."
    assert resolve_settings({}, config=config, environ={}).settings.network["hidden"] == (9,)


def test_the_recipe_and_the_architecture_have_a_source() -> None:
    sources = resolve_settings({"recipe": "cnn-26k"}, environ={"MNIST_ARCH": "mlp"}).sources
    assert (sources["recipe"], sources["arch"]) == ("flag", "flag")
    assert resolve_settings({}, environ={}).sources["recipe"] == "default"


def test_an_architecture_keeps_the_recipe_of_a_weaker_layer_if_it_fits() -> None:
    settings = resolve_settings({"arch": "cnn"}, environ={"MNIST_RECIPE": "cnn-15k"}).settings
    assert settings.recipe == "cnn-15k"


@pytest.mark.parametrize("text", ["\ufeff{}", "[" * 100_000])
def test_odd_json_is_read_or_refused(tmp_path: Path, text: str) -> None:
    config = written(tmp_path / "c.json", text)
    if text.endswith("{}"):
        assert resolve_settings({}, config=config, environ={}).settings.recipe == "cnn-small"
    else:
        assert "is broken" in refused({}, config=config).what


def test_yaml_is_no_settings_file(tmp_path: Path) -> None:
    error = refused({}, config=written(tmp_path / "c.yaml", "epochs: 3"))
    assert ".json and .toml" in error.why


@pytest.mark.parametrize(
    "value", ["0x" + "f" * 9000, "[" * 400 + "]" * 400, "{a=" * 90 + "1" + "}" * 90]
)
@pytest.mark.parametrize("name", ["lr", "recipe", "arch", "hidden", "unheard_of"])
def test_a_value_that_python_cannot_write_is_refused(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "x.toml").write_text(f"{name} = {value}")
    with pytest.raises(SettingsError) as refused:
        resolve_settings({}, config=tmp_path / "x.toml", environ={})
    assert len(refused.value.what + refused.value.why) < 1000


@pytest.mark.parametrize("name", ["lr", "recipe", "a"])
def test_a_key_of_thousands_of_parts_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.toml").write_text(".".join([name] * 4000) + " = 1")
    with pytest.raises(SettingsError):
        resolve_settings({}, config=tmp_path / "x.toml", environ={})


def test_a_file_longer_than_any_settings_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to("/dev/zero")
    with pytest.raises(SettingsError, match="broken") as refused:
        read_config(tmp_path / "x.json")
    assert "16,384 characters" in refused.value.why


def test_a_model_in_a_model_is_refused(tmp_path: Path) -> None:
    inner = {"arch": "mlp", "hidden": [5], "dropout": 0.0}
    (tmp_path / "x.json").write_text(json.dumps({"model": {"model": inner}}))
    with pytest.raises(SettingsError, match="a model in its model"):
        resolve_settings({}, config=tmp_path / "x.json", environ={})


def test_a_message_stays_short(tmp_path: Path) -> None:
    for values in ({"recipe": "x" * 9000}, {"y" * 9000: 1}, {f"key{n}": 1 for n in range(999)}):
        (tmp_path / "x.json").write_text(json.dumps(values))
        with pytest.raises(SettingsError) as refused:
            resolve_settings({}, config=tmp_path / "x.json", environ={})
        assert len(refused.value.what + refused.value.why) < 2500


def test_the_number_of_wrong_settings_is_told_where_not_all_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({f"key{n}": 1 for n in range(999)}))
    with pytest.raises(SettingsError, match="999 settings are wrong") as refused:
        resolve_settings({}, config=tmp_path / "x.json", environ={})
    assert refused.value.why.endswith("… and 979 more.")
