"""What `runs` shows: a table of runs, as wide as there is room."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mnistcli.errors import DataError
    from mnistcli.evaluation.run_table import RunEntry

STATE_STYLES = {"finished": "dim", "unfinished": "yellow", "training": "cyan"}


def show_runs(
    entries: "Sequence[RunEntry]",
    problems: "Sequence[DataError]",
    *,
    out: Path,
    num_runs: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """The runs in the order given, of `num_runs` that there are."""
    if as_json:
        damaged = [{"what": each.what, "why": each.why} for each in problems]
        records = [_record(entry) for entry in entries]
        print_json({"out": str(out), "runs": records, "damaged": damaged})
    elif quiet:
        for entry in entries:
            print_line(entry.name)
    elif entries:
        _print_table(entries)
    if not entries:
        none = f"None of the {num_runs} runs in {out} fits." if num_runs else _nothing(out)
        print_note(printable(none))


def show_damaged(problems: "Sequence[DataError]") -> None:
    """What is wrong with runs, for which a person need not have asked."""
    for problem in problems:
        print_note(printable(f"{problem.what} {problem.why}"))


def _nothing(out: Path) -> str:
    return f"There is no run in {out}. Train one: mnist train"


def _record(entry: "RunEntry") -> dict[str, Any]:
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


def _print_table(entries: "Sequence[RunEntry]") -> None:
    """The table, without the columns for which a terminal has no room."""
    console = stdout()
    names = [name for name in _COLUMNS if not _says_nothing(name, entries)]
    for name in _DROPPED_FIRST if console.is_terminal else ():
        if natural_width(console, _table(names, entries)) <= console.width:
            break
        names.remove(name)
    print_table(_table(names, entries))


def _says_nothing(name: str, entries: "Sequence[RunEntry]") -> bool:
    """Whether a column would hold the usual value only."""
    usual, (_, cell) = _USUAL.get(name), _COLUMNS[name]
    return usual is not None and all(str(cell(entry)) == usual for entry in entries)


def _table(names: "Sequence[str]", entries: "Sequence[RunEntry]") -> Table:
    table = plain_table(*(_COLUMNS[name][0](name) for name in names))
    table.collapse_padding = True
    for entry in entries:
        table.add_row(*(_COLUMNS[name][1](entry) for name in names))
    return table


def _words(header: str) -> Column:
    return Column(header, no_wrap=True)


def _name(header: str) -> Column:
    return Column(header, overflow="fold")


def _points(share: float | None) -> str:
    """A share of 0..1 in percent, whose sign the header has."""
    return "-" if share is None else f"{100 * share:.2f}"


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 100 * length / 60:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"


_COLUMNS: "dict[str, tuple[Callable[[str], Column], Callable[[RunEntry], Text | str]]]" = {
    "run": (_name, lambda entry: Text(printable(entry.name))),
    "recipe": (_words, lambda entry: Text(printable(entry.settings.recipe))),
    "data": (_words, lambda entry: entry.settings.dataset),
    "params": (number_column, lambda entry: f"{entry.num_params:,}" if entry.num_params else "-"),
    "epochs": (number_column, lambda entry: f"{len(entry.epochs)}/{entry.settings.epochs}"),
    "best\nval %": (number_column, lambda entry: _points(entry.accuracy)),
    "last\nval %": (
        number_column,
        lambda entry: _points(entry.last.val_accuracy if entry.last else None),
    ),
    "test %": (number_column, lambda entry: _points(entry.score.accuracy if entry.score else None)),
    "time": (number_column, lambda entry: _duration(entry.seconds) if entry.epochs else "-"),
    "when": (_words, lambda entry: _when(entry.written)),
    "state": (_words, lambda entry: Text(entry.state, style=STATE_STYLES[entry.state])),
}
# What is left out first where there is no room: a run's usual name has recipe and time in it.
_DROPPED_FIRST = ("last\nval %", "when", "recipe", "time")
_USUAL = {"data": "mnist", "state": "finished"}
