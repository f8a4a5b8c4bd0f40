"""Validation of settings: one line for every invalid one, under the name it was given by."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mnistcli.config.dataset_names import KNOWN_DATASETS
from mnistcli.config.settings import MODEL_FIELDS, MODELS, NESTED_SETTINGS, TrainSettings
from mnistcli.errors import SettingsError, shorten, suggest_name, unknown_name

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
    value = value_as_text(problem["input"])
    given = value if len(value) <= 40 else f"{value[:40]}…"
    return f"{label}: {_rule(problem)}, not {given}. {_suggest_value(name, problem)}".rstrip()


_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")
# What a value has to be, by pydantic's name of the problem; {…} is a bound in its context.
_RULES = {
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float", "int_parsing_size"),
        "should be a whole number",
    ),
    **dict.fromkeys(("float_parsing", "float_type"), "should be a number"),
    "finite_number": "should be a finite number",
    **dict.fromkeys(("bool_parsing", "bool_type"), "should be true or false"),
    "string_type": "should be text",
    "tuple_type": "should be a list",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "should be a table"),
    "greater_than_equal": "should be at least {ge}",
    "greater_than": "should be more than {gt}",
    "less_than_equal": "should be at most {le}",
    "less_than": "should be less than {lt}",
    "too_short": "should have at least {min_length} value",
    "too_long": "should have at most {max_length} values",
    "string_too_short": "should have at least {min_length} character",
    "string_too_long": "should have at most {max_length} characters",
}


def _rule(problem: Any) -> str:
    """What the value of one of pydantic's errors should be."""
    if problem["type"] == "literal_error":
        return f"should be {problem['ctx']['expected'].replace(chr(39), '')}"
    if rule := _RULES.get(problem["type"]):
        bounds = {
            key: f"{value:.12g}" for key, value in problem.get("ctx", {}).items() if key in _BOUNDS
        }
        return rule.format(**bounds)
    message: str = problem["msg"]
    return message.removeprefix("Value error, ").removeprefix("Input ")


def _suggest_value(name: str, problem: Any) -> str:
    """What was probably meant by a value: the nearest name, or a fraction as a percentage."""
    value = problem["input"]
    if problem["type"] == "literal_error" and isinstance(value, str):
        names = problem["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return suggest_name(shorten(value), names)
    if name == "dataset" and isinstance(value, str):
        return suggest_name(shorten(value), KNOWN_DATASETS)
    if name == "until" and problem["type"] == "greater_than_equal" and 0 < float(value) < 1:
        return f"Did you mean {100 * float(value):g}? It is in percent."
    return ""


def _explain_unknown(name: str, arch: str) -> str:
    if name in MODEL_FIELDS:
        archs = [each for each in MODELS if name in MODELS[each].model_fields]
        return (
            f"the architecture {arch} does not have this setting. "
            f"It belongs to {', '.join(archs)}: --arch {archs[0]}"
        )
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
    """The first problem pydantic found in a record, and where: "settings.lr: should be …"."""
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    return shorten(f"{place}: {_rule(problem)}" if place else _rule(problem))
