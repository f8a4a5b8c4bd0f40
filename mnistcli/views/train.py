"""What `mnist train` shows of one run: its settings, header, epochs and result."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from mnistcli.config.differences import format_value
from mnistcli.config.settings import TrainSettings
from mnistcli.errors import count_noun
from mnistcli.runs.history import EpochResult, best_epoch, training_seconds
from mnistcli.system.machine import seconds_since_start
from mnistcli.training.device import Choice
from mnistcli.training.multirun import Layout
from mnistcli.views.console import (
    data_option,
    format_duration,
    format_percent,
    plain_table,
    print_json,
    print_labeled,
    print_line,
    print_next,
    print_note,
    printable,
    shell_path,
    stderr,
    stdout,
)
from mnistcli.views.epochs import describe_best, print_epoch, print_epoch_header
from mnistcli.views.progress import InterruptionNotes, StepBar, live_progress

if TYPE_CHECKING:
    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.engine import OnStep
    from mnistcli.training.trainer import TrainingPlan, TrainingRun


@dataclass(frozen=True)
class SettingsRecord:
    """Every setting and its source, by `--dry-run`; of a multi-run those of its first run."""

    layout: Layout | None
    settings: TrainSettings
    sources: dict[str, str]


@dataclass(frozen=True)
class TrainedRecord:
    """A finished run: its directory, its best checkpoint, its epochs and how long all took."""

    run: str
    checkpoint: str
    num_params: int
    device: Choice
    precision: Choice
    settings: TrainSettings
    best: EpochResult
    command_seconds: float
    epochs: list[EpochResult]


def show_settings(
    plan: "TrainingPlan",
    sources: Mapping[str, str],
    *,
    layout: Layout | None = None,
    as_json: bool,
) -> None:
    """Show every setting and its source, for `--dry-run`; of a multi-run those of its first run."""
    if as_json:
        print_json(SettingsRecord(layout, plan.settings, dict(sources)))
        return
    values = plan.settings.model_dump(mode="json")
    model = values.pop("model")
    table = plain_table("setting", "value", "from")
    for name, value in {**model, **values}.items():
        text = json.dumps(value) if isinstance(value, dict) else format_value(value)
        table.add_row(name, Text(text), Text(_source(name, sources)))
    print_header(stdout(), plan, *([("runs", layout.describe(plan.settings))] if layout else []))
    stdout().print(table)


def _source(name: str, sources: Mapping[str, str]) -> str:
    """Where a setting comes from; of a table all the sources of its fields."""
    of_fields = [source for key, source in sources.items() if key.startswith(f"{name}.")]
    if of_fields:
        return ", ".join(dict.fromkeys(of_fields))
    filled_in = {"width": "budget", "own_data": "data"}
    return sources.get(name, filled_in.get(name, "default"))


def print_header(console: Console, plan: "TrainingPlan", *lines: tuple[str, str]) -> None:
    """Print what will be trained, with which settings, on which device, and why on that one."""
    settings = plan.settings
    model = ", ".join(f"{name} {format_value(value)}" for name, value in settings.network.items())
    epochs = count_noun(settings.epochs, "epoch")
    schedule = f"{epochs} of batch {settings.batch_size}, {settings.optimizer}"
    own_lines = [
        ("network", f"{settings.arch}: {plan.num_params:,} parameters ({model})"),
        ("recipe", f"{settings.recipe}: {schedule}, lr {settings.lr:g} {settings.schedule}"),
        ("device", f"{plan.device.value} ({plan.device.reason})"),
        ("precision", f"{plan.precision.value} ({plan.precision.reason})"),
    ]
    print_labeled(console, [*own_lines, *lines])


def print_training_header(
    console: Console,
    plan: "TrainingPlan",
    *,
    num_train: int,
    num_val: int,
    destination: tuple[str, str],
    seconds: float | None,
    group: "ProcessGroup",
) -> None:
    """Print the header of a training; `destination` labels and names what it creates.

    `seconds` is the estimated duration, or None.
    """
    lines = [("data", _describe_data(plan, num_train, num_val)), destination]
    if plan.settings.start:
        lines.append(("start", f"the weights of {printable(plan.settings.start.checkpoint)}"))
    if group.world_size > 1:
        lines.append(("processes", f"{group.world_size}, each with its share of every batch"))
    if seconds is not None:
        up_to = "up to " if plan.settings.until is not None else ""
        time = f"{up_to}about {format_duration(seconds)} on this machine (from three trial steps)"
        lines.append(("time", time))
    print_header(console, plan, *lines)
    console.print()


def _describe_data(plan: "TrainingPlan", num_train: int, num_val: int) -> str:
    from mnistcli.data.own_data import TEST_SHARE

    dataset = plan.dataset
    parts = f"{num_train:,} to train on, {num_val:,} to validate"
    if not dataset.digest:
        return f"{dataset.title}: {parts}"
    classes = f"{len(dataset.classes)} classes, {dataset.classes[0]} to {dataset.classes[-1]}"
    test = "has a test part"
    if dataset.test_seed is not None:
        test = f"{100 * TEST_SHARE:g} % held out for testing by seed {dataset.test_seed}"
    return printable(f"{dataset.title}: {parts}; {test}; {classes}")


@contextmanager
def training_display(
    run: "TrainingRun",
    num_train: int,
    num_val: int,
    *,
    epoch_seconds: float | None,
    group: "ProcessGroup",
    quiet: bool,
) -> Iterator["TrainingDisplay"]:
    """Print the header; the display is for what follows.

    `epoch_seconds` is the estimated time of an epoch.
    """
    console = stdout(quiet=quiet, lasting=True)
    num_epochs = run.plan.settings.epochs - len(run.history)
    print_training_header(
        console,
        run.plan,
        num_train=num_train,
        num_val=num_val,
        destination=("run", printable(str(run.run.path))),
        seconds=None if epoch_seconds is None else num_epochs * epoch_seconds,
        group=group,
    )
    if run.is_resumed:
        stderr(quiet=quiet).print(_describe_resumption(run), soft_wrap=True)
    with live_progress(console) as progress:
        yield TrainingDisplay(run, console, progress, group=group)


def _describe_resumption(run: "TrainingRun") -> str:
    num_done, num_epochs = len(run.history), run.plan.settings.epochs
    if not run.is_finished:
        return f"Resuming at epoch {num_done + 1} of {num_epochs}."
    if run.has_reached_target and num_done < num_epochs:
        return f"It has reached {run.plan.settings.until:g} %. To continue: --until 100"
    done = f"All {num_epochs} epochs are" if num_epochs > 1 else "Its one epoch is"
    return f"{done} done. To continue, raise the number: --epochs {2 * num_epochs}"


class TrainingDisplay:
    """A row for every epoch and, on a terminal, a live bar below the rows."""

    def __init__(
        self,
        run: "TrainingRun",
        console: Console,
        progress: Progress | None,
        *,
        group: "ProcessGroup",
    ) -> None:
        self._console = console
        self._notes = InterruptionNotes(group)
        self._run = run
        self._num_epochs = run.plan.settings.epochs
        self._num_before = self._num_shown = len(run.history)
        self._progress = progress
        self._bar = StepBar(progress, run, group=group) if progress else None

    @property
    def on_step(self) -> "OnStep | None":
        """What the engine calls after a step; None without a bar."""
        return self._bar.update if self._bar else None

    def show_epochs(self) -> None:
        """Print the rows of new epochs; a star marks an epoch that is the best so far."""
        history = self._run.history
        for index in range(self._num_shown, len(history)):
            if index == self._num_before:
                print_epoch_header(self._console)
            print_epoch(self._console, history[: index + 1], num_epochs=self._num_epochs)
        self._num_shown = len(history)

    def interrupted(self) -> None:
        """Say what an interrupted run has saved and how to resume it."""
        self._finish_rows()
        history = self._run.history
        if not history:
            self._notes.print("Interrupted before the first epoch was finished; nothing is saved.")
            return
        path = shell_path(self._run.run.path)
        # An interrupted resumption may not have stored the new number of epochs yet.
        epochs = f" --epochs {self._num_epochs}" if self._run.is_resumed else ""
        self._notes.print(f"Interrupted after epoch {history[-1].epoch} of {self._num_epochs}.")
        self._notes.print(f"To resume: mnist train --resume {path}{epochs}", style="")
        usable = _what_to_evaluate(self._run)
        is_last = usable != self._run.run.path or history[-1].val_accuracy is None
        epoch = "last epoch" if is_last else "best epoch so far"
        self._notes.print(f"To evaluate the {epoch}: mnist eval {shell_path(usable)}", style="")

    def stopped(self) -> None:
        """Say what a run that failed has saved."""
        self._finish_rows()
        if self._run.history and self._run.run.state.exists():
            path = printable(str(self._run.run.path))
            self._notes.print(f"Epoch {self._run.history[-1].epoch} is saved in {path}.")

    def _finish_rows(self) -> None:
        if self._progress:
            self._progress.stop()
        self.show_epochs()


def show_trained(run: "TrainingRun", *, data_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """Show what a finished run has reached, where it is, and what to type next.

    `data_dir` is the one given on the command line, which the next command needs too.
    """
    plan, directory, best = run.plan, run.run, best_epoch(run.history)
    if as_json:
        print_json(
            TrainedRecord(
                run=str(directory.path),
                checkpoint=str(directory.best),
                num_params=plan.num_params,
                device=plan.device,
                precision=plan.precision,
                settings=plan.settings,
                best=best,
                command_seconds=seconds_since_start(),
                epochs=list(run.history),
            )
        )
        return
    if quiet:
        print_line(str(directory.path))
        return
    console = stdout()
    console.print()
    console.print(Text(describe_best(best), style="bold"), soft_wrap=True)
    seconds = training_seconds(run.history)
    console.print(f"Trained {plan.num_params:,} parameters in {seconds:.1f} s.", soft_wrap=True)
    if plan.settings.until is not None and not run.is_resumed:
        console.print(_describe_target(run, seconds_since_start()), soft_wrap=True)
    console.print(Text(f"Saved in {printable(str(directory.path))}"), soft_wrap=True)
    path, data = shell_path(directory.path), data_option(data_dir)
    usable = _what_to_evaluate(run)
    if usable != directory.path:
        lost = printable(str(directory.best))
        print_note(f"{lost} is missing or damaged; last.pth has the last epoch's weights.")
    # One epoch makes no curve.
    plot = f"plot {path}" + (f" --kind mistakes{data}" if len(run.history) == 1 else "")
    print_next(f"eval {shell_path(usable)}{data}", plot)


def _what_to_evaluate(run: "TrainingRun") -> Path:
    """The run, or its last checkpoint if a resumed run has lost the best one."""
    from mnistcli.runs.checkpoint import is_valid_checkpoint

    directory = run.run
    if not run.is_resumed or is_valid_checkpoint(directory.best):
        return directory.path
    return directory.last


def _describe_target(run: "TrainingRun", seconds: float) -> str:
    until = f"{run.plan.settings.until:g} %"
    if run.has_reached_target:
        return f"Reached {until} after {seconds:.1f} s, including start-up."
    accuracy = format_percent(run.history[-1].val_accuracy)
    return f"Did not reach {until}: {accuracy} after {seconds:.1f} s, including start-up."
