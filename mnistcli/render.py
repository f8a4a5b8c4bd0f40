"""Everything a person or a program sees: results on stdout, all else on stderr.

Text that comes from the user (paths, names) goes through `Text`, never through
Rich's markup, so that brackets in it stay brackets.
"""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from mnistcli.console import (
    format_percent,
    number_column,
    plain_table,
    print_json,
    print_line,
    printable,
    stderr,
    stdout,
)
from mnistcli.errors import MnistError
from mnistcli.machine import seconds_since_start
from mnistcli.registry import ARCHITECTURES, RECIPES

if TYPE_CHECKING:
    from mnistcli.checkpoint import LoadedModel
    from mnistcli.datasets import Dataset, FileState, OnDownloadProgress
    from mnistcli.distributed import ProcessGroup
    from mnistcli.engine import OnStep, StepProgress
    from mnistcli.metrics import EpochResult
    from mnistcli.multirun import Layout
    from mnistcli.network_summary import NetworkSummary
    from mnistcli.trainer import TrainingPlan, TrainingRun

# How often a bar is redrawn: reading the running loss makes a GPU wait.
REDRAW_SECONDS = 0.1


def print_error(problem: MnistError) -> None:
    """What happened, why, and what to do next."""
    console = stderr()
    console.print(Text.assemble(("Error: ", "bold red"), printable(problem.what)), soft_wrap=True)
    for line in problem.why.splitlines():
        console.print(Text(f"  {printable(line)}"), soft_wrap=True)
    if problem.fix:
        console.print(Text(f"  {printable(problem.fix)}", style="bold"), soft_wrap=True)


@contextmanager
def download_progress(*, quiet: bool = False) -> "Iterator[OnDownloadProgress]":
    """A bar a file on a terminal, a line a file elsewhere."""
    console = stderr()
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=quiet or not sys.stderr.isatty(),
    )
    tasks: dict[str, TaskID] = {}

    def on_progress(name: str, num_bytes: int, total_bytes: int | None) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total_bytes)
            if progress.disable and not quiet:
                console.print(Text(f"fetching {name}"))
        progress.update(tasks[name], completed=num_bytes, total=total_bytes)

    with progress:
        yield on_progress


def show_files(
    dataset: "Dataset", data_dir: Path, states: "Sequence[FileState]", *, as_json: bool, quiet: bool
) -> None:
    """What became of the files of a data set."""
    if as_json:
        records = [{**asdict(state), "path": str(state.path)} for state in states]
        print_json({"dataset": dataset.name, "data_dir": str(data_dir), "files": records})
    elif quiet:
        print_line(str(data_dir))
    elif not states:
        print_line(f"{dataset.name} needs no download: {dataset.summary}.")
    else:
        table = plain_table("file", "state")
        for state in states:
            bad = state.state in ("missing", "damaged")
            table.add_row(Text(state.path.name), Text(state.state, style="red" if bad else "green"))
        stdout().print(table)
        stdout().print(Text(f"Directory: {states[0].path.parent}"), soft_wrap=True)


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


@contextmanager
def live_progress(console: Console) -> Iterator[Progress | None]:
    """Room for a `Bar` under the lines of a terminal; None where there is no terminal to show."""
    if console.quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        yield None
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        auto_refresh=False,
        transient=True,
        expand=True,
    )
    with progress:
        yield progress


class StatusNotes:
    """Lines on stderr that a program too, or who asked for quiet, has to know: what is kept."""

    def __init__(self, group: "ProcessGroup") -> None:
        self._console = Console(stderr=True, highlight=False, quiet=not group.is_leader)

    def say(self, text: str, *, style: str = "yellow") -> None:
        """Print a line; of several processes the leader alone does."""
        self._console.print(Text(text, style=style), soft_wrap=True)


class StepBar:
    """A live bar that moves with the steps of a training; `label` says of which."""

    def __init__(
        self, progress: Progress, start: "TrainingRun", *, group: "ProcessGroup", label: str = ""
    ) -> None:
        self._progress = progress
        self._label = label
        self._num_epochs = start.plan.settings.epochs
        self._num_processes = group.world_size
        self._history = start.history
        self._task = progress.add_task("", total=None, figures="")
        self._epoch_started = self._drawn = time.perf_counter()

    def move(self, step: "StepProgress") -> None:
        """Show a step that is done, unless another was shown just before."""
        now = time.perf_counter()
        if step.number == 1:
            self._epoch_started = now
        if now - self._drawn < REDRAW_SECONDS and step.number < step.num_steps:
            return
        self._drawn = now
        loss, accuracy = (step.totals / step.num_images).tolist()
        # The first step, which has no time before it, is left out of the speed.
        num_timed = self._num_processes * step.num_images * (step.number - 1) / step.number
        speed = num_timed / max(now - self._epoch_started, 1e-9)
        num_done = len(self._history)
        self._progress.update(
            self._task,
            description=f"{self._label}epoch {num_done + 1}/{self._num_epochs}",
            completed=num_done * step.num_steps + step.number,
            total=self._num_epochs * step.num_steps,
            figures=f"loss {loss:.4f}  {100 * accuracy:5.2f} %  {speed:,.0f} img/s",
        )
        self._progress.refresh()

    def remove(self) -> None:
        """Make room for the next."""
        self._progress.remove_task(self._task)


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
        from mnistcli.metrics import best_epoch

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
    from mnistcli.metrics import best_epoch

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


def show_next(*commands: str) -> None:
    """The commands that a person may want to type now, without their `mnist`."""
    console = stdout()
    console.print("\nNext:")
    for command in commands:
        console.print(Text(f"  mnist {command}", style="cyan"), soft_wrap=True)


def shell_path(path: Path) -> str:
    """A path as a shell reads it."""
    return printable(shlex.quote(str(path)))


def data_option(data_dir: Path | None) -> str:
    """The option that says where data sets lie, if one was given."""
    return f" --data-dir {shell_path(data_dir)}" if data_dir else ""


def _describe_target(start: "TrainingRun", seconds: float) -> str:
    until, accuracy = start.plan.settings.until, format_percent(start.history[-1].val_accuracy)
    if start.has_reached:
        return f"Reached {until:g} % after {seconds:.1f} s, start-up included."
    return f"Did not reach {until:g} %: {accuracy} after {seconds:.1f} s, start-up included."


def show_network(
    described: "NetworkSummary", *, loaded: "LoadedModel | None" = None, as_json: bool, quiet: bool
) -> None:
    """The layers of a network and their totals."""
    chosen = described.settings
    if as_json:
        print_json(_network_record(described))
        return
    if quiet:
        print_line(str(described.num_params))
        return
    table = plain_table(
        "layer", "kind", number_column("output"), number_column("parameters"), number_column("MACs")
    )
    for layer in described.layers:
        shape = " x ".join(map(str, layer.output_shape))
        params = f"{layer.num_params:,}" if layer.num_params else ""
        macs = f"{layer.num_macs:,}" if layer.num_macs else ""
        table.add_row(layer.name, layer.kind, shape, params, macs)
    console = stdout()
    title = f"{chosen.arch} (recipe {chosen.recipe})"
    console.print(
        Text(f"{loaded.path}: {title}" if loaded else title, style="bold"), soft_wrap=True
    )
    side = described.input_px
    console.print(f"Sees one grey picture of {side} x {side} pixels.\n")
    console.print(table)
    console.print(
        f"\n{described.num_params:,} parameters, {described.num_bytes / 1000:,.1f} KB as float32; "
        f"{described.num_macs:,} MACs (multiply-accumulates) a picture"
    )


def _network_record(described: "NetworkSummary") -> dict[str, Any]:
    return {
        "recipe": described.settings.recipe,
        "model": described.settings.model.model_dump(mode="json"),
        "input_px": described.input_px,
        "num_params": described.num_params,
        "num_bytes": described.num_bytes,
        "num_macs": described.num_macs,
        "layers": [asdict(layer) for layer in described.layers],
    }


def show_registry(networks: "Sequence[NetworkSummary]", *, as_json: bool, quiet: bool) -> None:
    """The architectures and the recipes side by side; quiet: the recipes' names."""
    if as_json:
        print_json({"recipes": [_network_record(each) for each in networks]})
        return
    by_recipe = {each.settings.recipe: each for each in networks}
    if quiet:
        print_line("\n".join(by_recipe))
        return
    architectures = plain_table("architecture", "what it is", number_column("parameters"))
    for each in ARCHITECTURES.values():
        num_params = by_recipe[each.default_recipe].num_params
        architectures.add_row(each.name, each.summary, f"{num_params:,}")
    recipes = plain_table(
        "recipe", "arch", "what it trains", number_column("parameters"), number_column("MACs")
    )
    for name, described in by_recipe.items():
        recipe = RECIPES[name]
        recipes.add_row(
            name,
            recipe.arch,
            recipe.summary,
            f"{described.num_params:,}",
            f"{described.num_macs / 1e6:,.1f} M",
        )
    console = stdout()
    console.print(architectures)
    console.print()
    console.print(recipes)
    console.print("\nLayer by layer: mnist summary --arch NAME, or --recipe NAME")


def show_plot_path(target: Path, *, as_json: bool, quiet: bool) -> None:
    """Where a figure was written."""
    if as_json:
        print_json({"file": str(target)})
    else:
        print_line(str(target) if quiet else f"Drew {target}")
