"""Everything a person or a program sees: results on stdout, all else on stderr.

Text that comes from the user (paths, names) goes through `Text`, never through
Rich's markup, so that brackets in it stay brackets.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    Progress,
)
from rich.table import Column, Table
from rich.text import Text

from mnistcli.system.machine import seconds_since_start
from mnistcli.views.console import (
    format_percent,
    plain_table,
    print_json,
    print_line,
    printable,
    stdout,
)

if TYPE_CHECKING:
    from mnistcli.runs.history import EpochResult
    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.engine import OnStep
    from mnistcli.training.multirun import Layout
    from mnistcli.training.trainer import TrainingPlan, TrainingRun
from mnistcli.views.console import data_option, shell_path, show_next
from mnistcli.views.progress import StatusNotes, StepBar, live_progress


def show_settings(
    plan: "TrainingPlan",
    sources: Mapping[str, str],
    *,
    layout: "Layout | None" = None,
    as_json: bool,
) -> None:
    """Every setting of a run that is not made, or of a series' first, and where it comes from."""
    values = plan.settings.model_dump(mode="json")
    model = values.pop("model")
    if as_json:
        several = {"layout": layout.model_dump(mode="json")} if layout else {}
        record = {"settings": {**values, "model": model}, "sources": dict(sources)}
        print_json({**several, **record})
        return
    table = plain_table("setting", "value", "from")
    for name, value in {**model, **values}.items():
        shown = json.dumps(value) if isinstance(value, dict) else format_value(value)
        source = "budget" if name == "width" and name not in sources else "default"
        fields = [each for key, each in sources.items() if key.startswith(f"{name}.")]
        given_by = ", ".join(dict.fromkeys(fields)) or sources.get(name, source)
        table.add_row(name, Text(shown), Text(given_by))
    print_header(stdout(), plan, *([("runs", layout.in_words(plan.settings))] if layout else []))
    stdout().print(table)


def format_value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def print_header(console: Console, plan: "TrainingPlan", *lines: tuple[str, str]) -> None:
    """What is about to be trained, on what, and why so."""
    chosen = plan.settings
    model = ", ".join(f"{name} {format_value(value)}" for name, value in chosen.network.items())
    epochs = f"{chosen.epochs} epoch{'s' if chosen.epochs > 1 else ''}"
    schedule = f"{epochs} of batch {chosen.batch_size}, {chosen.optimizer}"
    grid = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, 2))
    for label, value in (
        ("network", f"{chosen.arch}: {plan.num_params:,} parameters ({model})"),
        ("recipe", f"{chosen.recipe}: {schedule}, lr {chosen.lr:g} {chosen.schedule}"),
        ("device", f"{plan.device.value} ({plan.device.reason})"),
        ("precision", f"{plan.precision.value} ({plan.precision.reason})"),
        *lines,
    ):
        grid.add_row(label, Text(value))
        if not console.is_terminal:  # a program's line is not to be broken
            console.print(Text(f"{label:<11}{value}"), soft_wrap=True)
    if console.is_terminal:
        console.print(grid)


class TrainingDisplay:
    """A row an epoch and, on a terminal, a live bar under the rows."""

    def __init__(
        self,
        start: "TrainingRun",
        console: Console,
        progress: Progress | None,
        *,
        group: "ProcessGroup",
    ) -> None:
        self._console = console
        self._notes = StatusNotes(group)
        self._run = start.run
        self._is_resumed = start.is_resumed
        self._num_epochs = start.plan.settings.epochs
        self._history = start.history
        self._num_before = self._num_shown = len(start.history)
        self._progress = progress
        self._bar = StepBar(progress, start, group=group) if progress else None

    @property
    def on_step(self) -> "OnStep | None":
        """What the engine calls after a step; None where there is no bar to move."""
        return self._bar.move if self._bar else None

    def show_epochs(self) -> None:
        """Print the rows of the epochs that are new; a star marks the best one so far."""
        from mnistcli.runs.history import best_epoch

        for index in range(self._num_shown, len(self._history)):
            if index == self._num_before:
                self._console.print(_ROW_HEADER, style="dim", soft_wrap=True)
            epoch = self._history[index]
            is_best = best_epoch(self._history[: index + 1]) is epoch
            star = is_best and epoch.val_accuracy is not None
            self._console.print(_row(epoch, self._num_epochs, star=star), soft_wrap=True)
        self._num_shown = len(self._history)

    def interrupted(self) -> None:
        """Say what an interrupted run has kept, and how to go on."""
        self._end_rows()
        if not self._history:
            self._notes.say("Interrupted: no epoch was finished, so nothing is kept.")
            return
        path = shell_path(self._run.path)
        # It may not have come to writing down that more epochs are wanted.
        more = f" --epochs {self._num_epochs}" if self._is_resumed else ""
        self._notes.say(f"Interrupted after epoch {self._history[-1].epoch} of {self._num_epochs}.")
        self._notes.say(f"Go on: mnist train --resume {path}{more}", style="")
        self._notes.say(f"The best so far can be used: mnist eval {path}", style="")

    def stopped(self) -> None:
        """Say what a run that cannot go on has kept."""
        self._end_rows()
        if self._history and self._run.state.exists():
            path = printable(str(self._run.path))
            self._notes.say(f"Epoch {self._history[-1].epoch} is kept in {path}.")

    def _end_rows(self) -> None:
        if self._progress:
            self._progress.stop()
        self.show_epochs()


_ROW_HEADER = "  epoch        lr  train loss  train acc   val loss    val acc     time   * best"


def _row(epoch: "EpochResult", num_epochs: int, *, star: bool) -> str:
    val_loss = "-" if epoch.val_loss is None else f"{epoch.val_loss:.4f}"
    return (
        f"{epoch.epoch:>3}/{num_epochs:<3} {epoch.lr:>9.2g}  {epoch.train_loss:>10.4f}"
        f"  {format_percent(epoch.train_accuracy):>9}  {val_loss:>9}  {format_percent(epoch.val_accuracy):>9}"
        f"{'*' if star else ' '}  {epoch.seconds:>5.1f} s"
    )


@contextmanager
def training_display(
    start: "TrainingRun", num_train: int, num_val: int, *, group: "ProcessGroup", quiet: bool
) -> Iterator[TrainingDisplay]:
    """The header, and a display for what follows it."""
    console = Console(stderr=True, highlight=False, quiet=quiet)
    print_training_header(
        console,
        start.plan,
        sizes=(num_train, num_val),
        where=("run", printable(str(start.run.path))),
        group=group,
    )
    if start.is_resumed:
        console.print(_describe_resumption(start), soft_wrap=True)
    with live_progress(console) as progress:
        yield TrainingDisplay(start, console, progress, group=group)


def print_training_header(
    console: Console,
    plan: "TrainingPlan",
    *,
    sizes: tuple[int, int],
    where: tuple[str, str],
    group: "ProcessGroup",
) -> None:
    """The header of a training.

    `sizes` are the numbers of images to train on and to validate, `where` is
    the line that says what is made.
    """
    data = f"{plan.dataset.name}: {sizes[0]:,} to train on, {sizes[1]:,} to validate"
    lines = [("data", data), where]
    if group.world_size > 1:
        lines.append(("processes", f"{group.world_size}, each with its share of every batch"))
    print_header(console, plan, *lines)
    console.print()


def _describe_resumption(start: "TrainingRun") -> str:
    num_done, num_epochs = len(start.history), start.plan.settings.epochs
    if not start.is_finished:
        return f"Resuming at epoch {num_done + 1} of {num_epochs}."
    if start.has_reached and num_done < num_epochs:
        return f"It has reached {start.plan.settings.until:g} %; to train on: --until 100"
    done = f"All {num_epochs} epochs are" if num_epochs > 1 else "The one epoch is"
    return f"{done} done; to train on, name more: --epochs {2 * num_epochs}"


def show_trained(
    start: "TrainingRun", *, data_dir: Path | None, as_json: bool, quiet: bool
) -> None:
    """What a finished run has reached, where it lies, and what to type next.

    `data_dir` is what the command line named, which the next one has to name too.
    """
    from mnistcli.runs.history import best_epoch

    plan, run, history, kept = start.plan, start.run, start.history, best_epoch(start.history)
    if as_json:
        print_json(
            {
                "run": str(run.path),
                "checkpoint": str(run.best),
                "num_params": plan.num_params,
                "device": asdict(plan.device),
                "precision": asdict(plan.precision),
                "settings": plan.settings.model_dump(mode="json"),
                "best": asdict(kept),
                "command_seconds": seconds_since_start(),
                "epochs": [asdict(epoch) for epoch in history],
            }
        )
        return
    if quiet:
        print_line(str(run.path))
        return
    seconds = sum(epoch.seconds for epoch in history)
    console = stdout()
    console.print()
    if kept.val_loss is None:
        reached = f"Epoch {kept.epoch}, the last, is kept: nothing was held out to choose by."
    else:
        accuracy = (
            f"validation accuracy {format_percent(kept.val_accuracy)}, loss {kept.val_loss:.4f}"
        )
        reached = f"Epoch {kept.epoch} is the best: {accuracy}."
    console.print(Text(reached, style="bold"), soft_wrap=True)
    console.print(f"Trained {plan.num_params:,} parameters in {seconds:.1f} s.", soft_wrap=True)
    if plan.settings.until is not None and not start.is_resumed:
        console.print(_describe_target(start, seconds_since_start()), soft_wrap=True)
    console.print(Text(f"Kept in {printable(str(run.path))}"), soft_wrap=True)
    path = shell_path(run.path)
    show_next(f"eval {path}{data_option(data_dir)}", f"plot {path}", f"predict digit.png -c {path}")


def _describe_target(start: "TrainingRun", seconds: float) -> str:
    until, accuracy = start.plan.settings.until, format_percent(start.history[-1].val_accuracy)
    if start.has_reached:
        return f"Reached {until:g} % after {seconds:.1f} s, start-up included."
    return f"Did not reach {until:g} %: {accuracy} after {seconds:.1f} s, start-up included."
