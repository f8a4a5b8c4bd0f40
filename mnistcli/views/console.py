"""The two streams, and how lines, records and tables look on them."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from mnistcli.errors import MnistError
from mnistcli.version import SCHEMA_VERSION


def stdout() -> Console:
    """Where results go."""
    return Console(highlight=False, soft_wrap=False)


def stderr() -> Console:
    """Where everything else goes."""
    return Console(stderr=True, highlight=False)


def print_note(message: str) -> None:
    """One line about what is going on."""
    stderr().print(Text(message, style="dim"), soft_wrap=True)


def printable(text: str) -> str:
    """A name without what would move a terminal's cursor or change its colors."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def print_json(record: Mapping[str, Any]) -> None:
    """A record as one line of JSON."""
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, **record}) + "\n")


def print_line(text: str) -> None:
    """A line for a program: never wrapped, never coloured."""
    sys.stdout.write(f"{text}\n")


def plain_table(*columns: Column | str) -> Table:
    """A table with a rule under its header and no other lines."""
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def natural_width(console: Console, table: Table) -> int:
    """The columns of a terminal that a table takes if nothing in it is to be broken."""
    anything = console.options.update(max_width=10_000)
    return Measurement.get(console, anything, table).maximum


def print_table(table: Table) -> None:
    """A table on stdout: as wide as a terminal is at most; a pipe has room for all."""
    console = stdout()
    if not console.is_terminal:
        console.width = max(console.width, natural_width(console, table))
    console.print(table)


def number_column(header: str) -> Column:
    """A column of numbers."""
    return Column(header, justify="right", no_wrap=True)


def format_percent(share: float | None) -> str:
    """A share of 0..1 in words."""
    return "-" if share is None else f"{100 * share:.2f} %"


def print_error(problem: MnistError) -> None:
    """What happened, why, and what to do next."""
    console = stderr()
    console.print(Text.assemble(("Error: ", "bold red"), printable(problem.what)), soft_wrap=True)
    for line in problem.why.splitlines():
        console.print(Text(f"  {printable(line)}"), soft_wrap=True)
    if problem.fix:
        console.print(Text(f"  {printable(problem.fix)}", style="bold"), soft_wrap=True)


def show_next(*commands: str) -> None:
    """The commands that a person may want to type now, without their `mnist`."""
    console = stdout()
    console.print("\nNext:")
    for command in commands:
        console.print(Text(f"  mnist {command}", style="cyan"), soft_wrap=True)


def shell_path(path: Path) -> str:
    """A path as a shell reads it."""
    return printable(shlex.quote(str(path)))


def data_option(data_dir: Path | None) -> str:
    """The option that says where data sets lie, if one was given."""
    return f" --data-dir {shell_path(data_dir)}" if data_dir else ""
