"""Output of `mnist doctor`: progress, findings, the verdict."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.table import Column
from rich.text import Text

from mnistcli.diagnostics.checks import LOADING, Check, CheckStart
from mnistcli.diagnostics.doctor import OnStart
from mnistcli.diagnostics.verdict import Verdict
from mnistcli.views.console import (
    plain_table,
    print_json,
    print_line,
    print_note,
    printable,
    stdout,
)
from mnistcli.views.status_line import status_line


@dataclass(frozen=True)
class DoctorRecord:
    """Every check of this machine, and the verdict on all of them."""

    verdict: Verdict
    checks: list[Check]


STATUS_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


@contextmanager
def doctor_progress(*, quiet: bool) -> Iterator[OnStart]:
    """The current check: a line that changes on a terminal, a line for each elsewhere."""
    with status_line(quiet=quiet) as show:

        def on_start(check: CheckStart) -> None:
            verb = "loading" if check.name == LOADING else "checking"
            show(f"{verb} {f'{check.subject} {check.name}'.strip()}")

        yield on_start


def show_checks(checks: Sequence[Check], verdict: Verdict, *, as_json: bool, quiet: bool) -> None:
    """Every check, and the verdict on all of them."""
    if as_json:
        print_json(DoctorRecord(verdict, list(checks)))
        return
    if quiet:
        print_line(verdict.word)
        if verdict.word == "failed":
            print_note(verdict.sentence)
            for check in checks:
                if check.status == "failed":
                    print_note(printable(f"{check.label}: {check.finding}"))
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


def _finding_cell(check: Check) -> Text:
    """A finding and, below it, the fix."""
    finding = Text(printable(check.finding))
    if check.fix:
        finding.append(f"\n> {printable(check.fix)}", style="cyan")
    return finding
