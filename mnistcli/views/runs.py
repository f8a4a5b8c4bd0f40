"""The output of `mnist runs`: a table as wide as the terminal has room for, or one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from mnistcli.config.dataset_names import dataset_title
from mnistcli.config.differences import format_value, run_changes
from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError
from mnistcli.evaluation.run_table import RunEntry, RunState
from mnistcli.runs.history import EpochResult, metrics_csv
from mnistcli.views.console import (
    ErrorRecord,
    format_percent,
    natural_width,
    number_column,
    plain_table,
    print_json,
    print_labeled,
    print_line,
    print_note,
    print_table,
    printable,
    stdout,
)
from mnistcli.views.epochs import describe_best, print_epoch, print_epoch_header

STATE_STYLES = {"finished": "dim", "unfinished": "yellow", "training": "cyan"}


@dataclass(frozen=True)
class SavedScoreRecord:
    """The score on the test set that `mnist eval` saved."""

    accuracy: float
    interval: tuple[float, float]
    loss: float
    num_errors: int
    num_images: int


@dataclass(frozen=True)
class RunRecord:
    """A run: its progress, its best and its last epoch, its test score if it has one.

    `written` is when its newest file was; `num_params` and `started` are null in runs of versions
    that did not record them.
    """

    name: str
    path: str
    state: RunState
    recipe: str
    arch: str
    dataset: str
    seed: int
    num_params: int | None
    num_epochs: int
    num_epochs_done: int
    best: EpochResult | None
    last: EpochResult | None
    test: SavedScoreRecord | None
    seconds: float
    started: str | None
    written: str
    settings: TrainSettings


@dataclass(frozen=True)
class ShownRunRecord(RunRecord):
    """One run by name, also with the settings that differ from its recipe and all epochs."""

    changes: dict[str, Any]
    epochs: list[EpochResult]


@dataclass(frozen=True)
class RunsRecord:
    """The runs in the directory `out`."""

    out: str
    runs: list[RunRecord]
    damaged: list[ErrorRecord]


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
        damaged = [ErrorRecord(problem.what, problem.why) for problem in problems]
        print_json(RunsRecord(str(out), [_json_record(entry) for entry in entries], damaged))
    elif quiet:
        for entry in entries:
            print_line(entry.name)
    elif entries:
        _print_runs(entries)
    if not entries:
        note = f"There is no run in {out}. Train one: mnist train"
        if num_runs:
            note = f"None of the {num_runs} runs in {out} matches the filters."
        print_note(printable(note))


def show_run(entry: RunEntry, *, as_csv: bool, as_json: bool, quiet: bool) -> None:
    """One run: what differs from its recipe, its test accuracy, its epochs; quiet: its name."""
    changes = run_changes(entry.settings)
    if as_csv:
        print_line(metrics_csv(entry.epochs).rstrip())
    elif as_json:
        record = _json_record(entry)
        print_json(ShownRunRecord(**vars(record), changes=changes, epochs=entry.epochs))
    elif quiet:
        print_line(entry.name)
    else:
        _print_run(entry, changes)


def _print_run(entry: RunEntry, changes: Mapping[str, object]) -> None:
    console, settings = stdout(), entry.settings
    num_params = f"{entry.num_params:,} parameters" if entry.num_params else "parameters unknown"
    changed = ", ".join(f"{name} {format_value(value)}" for name, value in changes.items())
    test = "not evaluated yet: mnist eval"
    if score := entry.score:
        test = (
            f"{format_percent(score.accuracy)}, {score.num_errors:,} errors in "
            f"{score.num_images:,} images of {dataset_title(score.dataset)}"
        )
    lines = [
        ("run", printable(str(entry.run.path))),
        ("state", f"{entry.state}, {len(entry.epochs)} of {settings.epochs} epochs"),
        ("network", f"{settings.arch}: {num_params}"),
        ("recipe", f"{printable(settings.recipe)}{f' with {changed}' if changed else ''}"),
        ("trained", f"{_format_time(entry.written)}, for {_format_duration(entry.seconds)}"),
        ("test", test),
    ]
    print_labeled(console, lines)
    if not entry.best:
        return
    console.print()
    print_epoch_header(console)
    for index in range(len(entry.epochs)):
        print_epoch(console, entry.epochs[: index + 1], num_epochs=settings.epochs)
    console.print(Text(f"\n{describe_best(entry.best)}", style="bold"), soft_wrap=True)


def show_damaged(problems: Sequence[DataError]) -> None:
    """A note for every damaged file."""
    for problem in problems:
        print_note(printable(f"{problem.what} {problem.why}"))


def _json_record(entry: RunEntry) -> RunRecord:
    score = entry.score
    return RunRecord(
        name=entry.name,
        path=str(entry.run.path),
        state=entry.state,
        recipe=entry.settings.recipe,
        arch=entry.settings.arch,
        dataset=entry.settings.dataset,
        seed=entry.settings.seed,
        num_params=entry.num_params,
        num_epochs=entry.settings.epochs,
        num_epochs_done=len(entry.epochs),
        best=entry.best,
        last=entry.last,
        test=SavedScoreRecord(
            accuracy=score.accuracy,
            interval=score.interval,
            loss=score.loss,
            num_errors=score.num_errors,
            num_images=score.num_images,
        )
        if score
        else None,
        seconds=entry.seconds,
        started=entry.started,
        written=datetime.fromtimestamp(entry.written, UTC).isoformat(timespec="seconds"),
        settings=entry.settings,
    )


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
    "data": (_text_column, lambda entry: dataset_title(entry.settings.dataset)),
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
