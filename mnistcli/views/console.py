"""The two streams and what is printed on them: results on stdout, everything else on stderr.

Text from the user (paths, names) is printed as `Text`, never as Rich markup, so that brackets in
it stay brackets.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from mnistcli.errors import MnistError, count_noun
from mnistcli.version import SCHEMA_VERSION

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# The least width, in characters, of a column that may be folded.
_LEAST_FOLDED = 12


class _LastingConsole(Console):
    """A console that goes quiet once nobody reads it, where Rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def stdout(*, quiet: bool = False, lasting: bool = False) -> Console:
    """The console for results; it wraps lines on a terminal only, not in a file or a pipe.

    When its reader ends, as `head` does, so does the program, unless the console is `lasting`:
    then the work goes on.
    """
    kind = _LastingConsole if lasting else Console
    console = kind(highlight=False, quiet=quiet)
    console.soft_wrap = not console.is_terminal
    return console


def stderr(*, quiet: bool = False) -> Console:
    """The console for everything else; nothing depends on whether it is read."""
    return _LastingConsole(stderr=True, highlight=False, quiet=quiet)


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


@dataclass(frozen=True)
class ErrorRecord:
    """What cannot be read, and why."""

    what: str
    why: str


def print_json(record: "DataclassInstance") -> None:
    """Print a record as one line of JSON; `docs/schemas.py` publishes the schemas of its types."""
    fields = {"schema_version": SCHEMA_VERSION, **vars(record)}
    line = json.dumps(fields, default=_json_fields)
    sys.stdout.write(f"{line}\n")


def _json_fields(value: Any) -> Any:
    """The fields of a dataclass, or of settings, which are pydantic models."""
    return vars(value) if is_dataclass(value) else value.model_dump(mode="json")


def print_line(text: str) -> None:
    """Print a line for a program, never wrapped or colored."""
    sys.stdout.write(f"{text}\n")


def print_table(table: Table) -> None:
    """Print a table on stdout: within the width of a terminal, in full width to a pipe.

    Where a terminal is too narrow, the last columns are left out, and a note names them.
    """
    console = stdout()
    left_out = []
    if not console.is_terminal:
        console.width = max(console.width, natural_width(console, table))
    elif natural_width(console, table) > console.width:
        left_out = _fit(console, table)
    console.print(table)
    if left_out:
        print_note(f"No room for {', '.join(left_out)}: widen the terminal, or use --json.")


def _fit(console: Console, table: Table) -> list[str]:
    """Tighten a table, and leave out its last columns if they do not fit; their headers."""
    table.padding = (0, 0)
    used = -1  # a space between two columns
    for number, column in enumerate(table.columns):
        width = max(natural_width(console, cell) for cell in (column.header, *column.cells))
        # What may be folded keeps a readable width; Rich would squeeze it to nothing.
        column.min_width = width if column.no_wrap else min(width, _LEAST_FOLDED)
        used += column.min_width + 1
        if used > console.width and number > 0:
            left_out = [" ".join(str(each.header).split()) for each in table.columns[number:]]
            del table.columns[number:]
            return left_out
    return []


def print_labeled(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    """Print values beside their labels, folded on a terminal and one a line in a pipe."""
    grid = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, 2))
    for label, value in lines:
        grid.add_row(label, Text(value))
        if not console.is_terminal:
            console.print(Text(f"{label:<11}{value}"), soft_wrap=True)
    if console.is_terminal:
        console.print(grid)


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


def natural_width(console: Console, content: RenderableType) -> int:
    """The width, in characters, at which nothing in a table or a cell is wrapped."""
    unlimited = console.options.update(max_width=10_000)
    return Measurement.get(console, unlimited, content).maximum


def printable(text: str) -> str:
    """Text without characters that would move a terminal's cursor or change its colors."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def format_percent(share: float | None) -> str:
    """A share in 0..1 as a percentage; "-" for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def format_interval(interval: tuple[float, float]) -> str:
    """An interval of shares in 0..1 in percent, without the sign: "99.36 to 99.64"."""
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f}"


def format_duration(seconds: float) -> str:
    """A rough duration in the unit that people would use: "8 seconds", "12 minutes", "3 hours"."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.0f} {unit}s"
    return count_noun(max(1, round(seconds)), "second")


def shell_path(path: Path) -> str:
    """A path quoted for a shell."""
    return printable(shlex.quote(str(path)))


def data_option(data_dir: Path | None) -> str:
    """The `--data-dir` option for a suggested command, if one was given."""
    return f" --data-dir {shell_path(data_dir)}" if data_dir else ""
