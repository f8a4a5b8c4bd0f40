"""Settings from defaults, a recipe, a file, the environment and flags."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mnistcli.config.recipes import DEFAULT_RECIPE, Recipe, get_recipe
from mnistcli.config.settings import MODEL_FIELDS, NESTED_SETTINGS, TrainSettings
from mnistcli.config.validate import setting_label, validate_settings, value_as_text
from mnistcli.errors import GateError, SettingsError, shorten
from mnistcli.models.registry import count_parameters, get_architecture, widest_fitting

# Characters of a settings file; a run's has 1,000. Longer keys would take TOML's reader minutes.
MAX_CONFIG_CHARACTERS = 16_384


@dataclass(frozen=True)
class Resolved:
    """Settings and, for every field that is not a built-in default, where its value came from.

    For a table that is where its strongest field did; each field has a source
    of its own too, as "augmentation.shift_px". A source reads "recipe cnn-small",
    "environment", "flag" or the path of a file.
    """

    settings: TrainSettings
    sources: Mapping[str, str]


def resolve_settings(
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
    given_as: str = "flag",
) -> Resolved:
    """Built-in defaults < recipe < config file < `MNIST_*` environment < flags.

    The recipe's training may depend on the size of the network, so that is
    found first. `flags` holds only what was given; its key `arch` picks the architecture's
    default recipe. `environ` is usually `os.environ`. Given as "flag", a setting
    is called `--batch-size` in messages; given as "" it is `batch_size`.

    Raises:
        SettingsError: an unknown name, key or value; one line a field.
        GateError: `max_params` is below the smallest network of the architecture.
    """
    in_file = read_config(config) if config else {}
    # Strongest first.
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (given_as, flags),
        ("environment", _read_environ(environ)),
        (str(config), in_file),
    ]
    recipe, recipe_source = _pick_recipe(layers)
    _check_same_network(recipe, in_file, file=str(config), source=recipe_source)
    named = {"recipe": recipe.name, "arch": recipe.arch}

    def combined() -> Resolved:
        values, sources = _merge_layers(layers)
        values.update(named)
        sources.update(dict.fromkeys(named, recipe_source))
        _drop_weaker_size(values, sources, order=[source for source, _ in layers])
        return Resolved(validate_settings(values, sources), sources)

    own = f"recipe {recipe.name}"
    layers.append((own, {**recipe.training, **recipe.model}))
    resolved = combined()
    step = recipe.step(network_size(resolved.settings)) if recipe.by_size else None
    if step is None:
        return resolved
    width = get_architecture(recipe.arch).budget_setting
    layers.insert(-1, (f"{own}, {width} up to {step}", recipe.by_size[step]))
    return combined()


def _merge_layers(
    layers: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[dict[str, Any], dict[str, str]]:
    """What layers, the strongest first, say together, tables field by field; and which say it."""
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


def network_size(settings: TrainSettings) -> int:
    """The network's `budget_setting`: as it is set, or the largest that fits `max_params`."""
    name = get_architecture(settings.arch).budget_setting
    assert name is not None
    size: int | None = getattr(settings.model, name)
    if size is None:
        assert settings.max_params is not None
        return widest_fitting(settings.arch, settings.max_params)
    return size


# What may change when a run goes on: how far, and on what it is computed.
RESUMABLE = ("epochs", "until", "device", "precision")


def resumed_settings(before: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """The settings of a run that goes on, with `changes` of CHANGEABLE ones.

    Raises:
        SettingsError: another setting is to change, or a value is wrong.
    """
    for name in changes:
        if name not in RESUMABLE:
            label = setting_label(name, "flag")
            raise SettingsError(
                f"{label} cannot be used with --resume.",
                why="A resumed run keeps its settings; only "
                f"{', '.join(f'--{each}' for each in RESUMABLE)} may change.",
                fix=f"Leave out {label}, or begin a new run with --config RUN/settings.json",
            )
    values = before.model_dump()
    values.update(values.pop("model"))
    return validate_settings({**values, **changes}, dict.fromkeys(changes, "flag"))


def _drop_weaker_size(values: dict[str, Any], sources: dict[str, str], *, order: list[str]) -> None:
    """Of a width and a budget that come from different places, keep the stronger one's.

    A width on the command line is not bound by the recipe's budget, and a
    budget there is not bound by the width that a replayed run was given.
    """
    width = get_architecture(values["arch"]).budget_setting
    if width in values and "max_params" in values and sources[width] != sources["max_params"]:
        weaker = max((width, "max_params"), key=lambda name: order.index(sources[name]))
        del values[weaker], sources[weaker]


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a JSON or TOML file, the keys of its `model` table among the others.

    Raises:
        SettingsError: the file cannot be read, is broken, or holds no table.
    """
    if path.is_file() and path.suffix not in (".json", ".toml"):
        raise SettingsError(
            f"Cannot tell what {path} is.",
            why="Settings are read from .json and .toml files.",
            fix="Give --config such a file; the settings.json of any run shows the form.",
        )
    try:
        text = _read_text(path)
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SettingsError(
            f"Cannot read the settings file {path}.",
            why=f"{error.strerror}.",
            fix="Give --config a JSON or TOML file, such as the settings.json of a run.",
        ) from error
    # ValueError: also JSONDecodeError, TOMLDecodeError, UnicodeDecodeError.
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"The settings file {path} is broken.",
            why=f"{shorten(error)}.",
            fix="Mend the file; the settings.json of any run shows the form.",
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"The settings file {path} holds no settings.",
            why=f"It holds a {type(values).__name__} where a table of names and values belongs.",
            fix="The settings.json of any run shows the form.",
        )
    model = values.pop("model", {})
    if isinstance(model, dict) and "model" in model:
        raise SettingsError(
            f"The settings file {path} has a model in its model.",
            why="A network is described by one table.",
            fix="Mend the file; the settings.json of any run shows the form.",
        )
    return {**values, **(model if isinstance(model, dict) else {"model": model})}


def _read_text(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(MAX_CONFIG_CHARACTERS + 1)
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise ValueError(f"It has more than {MAX_CONFIG_CHARACTERS:,} characters")
    return text


# What several runs are made by is no setting of one.
_ONLY_FLAGS = {"MNIST_SEEDS": "--seeds", "MNIST_FOLDS": "--folds"}


def misspelled_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that set nothing but are nearly called as one that does, with that.

    Of those that only a flag can say, the flag.
    """
    known = {"MNIST_DATA_DIR", *_variables()}
    settable = sorted(known - {f"MNIST_{name.upper()}" for name in ("model", *NESTED_SETTINGS)})
    found = {name: flag for name, flag in _ONLY_FLAGS.items() if name in environ}
    for name in sorted(environ.keys() - known - found.keys()):
        if name.startswith("MNIST_") and (near := get_close_matches(name, settable, 1, 0.9)):
            found[name] = near[0]
    return found


def _variables() -> dict[str, str]:
    """The settings that environment variables set, by the names of these."""
    names = [*TrainSettings.model_fields, "arch", *MODEL_FIELDS]
    return {f"MNIST_{name.upper()}": name for name in names}


def _read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: environ[variable] for variable, name in _variables().items() if environ.get(variable)
    }


def _pick_recipe(
    layers: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[Recipe, str]:
    """The recipe of the strongest layer that names a recipe or an architecture; and the layer.

    A recipe of a weaker layer counts if it is of the architecture wanted.
    """
    wanted, wanted_by = None, "default"
    for source, layer in layers:
        named = {
            key: value_as_text(layer[key])
            for key in ("recipe", "arch")
            if layer.get(key) is not None
        }
        arch = get_architecture(named["arch"]) if "arch" in named else None
        recipe = get_recipe(named["recipe"]) if "recipe" in named else None
        if arch and recipe and recipe.arch != arch.name:
            raise SettingsError(
                f"The recipe {recipe.name} is no {arch.name}.",
                why=f"It trains the architecture {recipe.arch}.",
                fix=f"Leave out --arch, or use --recipe {arch.default_recipe}",
            )
        if recipe and (wanted is None or wanted.name == recipe.arch):
            return recipe, source if wanted is None else wanted_by
        if arch and wanted is None:
            wanted, wanted_by = arch, source
    return get_recipe(wanted.default_recipe if wanted else DEFAULT_RECIPE), wanted_by


def _check_same_network(
    recipe: Recipe, in_file: Mapping[str, Any], *, file: str, source: str
) -> None:
    """Refuse a settings file that describes the network of another recipe or architecture."""
    if not any(name in in_file for name in MODEL_FIELDS):
        return
    for key, value in (("recipe", recipe.name), ("arch", recipe.arch)):
        if in_file.get(key) is not None and in_file[key] != value:
            raise SettingsError(
                f"{file} is for the {key} {in_file[key]}, not {value}.",
                why=f"It describes that one's network, and {setting_label(key, source)} asks for another.",
                fix=f"Leave out --config or {setting_label(key, source)}.",
            )


def fit_budget(settings: TrainSettings) -> TrainSettings:
    """The same settings with the width chosen, or an error if the network is over `max_params`.

    Raises:
        GateError: the network has more parameters than allowed.
    """
    model, budget = settings.model, settings.max_params
    if budget is None:
        return settings
    width = get_architecture(settings.arch).budget_setting
    if width and getattr(model, width) is None:
        chosen = model.model_copy(update={width: network_size(settings)})
        return settings.model_copy(update={"model": chosen})
    num_params = count_parameters(settings.arch, settings.network)
    if num_params > budget:
        raise GateError(
            f"{settings.recipe} has {num_params:,} parameters, more than {budget:,}.",
            why="Its size is fixed by its settings.",
            fix=f"{f'Leave out --{width}' if width else 'Use --arch cnn-small'}, "
            f"or allow more: --max-params {num_params}",
        )
    return settings
