"""Validation of settings, with a line for every invalid one."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import (
    ValidationError,
)
from pydantic.fields import FieldInfo

from mnistcli.config.settings import MODEL_FIELDS, MODELS, NESTED_SETTINGS, TrainSettings
from mnistcli.errors import SettingsError, shorten, unknown_name

# Wrong settings that a message names.
MAX_PROBLEM_LINES = 20


def validate_settings(values: Mapping[str, Any], sources: Mapping[str, str]) -> TrainSettings:
    model = {name: values[name] for name in ("arch", *MODEL_FIELDS) if name in values}
    rest = {name: value for name, value in values.items() if name not in model}
    try:
        return TrainSettings.model_validate({"model": model, **rest})
    except ValidationError as error:
        lines = [_explain(problem, values["arch"], sources) for problem in error.errors()]
        count = "A setting is" if len(lines) == 1 else f"{len(lines)} settings are"
        if len(lines) > MAX_PROBLEM_LINES:
            lines[MAX_PROBLEM_LINES:] = [f"… and {len(lines) - MAX_PROBLEM_LINES} more."]
        raise SettingsError(
            f"{count} wrong.",
            why="\n".join(lines),
            fix="mnist train --help lists every setting.",
        ) from None  # it says all that pydantic's error does


def _explain(problem: Any, arch: str, sources: Mapping[str, str]) -> str:
    """One line for one thing pydantic found wrong: the field, what is wrong, what is right."""
    path = problem["loc"]
    if not path:
        return f"{problem['msg'].removeprefix('Value error, ')}."
    if path[0] == "model" and len(path) > 1:
        path = path[2:]  # ("model", its architecture, the field)
    name = ".".join(part for part in path if isinstance(part, str))
    label = setting_label(name, sources.get(path[0], ""))
    if problem["type"] == "extra_forbidden":
        return f"{label}: {_unknown(name, arch)}"
    if problem["type"] == "missing":
        return f"{label}: {arch} needs it."
    given = value_as_text(problem["input"])
    shown = given if len(given) <= 40 else f"{given[:40]}…"
    return f"{label}: {shown} will not do; it must be {_bounds(name, arch) or problem['msg']}."


def value_as_text(value: object) -> str:
    """A value of any file, as text: one that has no end, or is too long to write, by its kind."""
    try:
        return str(value)
    # Tables in tables in tables; a number of more digits than Python writes.
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a record, and where: "settings.lr: Input should …"."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    return shorten(f"{place}: {problem['msg']}" if place else problem["msg"])


def setting_label(name: str, source: str) -> str:
    name = shorten(name)
    if source == "flag":
        return f"--{name.replace('_', '-')}"
    if source == "environment":
        return f"MNIST_{name.upper()}"
    return f"{name} (in {source})" if source else name


def _unknown(name: str, arch: str) -> str:
    if name in MODEL_FIELDS:
        return f"the architecture {arch} has no such setting."
    return f"no such setting. {unknown_name('setting', name, {*_fields(arch), *MODEL_FIELDS}).fix}"


def _fields(arch: str) -> dict[str, FieldInfo]:
    """All settings by name, those of one architecture and of nested tables among them."""
    nested = {
        f"{table}.{name}": field
        for table, model in NESTED_SETTINGS.items()
        for name, field in model.model_fields.items()
    }
    return MODELS[arch].model_fields | TrainSettings.model_fields | nested


def _bounds(name: str, arch: str) -> str:
    """What a field takes, in words: "a whole number from 1 to 10,000"."""
    field = _fields(arch).get(name)
    if field is None:
        return ""
    if name in ("hidden", "channels"):
        at_least = "1 to 32" if name == "channels" else "up to 32"
        return f"{at_least} whole numbers from 1 to 65,536"
    if name in ("model", *NESTED_SETTINGS):
        return "a table of settings"
    if get_origin(field.annotation) is Literal:
        return f"one of {', '.join(get_args(field.annotation))}"
    if field.annotation is bool:
        return "true or false"
    is_whole = field.annotation in (int, int | None)
    kind = "a whole number" if is_whole else "a number"
    limits = {
        key: value
        for constraint in field.metadata
        for key in ("ge", "gt", "le", "lt")
        if (value := getattr(constraint, key, None)) is not None
    }
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return f"{kind} {' and '.join(f'{words[key]} {value:,}' for key, value in limits.items())}"
