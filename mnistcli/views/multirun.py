"""What a series of runs shows: a line a run, then their table, means and spread."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mnistcli.system.machine import seconds_since_start
from mnistcli.views.console import (
    data_option,
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    printable,
    shell_path,
    show_next,
    stdout,
)
from mnistcli.views.progress import StatusNotes, StepBar, live_progress
from mnistcli.views.train import print_training_header

if TYPE_CHECKING:
    from mnistcli.evaluation.metrics import Spread
    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.engine import OnStep
    from mnistcli.training.multirun import MultiRun, RunResult
    from mnistcli.training.trainer import TrainingRun


class MultiRunDisplay:
    """A line for every finished run and, on a terminal, a live bar for the one at hand."""

    def __init__(
        self,
        series: "MultiRun",
        console: Console,
        progress: Progress | None,
        *,
        group: "ProcessGroup",
    ) -> None:
        self._series = series
        self._console = console
        self._notes = StatusNotes(group)
        self._workers = group
        self._progress = progress
        self._bar: StepBar | None = None
        self._start: TrainingRun | None = None
        self._place = ""

    def begin(self, start: "TrainingRun") -> "OnStep | None":
        """Show that a run begins; what the engine calls after a step, if there is a bar to move."""
        self._start = start
        name, names = start.run.path.name, list(self._series.runs)
        self._place = f"run {names.index(name) + 1}/{len(names)}, {name}"
        if not self._progress:
            return None
        label = f"{self._place}, "
        self._bar = StepBar(self._progress, start, group=self._workers, label=label)
        return self._bar.move

    def show(self, result: "RunResult") -> None:
        """The line of a run that is finished."""
        if self._bar:
            self._bar.remove()
        last, best = result.last, result.best
        self._console.print(
            f"{self._place}: validation {format_percent(last.val_accuracy)}, "
            f"best {format_percent(best.val_accuracy)} (epoch {best.epoch}), {result.seconds:.1f} s",
            soft_wrap=True,
        )
        self._start = self._bar = None

    def interrupted(self) -> None:
        """Say what an interrupted series has kept, and how to go on."""
        if not self._says_where("Interrupted"):
            self._notes.say("Interrupted: no epoch was finished, so nothing is kept.")

    def stopped(self) -> None:
        """Say what a series that cannot go on has kept, if it had come to train."""
        if self._place:
            self._says_where("Stopped")

    def _says_where(self, what: str) -> bool:
        """Say where a series was broken off; False if nothing of it is kept."""
        from mnistcli.runs.directory import has_saved_epochs

        if self._progress:
            self._progress.stop()
        path = self._series.path
        if not has_saved_epochs(path):
            return False
        num_done = len(self._series.results)
        where = f"{num_done} of {self._series.layout.num_runs} runs are finished"
        if self._start and self._start.history:
            num_epochs = self._start.plan.settings.epochs
            epoch = f"epoch {self._start.history[-1].epoch} of {num_epochs}"
            where += f", {self._start.run.path.name} has reached {epoch}"
        self._notes.say(f"{what}: {where}.")
        self._notes.say(f"Go on: mnist train --resume {shell_path(path)}", style="")
        return True


@contextmanager
def multirun_display(
    series: "MultiRun", num_train: int, num_val: int, *, group: "ProcessGroup", quiet: bool
) -> Iterator[MultiRunDisplay]:
    """The header, once, and a display for what follows it; the numbers are the first run's."""
    console = Console(stderr=True, highlight=False, quiet=quiet)
    which = f"{series.layout.in_words(series.plan.settings)}, in {printable(str(series.path))}"
    print_training_header(
        console,
        series.plan,
        sizes=(num_train, num_val),
        where=("runs", which),
        group=group,
    )
    if series.is_resumed:
        console.print("Resuming: what is finished stays.", soft_wrap=True)
    with live_progress(console) as progress:
        yield MultiRunDisplay(series, console, progress, group=group)


def show_multirun(series: "MultiRun", *, data_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """The table of a finished series, its means with their spread, and what to type next.

    `data_dir` is what the command line named, if it did.
    """
    if as_json:
        seconds = seconds_since_start()
        print_json({"series": str(series.path), **series.record, "command_seconds": seconds})
        return
    if quiet:
        print_line(f"{100 * series.last.mean:.2f}")
        return
    console = stdout()
    console.print()
    console.print(_table(series))
    console.print()
    by = series.layout.by
    console.print(Text(_sentence("Last epochs", series.last, by=by), style="bold"), soft_wrap=True)
    console.print(_sentence("Best epochs", series.best, by=by), soft_wrap=True)
    console.print("The best were chosen by the images they are judged on here: theirs flatter.")
    if by == "seeds":
        console.print("Every seed held out other images: the SD is of training and split together.")
    console.print(Text(f"Kept in {printable(str(series.path))}"), soft_wrap=True)
    _show_next(series, data_dir)


def _table(series: "MultiRun") -> Table:
    figures = ("last", "accuracy", "loss", "best", "accuracy", "loss", "time")
    table = plain_table("run", *map(number_column, figures))
    for each in series.results:
        cells = [
            cell
            for reached in (each.last, each.best)
            for cell in (
                str(reached.epoch),
                format_percent(reached.val_accuracy),
                f"{reached.val_loss:.4f}",
            )
        ]
        table.add_row(each.directory, *cells, f"{each.seconds:.1f} s")
    return table


def _sentence(whose: str, found: "Spread", *, by: str) -> str:
    deviation = "" if found.deviation is None else f", SD {format_percent(found.deviation)}"
    errors = f"{found.num_errors:,} errors in {found.num_images:,}"
    sentence = f"{whose}: mean {format_percent(found.mean)}{deviation}; together {errors}"
    if by == "seeds":  # some images are held out by several, and are no new ones each time
        return f"{sentence}."
    low, high = found.interval
    return f"{sentence}, 95 % interval {100 * low:.2f} to {format_percent(high)} (Wilson)."


def _show_next(series: "MultiRun", data_dir: Path | None) -> None:
    path, first = shell_path(series.path), shell_path(series.path / series.results[0].directory)
    # Seeds are compared on the test set, which is the same for all; folds judged every image.
    judged = f"{first} --split val" if series.layout.by == "folds" else path
    show_next(f"eval {judged}{data_option(data_dir)}", f"plot {path}")
