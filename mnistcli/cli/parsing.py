"""How command lines are parsed: lists, the look of help pages, and what wrong usage is answered."""

import re
from collections.abc import Iterable, Mapping
from copy import copy
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mnistcli.config.choices import CorruptionName, DatasetName, DeviceName, PrecisionName, values
from mnistcli.config.recipes import RECIPES
from mnistcli.errors import SettingsError, find_known, unknown_name
from mnistcli.models.registry import ARCHITECTURES

# The base of Typer's errors about usage, which not every version exports.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# The names that list options take; the others take numbers.
_LISTED_NAMES = {
    "arch": tuple(ARCHITECTURES),
    "recipe": tuple(RECIPES),
    "precision": values(PrecisionName),
    "corrupt": (*values(CorruptionName), "all"),
}
# What a word without an option may have been meant for.
_OPTION_OF_NAME: dict[str, Iterable[str]] = {
    "dataset": values(DatasetName),
    "recipe": tuple(RECIPES),
    "arch": tuple(ARCHITECTURES),
    "device": values(DeviceName),
}
# What other programs call these.
_COMMANDS = {
    **dict.fromkeys(("test", "validate", "score"), "eval"),
    **dict.fromkeys(("fit", "learn"), "train"),
    **dict.fromkeys(("read", "infer", "classify", "recognize"), "predict"),
    **dict.fromkeys(("list", "ls", "history"), "runs"),
    **dict.fromkeys(("info", "show", "models", "recipes"), "summary"),
    **dict.fromkeys(("convert", "onnx"), "export"),
}
_OPTIONS = {
    **dict.fromkeys(("--model", "--weights", "--run", "--network"), ("--checkpoint", "--arch")),
    "--learning-rate": ("--lr",),
    "--file": ("--output",),
}


class Group(TyperGroup):
    """The commands; an unknown one is answered with the nearest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args`; raises SettingsError where Typer has an error of its own."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            raise _explain_usage_error(error, ctx) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with, as Typer returns it."""
        name = args[0]
        if name in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        error = unknown_name("command", name, self.commands)
        meant = _COMMANDS.get(name.lower())
        raise (
            SettingsError(error.what, why=error.why, fix=f"Did you mean {meant}?")
            if meant
            else error
        )


class Command(TyperCommand):
    """A command whose lists are written with commas or spaces, and whose defaults look alike.

    A list is an option whose placeholder ends with "…": `--hidden 120 84`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lists: dict[str, tuple[str, ...]] = {}
        params: list[Any] = list(self.params)
        for option in params:
            if option.param_type_name == "option" and str(option.metavar).endswith("…"):
                names = _LISTED_NAMES.get(option.name or "", ())
                self._lists |= dict.fromkeys(option.opts, names)
            elif option.param_type_name == "argument":
                # Typer would show the type after the placeholder.
                option.type = copy(option.type)
                option.type.get_metavar = lambda **_: ""
            # Typer would put parentheses around a default that it is told.
            if isinstance(told := getattr(option, "show_default", None), str):
                option.help = f"{getattr(option, 'help', '')} [dim]\\[default: {told}][/dim]"
                option.show_default = False

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse `args` after joining the items of lists with commas.

        Raises:
            SettingsError: an argument is left over, or Typer has an error of its own.
        """
        ctx.allow_extra_args = True  # so that the error can be ours
        try:
            left_over = super().parse_args(ctx, join_lists(args, self._lists))
        except UsageError as error:
            raise _explain_usage_error(error, ctx) from None
        if left_over and not ctx.resilient_parsing:
            raise self._unexpected(left_over[0])
        return left_over

    def _unexpected(self, word: str) -> SettingsError:
        options = {option.name for option in self.params}
        meant = (
            f"Did you mean --{option} {name}?"
            for option, names in _OPTION_OF_NAME.items()
            if option in options and (name := find_known(word, tuple(names)))
        )
        return SettingsError(
            f"mnist {self.name} does not expect '{word}'.",
            fix=next(meant, f"mnist {self.name} --help shows what it takes."),
        )


def join_lists(args: list[str], lists: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Turn `["--hidden", "120", "84"]` into `["--hidden", "120,84"]`.

    `lists` has the names that each list option takes, none for numbers.
    """
    joined: list[str] = []
    names: tuple[str, ...] | None = None  # of the list that `joined` ends with
    for argument in args:
        option, equals, _ = argument.partition("=")
        if joined and joined[-1] in lists and not argument.startswith("-"):
            names = lists[joined[-1]]
        elif names is not None and _are_items(argument, names):
            joined[-1] += f",{argument}"
            continue
        else:
            names = lists.get(option) if equals else None
        joined.append(argument)
    return joined


def _are_items(text: str, names: tuple[str, ...]) -> bool:
    """Whether `text` is one item of a list, or several with commas."""
    items = [item for item in text.split(",") if item]
    return bool(items) and all(
        find_known(item, names) if names else item.isdecimal() for item in items
    )


def split_items(texts: Iterable[str] | None) -> list[str]:
    """The items of a list option that may be repeated: `--arch mlp,cnn --arch ann`."""
    return [item for text in texts or () for item in text.replace(",", " ").split()]


def _explain_usage_error(error: Any, ctx: Any) -> SettingsError:
    """Typer's error about wrong usage as one of ours, which look alike."""
    fix = f"{ctx.command_path} --help shows what it takes."
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if hasattr(error, "possibilities"):
        near = _nearest_option(error.option_name, ctx)
        what = f"{ctx.command_path} has no option {option}."
        return SettingsError(what, fix=f"Did you mean {near}?" if near else fix)
    if option:
        return SettingsError(f"{option} needs a value.", fix=fix)
    if param and error.message:  # "Invalid value for …"
        name = next((each for each in param.opts if each.startswith("--")), param.metavar)
        what, meant = _explain_value(error.message, param)
        return SettingsError(f"{name}: {what}", fix=meant or fix)
    return SettingsError(error.format_message(), fix=fix)


def _nearest_option(name: str, context: Any) -> str | None:
    known = [flag for option in context.command.params for flag in option.opts]
    meant = [flag for flag in _OPTIONS.get(name, ()) if flag in known]
    near = get_close_matches(name, [flag for flag in known if flag.startswith("--")], 1, 0.75)
    return next(iter([*meant, *near]), None)


def _explain_value(message: str, param: Any) -> tuple[str, str]:
    """What a value should be, in the words of `config.validate`; what was probably meant."""
    kind = param.type
    number = "a whole number" if "int" in kind.name else "a number"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if wrong := re.fullmatch(r"'(.*)' is not a valid (?:int|integer|float)(?: range)?\.", message):
        return f"should be {number}, not {wrong[1]}.", ""
    if wrong := re.fullmatch(r"(.*) is not in the range .*\.", message):
        bounds = f"{low:g} to {high:g}" if high is not None else f"at least {low:g}"
        is_share = param.metavar == "PERCENT" and 0 < float(wrong[1]) < 1
        meant = f"Did you mean {100 * float(wrong[1]):g}? It is in percent." if is_share else ""
        return f"should be {bounds}, not {wrong[1]}.", meant
    return message, ""
