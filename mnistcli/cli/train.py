"""`mnist train`."""

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.options import (
    DATA,
    OUTPUT,
    TRAINING,
    Arch,
    Augment,
    BatchNorm,
    BatchSize,
    Channels,
    DataDir,
    Dataset,
    Dropout,
    Ema,
    Hidden,
    Json,
    KernelSize,
    MaxParams,
    Offline,
    Out,
    Padding,
    Pool,
    Recipe,
    Width,
    complete_from,
    complete_run,
    given_settings,
    one_of,
    quiet_option,
    setting,
    warn_misspelled_variables,
)
from mnistcli.config.choices import (
    DeviceName,
    LossName,
    OptimizerName,
    PrecisionName,
    ScheduleName,
    values,
)
from mnistcli.errors import EXIT_INTERRUPTED, MnistError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.multirun import MultiRun
    from mnistcli.training.trainer import TrainingRun
    from mnistcli.views.multirun import MultiRunDisplay
    from mnistcli.views.train import TrainingDisplay

Value = str | None


def train(
    ctx: typer.Context,
    arch: Arch = None,
    recipe: Recipe = None,
    max_params: MaxParams = None,
    hidden: Hidden = None,
    channels: Channels = None,
    kernel_size: KernelSize = None,
    padding: Padding = None,
    pool: Pool = None,
    batch_norm: BatchNorm = None,
    dropout: Dropout = None,
    width: Width = None,
    epochs: Annotated[
        Value, setting("--epochs", "-e", help="Passes over the data.", metavar="N", panel=TRAINING)
    ] = None,
    until: Annotated[
        Value,
        setting(
            "--until",
            help="Stop at this validation accuracy in %, if it comes before the last epoch.",
            metavar="PERCENT",
            panel=TRAINING,
            default="never",
        ),
    ] = None,
    batch_size: BatchSize = None,
    lr: Annotated[
        Value, setting("--lr", help="Learning rate (its peak).", metavar="X", panel=TRAINING)
    ] = None,
    optimizer: Annotated[
        Value,
        setting(
            "--optimizer",
            help=one_of(OptimizerName),
            metavar="NAME",
            panel=TRAINING,
            complete=complete_from(values(OptimizerName)),
        ),
    ] = None,
    momentum: Annotated[
        Value,
        setting("--momentum", help="Of sgd.", metavar="X", panel=TRAINING, default="0.9"),
    ] = None,
    schedule: Annotated[
        Value,
        setting(
            "--schedule",
            help=one_of(ScheduleName),
            metavar="NAME",
            panel=TRAINING,
            complete=complete_from(values(ScheduleName)),
        ),
    ] = None,
    weight_decay: Annotated[
        Value,
        setting(
            "--weight-decay",
            help="Of weight matrices and kernels only.",
            metavar="X",
            panel=TRAINING,
        ),
    ] = None,
    loss: Annotated[
        Value,
        setting(
            "--loss",
            help="cross-entropy, or nll: the same function of the logits, written in two steps.",
            metavar="NAME",
            panel=TRAINING,
            complete=complete_from(values(LossName)),
        ),
    ] = None,
    label_smoothing: Annotated[
        Value,
        setting(
            "--label-smoothing",
            help="Share of the target spread over all classes.",
            metavar="P",
            panel=TRAINING,
        ),
    ] = None,
    augment: Augment = None,
    ema: Ema = None,
    seed: Annotated[
        Value,
        setting(
            "--seed",
            "-s",
            help="Of every random choice.",
            metavar="N",
            panel=TRAINING,
            default="0",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            help="Train this many times, with one seed after another from --seed on, and "
            "compare: mean and standard deviation.",
            metavar="N",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    device: Annotated[
        Value,
        setting(
            "--device",
            help=one_of(DeviceName),
            metavar="NAME",
            panel=TRAINING,
            default="auto",
            complete=complete_from(values(DeviceName)),
        ),
    ] = None,
    precision: Annotated[
        Value,
        setting(
            "--precision",
            help=one_of(PrecisionName),
            metavar="NAME",
            panel=TRAINING,
            default="auto",
            complete=complete_from(values(PrecisionName)),
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Settings from a JSON or TOML file, such as a run's settings.json.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    dataset: Dataset = None,
    val_size: Annotated[
        Value,
        setting(
            "--val-size",
            help="Held out for validation: below 1 a share of the training set, else a count.",
            metavar="X",
            panel=DATA,
            default="0.1",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            help="Cross-validate: divide the training set into this many parts, and train once "
            "for each, held out for validation.",
            metavar="K",
            rich_help_panel=DATA,
        ),
    ] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="The run's name, or that of the series.",
            show_default="the recipe and the time",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    out: Out = Path("runs"),
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Go on with a run or a series: its name, its directory or `last`. "
            "With more --epochs, go on beyond its end.",
            metavar="RUN",
            rich_help_panel=OUTPUT,
            autocompletion=complete_run,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show every setting and where it comes from, with -q only check them; "
            "train nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: Json = False,
    quiet: Annotated[
        bool,
        quiet_option("the run's directory, or a series' mean accuracy (last epochs, in percent)"),
    ] = False,
) -> None:
    """Train a network and keep it as a run.

    Every setting that is not given comes from the recipe, by default
    cnn-small. The best epoch is chosen on images held out from the training
    set; the test set is left to `mnist eval`. With --seeds or --folds several
    networks are trained one after the other, and compared.

    Examples:
    $ mnist train --arch cnn-small --max-params 8000
    $ mnist train --recipe cnn-26k --epochs 3 --name quick
    $ mnist train --resume last
    """
    from mnistcli.cli.inputs import ensure_downloaded
    from mnistcli.config.resolve import resolve_settings
    from mnistcli.data.datasets import resolve_data_dir
    from mnistcli.runs.find import find_multirun
    from mnistcli.system.machine import keep_freed_memory
    from mnistcli.training.distributed import process_group
    from mnistcli.training.multirun import (
        MultiRun,
        check_layout,
        parse_layout,
        resume_multirun,
        start_multirun,
    )
    from mnistcli.training.trainer import make_plan, resume_run, start_run
    from mnistcli.views.multirun import show_multirun
    from mnistcli.views.train import show_settings, show_trained

    def resumed(name_or_path: str) -> "AbstractContextManager[TrainingRun | MultiRun]":
        extra = {"config": config, "name": name, "seeds": seeds, "folds": folds}
        extra["dry_run"] = dry_run or None
        changes = given_settings(ctx)
        changes |= {key: value for key, value in extra.items() if value is not None}
        several = find_multirun(name_or_path, out)
        if several:
            return resume_multirun(several, changes=changes)
        return resume_run(name_or_path, changes=changes, out=out)

    def started() -> "AbstractContextManager[TrainingRun | MultiRun]":
        given = given_settings(ctx)
        layout = parse_layout(seeds, folds, given=given)
        if layout:
            given |= layout.flags
        warn_misspelled_variables()
        resolved = resolve_settings(given, config=config, environ=os.environ)
        if dry_run:
            if layout:
                check_layout(resolved.settings, layout)
            plan = make_plan(resolved.settings)
            if json or not quiet:
                show_settings(plan, resolved.sources, layout=layout, as_json=json)
            raise typer.Exit
        if layout:
            return start_multirun(resolved.settings, layout=layout, name=name, out=out)
        return start_run(resolved.settings, name=name, out=out)

    def begin() -> "TrainingRun | MultiRun":
        return held.enter_context(started() if resume is None else resumed(resume))

    keep_freed_memory()
    with ExitStack() as held:
        group = held.enter_context(process_group())
        begun = group.broadcast_from_leader(begin)
        group.use_own_gpu(begun.plan.device.value)
        folder = resolve_data_dir(data_dir, os.environ)
        ensure_downloaded(begun.plan.dataset, folder, offline=offline)
        quiet_here = quiet or json or not group.is_leader
        if isinstance(begun, MultiRun):
            _train_multirun(begun, folder, group=group, quiet=quiet_here)
            if group.is_leader:
                show_multirun(begun, data_dir=data_dir, as_json=json, quiet=quiet)
        else:
            _train_run(begun, folder, group=group, quiet=quiet_here)
            if group.is_leader:
                show_trained(begun, data_dir=data_dir, as_json=json, quiet=quiet)


def _train_run(start: "TrainingRun", data_dir: Path, *, group: "ProcessGroup", quiet: bool) -> None:
    from mnistcli.training.trainer import load_training_data, train_run
    from mnistcli.views.train import training_display

    examples, val = load_training_data(start.plan, data_dir, group=group)
    sizes = (len(examples), len(val))
    shown = training_display(start, *sizes, group=group, quiet=quiet)
    with shown as display, _report_interruption(display):
        for _ in train_run(start, examples, val, group=group, on_step=display.on_step):
            display.show_epochs()


def _train_multirun(
    several: "MultiRun", data_dir: Path, *, group: "ProcessGroup", quiet: bool
) -> None:
    from mnistcli.data.datasets import load_dataset
    from mnistcli.training.multirun import train_multirun
    from mnistcli.training.trainer import split_for_training
    from mnistcli.views.multirun import multirun_display

    examples = load_dataset(several.plan.dataset, "train", data_dir)
    # The first run's, so that what cannot be divided is refused before anything is begun.
    sizes = map(len, split_for_training(several.plan, examples, group=group))
    shown = multirun_display(several, *sizes, group=group, quiet=quiet)
    with shown as display, _report_interruption(display):
        for result in train_multirun(several, examples, group=group, on_run=display.begin):
            display.show(result)


@contextmanager
def _report_interruption(display: "TrainingDisplay | MultiRunDisplay") -> "Iterator[None]":
    """Say what is kept of a training that is interrupted or cannot go on, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        display.interrupted()
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except MnistError:
        display.stopped()
        raise
