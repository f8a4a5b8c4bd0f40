"""Validation of settings: one line for every invalid one, under the name it was given by."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mnistcli.config.settings import MODEL_FIELDS, MODELS, NESTED_SETTINGS, TrainSettings
from mnistcli.errors import SettingsError, shorten, unknown_name

# Invalid settings that a message lists.
MAX_PROBLEM_LINES = 20


def validate_settings(values: Mapping[str, Any], sources: Mapping[str, str]) -> TrainSettings:
    """The settings with these values; the model's are among the others, `arch` is one of them.

    Raises:
        SettingsError: a value is invalid; its `why` has a line for each, which says where the
            value came from (`sources`).
    """
    model = {name: values[name] for name in ("arch", *MODEL_FIELDS) if name in values}
    rest = {name: value for name, value in values.items() if name not in model}
    try:
        return TrainSettings.model_validate({"model": model, **rest})
    except ValidationError as error:
        problems = error.errors()
        lines = [
            _explain(problem, values["arch"], sources) for problem in problems[:MAX_PROBLEM_LINES]
        ]
        if len(problems) > MAX_PROBLEM_LINES:
            lines.append(f"… and {len(problems) - MAX_PROBLEM_LINES} more.")
        is_single = len(problems) == 1
        raise SettingsError(
            "A setting is invalid." if is_single else f"{len(problems)} settings are invalid.",
            why="\n".join(lines),
            fix="mnist train --help lists every setting.",
        ) from None  # it says all that pydantic's error does


def _explain(problem: Any, arch: str, sources: Mapping[str, str]) -> str:
    """One line for one of pydantic's errors: the setting, what it must be, what was given."""
    path = problem["loc"]
    if not path:  # a combination of settings
        return f"{problem['msg'].removeprefix('Value error, ')}."
    if path[0] == "model" and len(path) > 1:
        path = path[2:]  # ("model", its architecture, the field)
    name = ".".join(part for part in path if isinstance(part, str))
    label = setting_label(name, sources.get(path[0], ""))
    if problem["type"] == "extra_forbidden":
        return f"{label}: {_explain_unknown(name, arch)}"
    if problem["type"] == "missing":
        return f"{label}: {arch} needs it."
    rule = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = value_as_text(problem["input"])
    return f"{label}: {rule}, not {value if len(value) <= 40 else f'{value[:40]}…'}."


def _explain_unknown(name: str, arch: str) -> str:
    if name in MODEL_FIELDS:
        return f"the architecture {arch} does not have this setting."
    nested = [
        f"{table}.{field}"
        for table, model in NESTED_SETTINGS.items()
        for field in model.model_fields
    ]
    known = {*MODELS[arch].model_fields, *TrainSettings.model_fields, *MODEL_FIELDS, *nested}
    return f"unknown setting. {unknown_name('setting', name, known).fix}"


def value_as_text(value: object) -> str:
    """A value from a file as text; by its type if it is endless or too long to convert."""
    try:
        return str(value)
    # Endlessly nested tables; a number with more digits than Python converts.
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


def setting_label(name: str, source: str) -> str:
    """The name of a setting where it was given, such as "--batch-size" or "MNIST_BATCH_SIZE"."""
    name = shorten(name)
    if source == "flag":
        return f"--{name.replace('_', '-')}"
    if source == "environment":
        return f"MNIST_{name.upper()}"
    return f"{name} (in {source})" if source else name


def first_problem(error: ValidationError) -> str:
    """The first problem pydantic found in a record, and where: "settings.lr: Input should …"."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    return shorten(f"{place}: {problem['msg']}" if place else problem["msg"])
