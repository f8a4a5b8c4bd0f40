"""What `mnist train` shows of a multi-run: a line for every run, their table and their spread."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mnistcli.config.settings import TrainSettings
from mnistcli.evaluation.metrics import Spread
from mnistcli.runs.directory import has_saved_epochs
from mnistcli.system.machine import seconds_since_start
from mnistcli.training.multirun import Layout, RunResult
from mnistcli.views.console import (
    data_option,
    format_interval,
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    print_next,
    print_table,
    printable,
    shell_path,
    stderr,
    stdout,
)
from mnistcli.views.progress import InterruptionNotes, StepBar, live_progress
from mnistcli.views.train import print_training_header

if TYPE_CHECKING:
    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.engine import OnStep
    from mnistcli.training.multirun import MultiRun
    from mnistcli.training.trainer import TrainingRun


@dataclass(frozen=True)
class MultiRunRecord:
    """A finished multi-run in the directory `run`; `settings` are those of its first run.

    `last` and `best` are the spreads of the accuracies of the runs' last and best epochs.
    """

    run: str
    layout: Layout
    settings: TrainSettings
    runs: list[RunResult]
    last: Spread
    best: Spread
    command_seconds: float


@contextmanager
def multirun_display(
    multirun: "MultiRun",
    num_train: int,
    num_val: int,
    *,
    epoch_seconds: float | None,
    group: "ProcessGroup",
    quiet: bool,
) -> Iterator["MultiRunDisplay"]:
    """Print the header, with the first run's numbers of images; the display is for what follows.

    `epoch_seconds` is the estimated time of an epoch.
    """
    console = stdout(quiet=quiet, lasting=True)
    num_epochs = (len(multirun.runs) - len(multirun.finished)) * multirun.plan.settings.epochs
    layout = multirun.layout.describe(multirun.plan.settings)
    print_training_header(
        console,
        multirun.plan,
        num_train=num_train,
        num_val=num_val,
        destination=("runs", f"{layout}, in {printable(str(multirun.path))}"),
        seconds=None if epoch_seconds is None else num_epochs * epoch_seconds,
        group=group,
    )
    if multirun.is_resumed:
        note = "Resuming; finished runs are not trained again."
        stderr(quiet=quiet).print(note, soft_wrap=True)
    with live_progress(console) as progress:
        yield MultiRunDisplay(multirun, console, progress, group=group)


class MultiRunDisplay:
    """A line for every finished run and, on a terminal, a live bar for the current one."""

    def __init__(
        self,
        multirun: "MultiRun",
        console: Console,
        progress: Progress | None,
        *,
        group: "ProcessGroup",
    ) -> None:
        self._multirun = multirun
        self._console = console
        self._notes = InterruptionNotes(group)
        self._group = group
        self._progress = progress
        self._bar: StepBar | None = None
        self._current: TrainingRun | None = None
        self._position = ""

    def start_run(self, run: "TrainingRun") -> "OnStep | None":
        """Note the run that starts; returns what to call after its steps, None without a bar."""
        self._current = run
        name, names = run.run.path.name, list(self._multirun.runs)
        self._position = f"run {names.index(name) + 1}/{len(names)}, {name}"
        if not self._progress:
            return None
        label = f"{self._position}, "
        self._bar = StepBar(self._progress, run, group=self._group, label=label)
        return self._bar.update

    def show_result(self, result: RunResult) -> None:
        """Print the line of a finished run."""
        if self._bar:
            self._bar.remove()
        last, best = result.last, result.best
        self._console.print(
            f"{self._position}: validation {format_percent(last.val_accuracy)}, best "
            f"{format_percent(best.val_accuracy)} (epoch {best.epoch}), {result.seconds:.1f} s",
            soft_wrap=True,
        )
        self._current = self._bar = None

    def interrupted(self) -> None:
        """Say what an interrupted multi-run has saved and how to resume it."""
        if not self._describe_saved("Interrupted"):
            self._notes.print("Interrupted before the first epoch was finished; nothing is saved.")

    def stopped(self) -> None:
        """Say what a multi-run that failed has saved, if a run had started."""
        if self._position:
            self._describe_saved("Stopped")

    def _describe_saved(self, event: str) -> bool:
        """Print what is saved; returns whether anything is."""
        if self._progress:
            self._progress.stop()
        path = self._multirun.path
        if not has_saved_epochs(path):
            return False
        num_done = len(self._multirun.results)
        status = f"{num_done} of {self._multirun.layout.num_runs} runs are finished"
        if self._current and self._current.history:
            epoch, num_epochs = self._current.history[-1].epoch, self._current.plan.settings.epochs
            status += f", {self._current.run.path.name} is at epoch {epoch} of {num_epochs}"
        self._notes.print(f"{event}: {status}.")
        self._notes.print(f"To resume: mnist train --resume {shell_path(path)}", style="")
        return True


def show_multirun(
    multirun: "MultiRun", *, data_dir: Path | None, as_json: bool, quiet: bool
) -> None:
    """Show the table of a finished multi-run, means and spreads, and what to type next.

    `data_dir` is the one given on the command line, which the next command needs too.
    """
    if as_json:
        print_json(
            MultiRunRecord(
                run=str(multirun.path),
                layout=multirun.layout,
                settings=multirun.plan.settings,
                runs=multirun.results,
                last=multirun.last,
                best=multirun.best,
                command_seconds=seconds_since_start(),
            )
        )
        return
    if quiet:
        print_line(f"{100 * multirun.last.mean:.2f}")
        return
    console, by = stdout(), multirun.layout.by
    console.print()
    print_table(_table(multirun))
    console.print()
    last, best = (
        _describe_spread(label, spread, by=by)
        for label, spread in (("Last epochs", multirun.last), ("Best epochs", multirun.best))
    )
    console.print(Text(last, style="bold"), soft_wrap=True)
    console.print(best, soft_wrap=True)
    console.print(
        "The best epochs were chosen on the same images, so their accuracy is optimistically "
        "biased.",
        soft_wrap=True,
    )
    if by == "seeds":
        console.print(
            "Each seed holds out different images: the SD covers training and split.",
            soft_wrap=True,
        )
    console.print(Text(f"Saved in {printable(str(multirun.path))}"), soft_wrap=True)
    _suggest_next(multirun, data_dir)


def _table(multirun: "MultiRun") -> Table:
    headers = ("last", "accuracy", "loss", "best", "accuracy", "loss", "time")
    table = plain_table("run", *map(number_column, headers))
    for result in multirun.results:
        cells: list[str] = []
        for score in (result.last, result.best):
            accuracy, loss = format_percent(score.val_accuracy), f"{score.val_loss:.4f}"
            cells += (str(score.epoch), accuracy, loss)
        table.add_row(result.directory, *cells, f"{result.seconds:.1f} s")
    return table


def _describe_spread(label: str, spread: Spread, *, by: str) -> str:
    deviation = "" if spread.deviation is None else f", SD {format_percent(spread.deviation)}"
    errors = f"{spread.num_errors:,} errors in {spread.num_images:,} images"
    text = f"{label}: mean {format_percent(spread.mean)}{deviation}; {errors}"
    if by == "seeds":  # several seeds may hold out the same image, so there is no interval
        return f"{text}."
    return f"{text}, 95 % interval {format_interval(spread.interval)} % (Wilson)."


def _suggest_next(multirun: "MultiRun", data_dir: Path | None) -> None:
    path = shell_path(multirun.path)
    print_next(f"eval {path}{data_option(data_dir)}", f"plot {path}")
