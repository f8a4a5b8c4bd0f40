"""The two streams and what is printed on them: results on stdout, everything else on stderr.

Text from the user (paths, names) is printed as `Text`, never as Rich markup, so that brackets in
it stay brackets.
"""

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
    """The console for results."""
    return Console(highlight=False, soft_wrap=False)


def stderr(*, quiet: bool = False) -> Console:
    """The console for everything else."""
    return Console(stderr=True, highlight=False, quiet=quiet)


def print_note(message: str) -> None:
    """Print one line about what is going on."""
    stderr().print(Text(message, style="dim"), soft_wrap=True)


def print_error(error: MnistError) -> None:
    """Print what happened, why, and what to do next."""
    console = stderr()
    console.print(Text.assemble(("Error: ", "bold red"), printable(error.what)), soft_wrap=True)
    for line in error.why.splitlines():
        console.print(Text(f"  {printable(line)}"), soft_wrap=True)
    if error.fix:
        console.print(Text(f"  {printable(error.fix)}", style="bold"), soft_wrap=True)


def print_json(record: Mapping[str, Any]) -> None:
    """Print a record as one line of JSON."""
    sys.stdout.write(json.dumps({"schema_version": SCHEMA_VERSION, **record}) + "\n")


def print_line(text: str) -> None:
    """Print a line for a program, never wrapped or colored."""
    sys.stdout.write(f"{text}\n")


def print_table(table: Table) -> None:
    """Print a table on stdout: within the width of a terminal, in full width to a pipe."""
    console = stdout()
    if not console.is_terminal:
        console.width = max(console.width, natural_width(console, table))
    console.print(table)


def print_next(*commands: str) -> None:
    """Print the commands that a person may want to type next, given without `mnist`."""
    console = stdout()
    console.print("\nNext:")
    for command in commands:
        console.print(Text(f"  mnist {command}", style="cyan"), soft_wrap=True)


def plain_table(*columns: Column | str) -> Table:
    """A table with a rule under its header and no other lines."""
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def number_column(header: str) -> Column:
    """A right-aligned column."""
    return Column(header, justify="right", no_wrap=True)


def natural_width(console: Console, table: Table) -> int:
    """The width at which nothing in a table is wrapped."""
    unlimited = console.options.update(max_width=10_000)
    return Measurement.get(console, unlimited, table).maximum


def printable(text: str) -> str:
    """Text without characters that would move a terminal's cursor or change its colors."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def format_percent(share: float | None) -> str:
    """A share in 0..1 as a percentage; "-" for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def format_duration(seconds: float) -> str:
    """A rough duration in the unit that people would use: "8 seconds", "12 minutes", "3 hours"."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.0f} {unit}s"
    num = max(1, round(seconds))
    return f"{num} second{'s' if num > 1 else ''}"


def shell_path(path: Path) -> str:
    """A path quoted for a shell."""
    return printable(shlex.quote(str(path)))


def data_option(data_dir: Path | None) -> str:
    """The `--data-dir` option for a suggested command, if one was given."""
    return f" --data-dir {shell_path(data_dir)}" if data_dir else ""
