"""Settings from outside the command line: a file (`--config`) and `MNIST_*` variables."""

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mnistcli.config.settings import MODEL_FIELDS, NESTED_SETTINGS, TrainSettings
from mnistcli.errors import SettingsError, shorten

# Characters of a settings file; a run's has 1,000. Longer keys would take TOML's reader minutes.
MAX_CONFIG_CHARACTERS = 16_384
_SEE_A_RUN = "The settings.json of any run shows the format."
# Not settings of one run, so that variables cannot set them.
_FLAGS_ONLY = {"MNIST_SEEDS": "--seeds", "MNIST_FOLDS": "--folds"}


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a JSON or TOML file, those of its `model` table among the others.

    Raises:
        SettingsError: the file cannot be read, is malformed, or is not a table.
    """
    if path.is_file() and path.suffix not in (".json", ".toml"):
        raise SettingsError(
            f"{path} is neither a .json nor a .toml file.",
            why="Settings are read from these two formats.",
            fix=_SEE_A_RUN,
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
    # ValueError includes JSONDecodeError, TOMLDecodeError and UnicodeDecodeError.
    except (ValueError, RecursionError) as error:
        raise _malformed(path, shorten(error)) from error
    if not isinstance(values, dict):
        raise _malformed(path, f"It contains a {type(values).__name__} instead of a table")
    model = values.pop("model", {})
    if isinstance(model, dict) and "model" in model:
        raise _malformed(path, "Its model table contains another model")
    if isinstance(model, dict) and model.get("arch") == "cnn-small" and model.get("width"):
        # A run from before these were settings had these kernels.
        model = {"kernel_size": 3, "depthwise": 1, **model}
    return {**values, **(model if isinstance(model, dict) else {"model": model})}


def _malformed(path: Path, why: str) -> SettingsError:
    return SettingsError(f"The settings file {path} is malformed.", why=f"{why}.", fix=_SEE_A_RUN)


def _read_text(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(MAX_CONFIG_CHARACTERS + 1)
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise ValueError(f"It has more than {MAX_CONFIG_CHARACTERS:,} characters")
    return text


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings in `MNIST_*` variables; an empty variable sets nothing."""
    return {
        name: environ[variable] for variable, name in _variables().items() if environ.get(variable)
    }


def misspelled_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """`MNIST_*` variables that set nothing, with the variable or flag probably meant."""
    known = {"MNIST_DATA_DIR", *_variables()}
    settable = sorted(known - {f"MNIST_{name.upper()}" for name in ("model", *NESTED_SETTINGS)})
    meant = {name: flag for name, flag in _FLAGS_ONLY.items() if name in environ}
    for name in sorted(environ.keys() - known - meant.keys()):
        if name.startswith("MNIST_") and (near := get_close_matches(name, settable, 1, 0.9)):
            meant[name] = near[0]
    return meant


def _variables() -> dict[str, str]:
    """The settings that variables set, by the variables' names."""
    names = [*TrainSettings.model_fields, "arch", *MODEL_FIELDS]
    return {f"MNIST_{name.upper()}": name for name in names}
