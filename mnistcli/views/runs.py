"""The output of `mnist runs`: a table with as many columns as the terminal has room for."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from mnistcli.errors import DataError
from mnistcli.evaluation.run_table import RunEntry
from mnistcli.views.console import (
    natural_width,
    number_column,
    plain_table,
    print_json,
    print_line,
    print_note,
    print_table,
    printable,
    stdout,
)

STATE_STYLES = {"finished": "dim", "unfinished": "yellow", "training": "cyan"}


def show_runs(
    entries: Sequence[RunEntry],
    problems: Sequence[DataError],
    *,
    out: Path,
    num_runs: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """The entries, which were selected from `num_runs`; quiet: their names."""
    if as_json:
        damaged = [{"what": problem.what, "why": problem.why} for problem in problems]
        records = [_json_record(entry) for entry in entries]
        print_json({"out": str(out), "runs": records, "damaged": damaged})
    elif quiet:
        for entry in entries:
            print_line(entry.name)
    elif entries:
        _print_runs(entries)
    if not entries:
        nothing = f"There is no run in {out}. Train one: mnist train"
        print_note(
            printable(
                f"None of the {num_runs} runs in {out} matches the filters."
                if num_runs
                else nothing
            )
        )


def show_damaged(problems: Sequence[DataError]) -> None:
    """A note for every damaged file."""
    for problem in problems:
        print_note(printable(f"{problem.what} {problem.why}"))


def _json_record(entry: RunEntry) -> dict[str, Any]:
    best, last, score = entry.best, entry.last, entry.score
    return {
        "name": entry.name,
        "path": str(entry.run.path),
        "state": entry.state,
        "recipe": entry.settings.recipe,
        "arch": entry.settings.arch,
        "dataset": entry.settings.dataset,
        "seed": entry.settings.seed,
        "num_params": entry.num_params,
        "num_epochs": entry.settings.epochs,
        "num_epochs_done": len(entry.epochs),
        "best": asdict(best) if best else None,
        "last": asdict(last) if last else None,
        "test": {
            "accuracy": score.accuracy,
            "interval": score.interval,
            "loss": score.loss,
            "num_errors": score.num_errors,
            "num_images": score.num_images,
        }
        if score
        else None,
        "seconds": entry.seconds,
        "started": entry.started,
        "written": datetime.fromtimestamp(entry.written, UTC).isoformat(timespec="seconds"),
        "settings": entry.settings.model_dump(mode="json"),
    }


def _print_runs(entries: Sequence[RunEntry]) -> None:
    console = stdout()
    names = [name for name in _COLUMNS if not _is_uniform(name, entries)]
    for name in _DROPPED_FIRST if console.is_terminal else ():
        if natural_width(console, _table(names, entries)) <= console.width:
            break
        names.remove(name)
    print_table(_table(names, entries))


def _is_uniform(name: str, entries: Sequence[RunEntry]) -> bool:
    """Whether a column would hold nothing but its usual value."""
    _, format_cell = _COLUMNS[name]
    return name in _USUAL and all(str(format_cell(entry)) == _USUAL[name] for entry in entries)


def _table(names: Sequence[str], entries: Sequence[RunEntry]) -> Table:
    table = plain_table(*(_COLUMNS[name][0](name) for name in names))
    table.collapse_padding = True
    for entry in entries:
        table.add_row(*(_COLUMNS[name][1](entry) for name in names))
    return table


def _text_column(header: str) -> Column:
    return Column(header, no_wrap=True)


def _name_column(header: str) -> Column:
    return Column(header, overflow="fold")


def _format_accuracy(accuracy: float | None) -> str:
    """An accuracy in percent without the sign, which is in the header."""
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"


def _format_duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 100 * length / 60:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"


_COLUMNS: dict[str, tuple[Callable[[str], Column], Callable[[RunEntry], Text | str]]] = {
    "run": (_name_column, lambda entry: Text(printable(entry.name))),
    "recipe": (_text_column, lambda entry: Text(printable(entry.settings.recipe))),
    "data": (_text_column, lambda entry: entry.settings.dataset),
    "params": (number_column, lambda entry: f"{entry.num_params:,}" if entry.num_params else "-"),
    "epochs": (number_column, lambda entry: f"{len(entry.epochs)}/{entry.settings.epochs}"),
    "best\nval %": (number_column, lambda entry: _format_accuracy(entry.accuracy)),
    "last\nval %": (
        number_column,
        lambda entry: _format_accuracy(entry.last.val_accuracy if entry.last else None),
    ),
    "test %": (
        number_column,
        lambda entry: _format_accuracy(entry.score.accuracy if entry.score else None),
    ),
    "time": (number_column, lambda entry: _format_duration(entry.seconds) if entry.epochs else "-"),
    "when": (_text_column, lambda entry: _format_time(entry.written)),
    "state": (_text_column, lambda entry: Text(entry.state, style=STATE_STYLES[entry.state])),
}
# Left out first where there is no room: the default name of a run has its recipe and time.
_DROPPED_FIRST = ("last\nval %", "when", "recipe", "time")
# Columns are left out if all runs have these values.
_USUAL = {"data": "mnist", "state": "finished"}
