"""Live progress of trainings and of reading pictures, and the notes of interrupted trainings."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mnistcli.views.console import stderr

if TYPE_CHECKING:
    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.engine import StepProgress
    from mnistcli.training.trainer import TrainingRun

# Reading the running loss makes a GPU wait, so the bar is not redrawn at every step.
REDRAW_SECONDS = 0.1


@contextmanager
def live_progress(console: Console) -> Iterator[Progress | None]:
    """Rich's progress display, below the lines that are printed on `console`.

    Where that is redirected, the display is on stderr; None where neither is a terminal.
    """
    screen = console if sys.stdout.isatty() else stderr(quiet=console.quiet)
    if screen.quiet or not screen.file.isatty() or screen.is_dumb_terminal:
        yield None
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
        console=screen,
        auto_refresh=False,
        transient=True,
        expand=True,
        # What is printed on the screen meanwhile appears above; files get what is theirs.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )
    with progress:
        yield progress


@contextmanager
def picture_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal while pictures are read; it is called with how many and of how many."""
    progress = Progress(
        TextColumn("reading pictures"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=stderr(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = progress.add_task("")

    def show(num: int, num_all: int) -> None:
        progress.start()  # only if there is anything to read
        progress.update(task, completed=num, total=num_all)

    try:
        yield show
    finally:
        progress.stop()


class StepBar:
    """A bar that advances with every training step.

    `label` precedes the epoch; of several processes this one sees its share of each batch.
    """

    def __init__(
        self, progress: Progress, run: "TrainingRun", *, group: "ProcessGroup", label: str = ""
    ) -> None:
        self._progress = progress
        self._label = label
        self._num_epochs = run.plan.settings.epochs
        self._num_processes = group.world_size
        self._history = run.history
        self._task = progress.add_task("", total=None, figures="")
        self._epoch_started = self._drawn = time.perf_counter()

    def update(self, step: "StepProgress") -> None:
        """Show a finished step, unless another was shown just before."""
        now = time.perf_counter()
        if step.number == 1:
            self._epoch_started = now
        if now - self._drawn < REDRAW_SECONDS and step.number < step.num_steps:
            return
        self._drawn = now
        loss, accuracy = (step.totals / step.num_images).tolist()
        # The clock starts after the first step, whose images are therefore not counted.
        num_timed = self._num_processes * step.num_images * (step.number - 1) / step.number
        speed = num_timed / max(now - self._epoch_started, 1e-9)
        num_done = len(self._history)
        self._progress.update(
            self._task,
            description=f"{self._label}epoch {num_done + 1}/{self._num_epochs}",
            completed=num_done * step.num_steps + step.number,
            total=self._num_epochs * step.num_steps,
            figures=f"loss {loss:.4f}  {100 * accuracy:5.2f} %  {speed:,.0f} img/s left",
        )
        self._progress.refresh()

    def remove(self) -> None:
        """Make room for the next run's bar."""
        self._progress.remove_task(self._task)


class InterruptionNotes:
    """Lines that appear even with --quiet and --json: what an interrupted training has saved."""

    def __init__(self, group: "ProcessGroup") -> None:
        self._console = stderr(quiet=not group.is_main)

    def print(self, text: str, *, style: str = "yellow") -> None:
        """Print a line; of several processes only the main one does."""
        self._console.print(Text(text, style=style), soft_wrap=True)
