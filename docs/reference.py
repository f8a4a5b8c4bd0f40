"""Writes the command reference, docs/commands.md, from the commands themselves.

$ python docs/reference.py > docs/commands.md

A test fails when the file is not what this script writes.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from mnistcli.cli.app import app

INTRODUCTION = """# Command reference

Written by `python docs/reference.py` from the commands' own help; `mnist COMMAND --help` shows
the same in a terminal.

Results go to stdout, everything else (progress, notes, errors) to stderr. `--json` prints JSON
and nothing else on stdout, with a `schema_version`; `predict --json` prints one object a line.
`-q` prints the one value that matters.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed: a file cannot be written, the loss is no longer finite, `doctor` finds another fault |
| 2 | wrong usage or settings |
| 3 | a data set, a checkpoint or a picture is missing or damaged |
| 4 | the device that was asked for cannot be used, or `doctor` finds one that fails |
| 5 | a demanded bound was missed (`--max-params`, `--min-accuracy`) |
| 130 | interrupted |

Settings come, weakest first, from the built-in defaults, the recipe, the `--config` file, the
environment (`MNIST_EPOCHS`, `MNIST_LR` …: `MNIST_` and the setting's name) and the flags.
`mnist train --dry-run` shows every setting and where its value comes from.
"""


def parameters(callback: Callable[..., Any]) -> Iterator[tuple[str, Any, ParameterInfo]]:
    """Name, default and description of every parameter of a command."""
    for name, parameter in inspect.signature(callback).parameters.items():
        if get_origin(parameter.annotation) is Annotated:
            for described in get_args(parameter.annotation)[1:]:
                if isinstance(described, ParameterInfo):
                    yield name, parameter.default, described


def default_of(value: Any, described: ParameterInfo) -> str:
    if isinstance(described.show_default, str):
        return described.show_default
    if value is inspect.Parameter.empty:
        return "required"
    return "" if value is None or value is False else f"`{value}`"


def names_of(name: str, described: ParameterInfo) -> list[str]:
    """How a parameter is typed: "--epochs N", "-e N"; an argument by its placeholder."""
    if isinstance(described, ArgumentInfo):
        return [described.metavar or name.upper()]
    # In an annotation, Typer keeps the first of an option's names where a default would be.
    names = [described.default, *(described.param_decls or ())]
    return [f"{each} {described.metavar or ''}".rstrip() for each in names if isinstance(each, str)]


def rows(callback: Callable[..., Any], kind: type[ParameterInfo]) -> Iterator[str]:
    for name, default, described in parameters(callback):
        if isinstance(described, kind):
            words = " ".join(str(described.help).split()).replace("|", "\\|")
            shown = ", ".join(f"`{each}`" for each in names_of(name, described))
            yield f"| {shown} | {words} | {default_of(default, described)} |"


def prose(callback: Callable[..., Any]) -> str:
    """A docstring as Markdown: its examples in a block of shell."""
    text, _, examples = (inspect.getdoc(callback) or "").partition("Examples:\n")
    return f"{text.strip()}\n\n```console\n{examples.strip()}\n```\n"


def section(name: str, callback: Callable[..., Any]) -> str:
    lines = [f"\n## mnist {name}\n", prose(callback)]
    for kind, title in ((ArgumentInfo, "argument"), (OptionInfo, "option")):
        found = list(rows(callback, kind))
        if found:
            lines += [f"| {title} | what it does | default |", "| --- | --- | --- |", *found, ""]
    return "\n".join(lines).rstrip()


def reference() -> str:
    sections = [
        section(command.name or "", command.callback)
        for command in app.registered_commands
        if command.callback
    ]
    return "\n".join([INTRODUCTION.rstrip(), *sections]) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
