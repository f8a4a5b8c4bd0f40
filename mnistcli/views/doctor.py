"""What `doctor` shows: what it is at, every finding, the verdict."""

import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Column
from rich.text import Text

from mnistcli.diagnostics.doctor import LOADING
from mnistcli.views.console import plain_table, print_json, print_line, printable, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnistcli.diagnostics.checks import Check, OnStart
    from mnistcli.diagnostics.doctor import Verdict

STATUS_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


@contextmanager
def doctor_progress(*, quiet: bool) -> "Iterator[OnStart]":
    """What is being looked at: a line that changes on a terminal, a line a check elsewhere."""
    console = stderr()
    live = console.status("") if sys.stderr.isatty() and not console.is_dumb_terminal else None

    def on_start(name: str, subject: str) -> None:
        verb = "loading" if name == LOADING else "checking"
        line = Text(f"{verb} {printable(f'{subject} {name}'.strip())}")
        if live and not quiet:
            live.update(line)
            live.start()
        elif not quiet:
            console.print(line, soft_wrap=True)

    try:
        yield on_start
    finally:
        if live:
            live.stop()


def show_checks(
    checks: "Sequence[Check]", verdict: "Verdict", *, as_json: bool, quiet: bool
) -> None:
    """Every check, and the verdict on all of them."""
    if as_json:
        records = [asdict(check) for check in checks]
        print_json({"verdict": asdict(verdict), "checks": records})
        return
    if quiet:
        print_line(verdict.word)
        return
    table = plain_table(
        Column("check", no_wrap=True), Column("", no_wrap=True), Column("finding", overflow="fold")
    )
    for check in checks:
        table.add_row(
            Text(check.label),
            Text(check.status, style=STATUS_STYLES[check.status]),
            _finding_cell(check),
        )
    console = stdout()
    console.print(table)
    console.print()
    style = "bold" if verdict.word == "ok" else STATUS_STYLES[verdict.word]
    console.print(Text(printable(verdict.sentence), style=style), soft_wrap=True)


def _finding_cell(check: "Check") -> Text:
    """A finding and, on a line of its own, what to do about it."""
    finding = Text(printable(check.finding))
    if check.fix:
        finding.append(f"\n> {printable(check.fix)}", style="cyan")
    return finding
