"""Settings resolved: defaults < recipe < file < environment < flags, and the parameter budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistcli.config.recipes import DEFAULT_RECIPE, RECIPES, Recipe, get_recipe
from mnistcli.config.settings import MODEL_FIELDS, NESTED_SETTINGS, RETIRED, TrainSettings
from mnistcli.config.sources import read_config, read_environment
from mnistcli.config.validate import setting_label, validate_settings, value_as_text
from mnistcli.errors import GateError, SettingsError
from mnistcli.models.registry import count_parameters, get_architecture, widest_fitting

# Settings that may change when a run is resumed: how long it trains, and on what.
RESUMABLE = ("epochs", "until", "device", "precision")
# The learning rate of a run that starts from trained weights, as a share of its recipe's.
FINE_TUNING_LR = 0.1

# A source of settings and what it sets.
Layer = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Resolved:
    """Settings and, for each that is not a built-in default, where its value came from.

    A source is "recipe cnn-small", "environment", "flag" or the path of a file. Fields of a
    table have sources of their own ("augmentation.shift_px"); the table's is that of its
    strongest field.
    """

    settings: TrainSettings
    sources: Mapping[str, str]


def resolve_settings(
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    base: Layer | None = None,
    environ: Mapping[str, str],
    flags_source: str = "flag",
) -> Resolved:
    """Resolve built-in defaults < recipe < base < config file < `MNIST_*` variables < flags.

    Args:
        flags: only those that were given; `arch` alone picks the architecture's default recipe.
        config: a JSON or TOML file.
        base: settings that the sources above replace, and where they come from.
        environ: usually `os.environ`.
        flags_source: "flag" if messages should say `--batch-size`, "" if `batch_size`.

    Raises:
        SettingsError: an unknown name or setting, or an invalid value; a line for each.
        GateError: `max_params` is below the smallest network of the architecture.
    """
    for name in RETIRED & flags.keys():  # in files they are ignored
        raise SettingsError(f"{name} is no longer a setting.", fix="Leave it out.")
    in_file = read_config(config) if config else {}
    given: list[Layer] = [  # strongest first
        (flags_source, flags),
        ("environment", read_environment(environ)),
        (str(config), in_file),
        *([base] if base else []),
    ]
    recipe, recipe_source = _pick_recipe(given)
    _check_same_network(recipe, in_file, file=str(config), source=recipe_source)
    of_recipe = (f"recipe {recipe.name}", {**recipe.training, **recipe.model})
    # What a recipe changes may change the width that fits the budget: the first step that suits
    # its own network applies.
    for size in sorted(recipe.by_size):
        setting = get_architecture(recipe.arch).budget_setting
        changes = (f"recipe {recipe.name}, {setting} up to {size}", recipe.by_size[size])
        resolved = _combine([*given, changes, of_recipe], recipe, recipe_source)
        if network_size(resolved.settings) <= size:
            return resolved
    resolved = _combine([*given, of_recipe], recipe, recipe_source)
    dataset = resolved.settings.dataset
    if dataset not in recipe.by_dataset:
        return resolved
    changes = (f"recipe {recipe.name}, dataset {dataset}", recipe.by_dataset[dataset])
    return _combine([*given, changes, of_recipe], recipe, recipe_source)


def fine_tuning_settings(start: TrainSettings) -> dict[str, Any]:
    """The network of `start`, its recipe, and a learning rate of a tenth of the recipe's.

    Weights that are nearly right would be lost in large steps.
    """
    network = start.model.model_dump(mode="json")
    if start.recipe in RECIPES:
        network["recipe"] = start.recipe
    lr = resolve_settings(network, environ={}).settings.lr
    return {**network, "lr": lr * FINE_TUNING_LR}


def _combine(layers: Sequence[Layer], recipe: Recipe, recipe_source: str) -> Resolved:
    values, sources = _merge_layers(layers)
    for name, value in (("recipe", recipe.name), ("arch", recipe.arch)):
        values[name], sources[name] = value, recipe_source
    _drop_weaker_size(values, sources, order=[source for source, _ in layers])
    if sources.get("own_data") != sources.get("dataset"):  # what a file records of other data
        for table in (values, sources):
            table.pop("own_data", None)
    return Resolved(validate_settings(values, sources), sources)


def _merge_layers(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of all layers (strongest first) and their sources; tables merge field by field."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in reversed(layers):
        for name, value in layer.items():
            weaker = values.get(name)
            sources[name] = source
            if name in NESTED_SETTINGS and isinstance(value, Mapping):
                values[name] = {**(weaker if isinstance(weaker, Mapping) else {}), **value}
                sources.update({f"{name}.{key}": source for key in value})
            else:
                values[name] = value
    return values, sources


def _drop_weaker_size(values: dict[str, Any], sources: dict[str, str], *, order: list[str]) -> None:
    """Of a width and a budget from different sources, drop the weaker one.

    A width on the command line is not bound by the recipe's budget, nor a budget there by the
    width in a replayed settings file.
    """
    width = get_architecture(values["arch"]).budget_setting
    if width in values and "max_params" in values and sources[width] != sources["max_params"]:
        weaker = max((width, "max_params"), key=lambda name: order.index(sources[name]))
        del values[weaker], sources[weaker]


def _pick_recipe(layers: Sequence[Layer]) -> tuple[Recipe, str]:
    """The recipe and where it comes from: the strongest layer that names one or an architecture.

    Where that layer names only an architecture, a weaker layer's recipe counts if it is of that
    architecture.
    """
    arch, arch_source = None, "default"
    for source, layer in layers:
        names = {
            key: value_as_text(layer[key])
            for key in ("recipe", "arch")
            if layer.get(key) is not None
        }
        named_arch = get_architecture(names["arch"]) if "arch" in names else None
        recipe = get_recipe(names["recipe"]) if "recipe" in names else None
        if named_arch and recipe and recipe.arch != named_arch.name:
            raise SettingsError(
                f"The recipe {recipe.name} is not for {named_arch.name}.",
                why=f"It trains the architecture {recipe.arch}.",
                fix=f"Leave out --arch, or use --recipe {named_arch.default_recipe}",
            )
        if recipe and (arch is None or arch.name == recipe.arch):
            return recipe, source if arch is None else arch_source
        if named_arch and arch is None:
            arch, arch_source = named_arch, source
    return get_recipe(arch.default_recipe if arch else DEFAULT_RECIPE), arch_source


def _check_same_network(
    recipe: Recipe, in_file: Mapping[str, Any], *, file: str, source: str
) -> None:
    """Refuse a settings file that describes the network of another recipe or architecture."""
    if not any(name in in_file for name in MODEL_FIELDS):
        return
    for key, value in (("recipe", recipe.name), ("arch", recipe.arch)):
        if in_file.get(key) is not None and in_file[key] != value:
            label = setting_label(key, source)
            raise SettingsError(
                f"{file} is for the {key} {in_file[key]}, not {value}.",
                why=f"It describes a network of {in_file[key]}, and {label} asks for another.",
                fix=f"Leave out --config or {label}.",
            )


def resumed_settings(before: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """The settings of a resumed run, with `changes` to RESUMABLE ones.

    Raises:
        SettingsError: another setting would change, or a value is invalid.
    """
    for name in changes:
        # A user's own data set may have been moved; its digest tells whether it is the same.
        if name not in RESUMABLE and not (name == "dataset" and before.own_data):
            label = setting_label(name, "flag")
            raise SettingsError(
                f"{label} cannot be used with --resume.",
                why="A resumed run keeps its settings; only "
                f"{', '.join(f'--{each}' for each in RESUMABLE)} may change.",
                fix=f"Leave out {label}, or start a new run with --config RUN/settings.json",
            )
    values = before.model_dump()
    values.update(values.pop("model"))
    return validate_settings({**values, **changes}, dict.fromkeys(changes, "flag"))


def network_size(settings: TrainSettings) -> int:
    """The network's `budget_setting` (its width): as set, or the largest that fits `max_params`."""
    name = get_architecture(settings.arch).budget_setting
    assert name is not None
    size: int | None = getattr(settings.model, name)
    if size is None:
        assert settings.max_params is not None
        others = {key: value for key, value in settings.network.items() if key != name}
        return widest_fitting(settings.arch, settings.max_params, **others)
    return size


def fit_budget(settings: TrainSettings) -> TrainSettings:
    """The settings with the width that the budget allows filled in.

    Raises:
        GateError: the network has more than `max_params` parameters.
    """
    model, budget = settings.model, settings.max_params
    if budget is None:
        return settings
    width = get_architecture(settings.arch).budget_setting
    if width and getattr(model, width) is None:
        filled_in = model.model_copy(update={width: network_size(settings)})
        return settings.model_copy(update={"model": filled_in})
    num_params = count_parameters(settings.arch, settings.network)
    if num_params > budget:
        smaller = f"Leave out --{width}" if width else "Use --arch cnn-small"
        raise GateError(
            f"{settings.recipe} has {num_params:,} parameters, more than {budget:,}.",
            why="Its settings fix its size.",
            fix=f"{smaller}, or raise the budget: --max-params {num_params}",
        )
    return settings
