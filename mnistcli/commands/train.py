"""`mnist train`."""

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.options import DATA, OUTPUT, TRAINING, one_of, setting
from mnistcli.errors import EXIT_INTERRUPTED, MnistError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mnistcli.distributed import Workers
    from mnistcli.render import TrainingDisplay
    from mnistcli.series import Series
    from mnistcli.spreads import SeriesDisplay
    from mnistcli.training import Start

Value = str | None


def train(
    ctx: typer.Context,
    arch: options.Arch = None,
    recipe: options.Recipe = None,
    max_params: options.MaxParams = None,
    hidden: options.Hidden = None,
    channels: options.Channels = None,
    kernel_size: options.KernelSize = None,
    padding: options.Padding = None,
    pool: options.Pool = None,
    batch_norm: options.BatchNorm = None,
    dropout: options.Dropout = None,
    width: options.Width = None,
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
    batch_size: options.BatchSize = None,
    lr: Annotated[
        Value, setting("--lr", help="Learning rate (its peak).", metavar="X", panel=TRAINING)
    ] = None,
    optimizer: Annotated[
        Value,
        setting(
            "--optimizer",
            help="sgd, adam or adamw.",
            metavar="NAME",
            panel=TRAINING,
            complete=one_of(("sgd", "adam", "adamw")),
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
            help="onecycle, cosine, step, plateau or constant.",
            metavar="NAME",
            panel=TRAINING,
            complete=one_of(("onecycle", "cosine", "step", "plateau", "constant")),
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
            complete=one_of(("cross-entropy", "nll")),
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
    augment: options.Augment = None,
    ema: options.Ema = None,
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
            help="auto, cpu, cuda or mps.",
            metavar="NAME",
            panel=TRAINING,
            default="auto",
            complete=one_of(("auto", "cpu", "cuda", "mps")),
        ),
    ] = None,
    precision: Annotated[
        Value,
        setting(
            "--precision",
            help="auto, float32, bfloat16 or float16.",
            metavar="NAME",
            panel=TRAINING,
            default="auto",
            complete=one_of(("auto", "float32", "bfloat16", "float16")),
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
    dataset: options.Dataset = None,
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
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
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
    out: options.Out = Path("runs"),
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Go on with a run or a series: its name, its directory or `last`. "
            "With more --epochs, go on beyond its end.",
            metavar="RUN",
            rich_help_panel=OUTPUT,
            autocompletion=options.complete_run,
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
    json: options.Json = False,
    quiet: Annotated[
        bool,
        options.quiet("the run's directory, or a series' mean accuracy (last epochs, in percent)"),
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
    from mnistcli import (
        datasets,
        distributed,
        machine,
        render,
        runs,
        series,
        settings,
        spreads,
        training,
    )
    from mnistcli.commands import data

    def resumed(name_or_path: str) -> "AbstractContextManager[Start | Series]":
        extra = {"config": config, "name": name, "seeds": seeds, "folds": folds}
        extra["dry_run"] = dry_run or None
        changes = options.given_settings(ctx)
        changes |= {key: value for key, value in extra.items() if value is not None}
        several = runs.find_series(name_or_path, out)
        if several:
            return series.resumed(several, changes=changes)
        return training.resumed(name_or_path, changes=changes, out=out)

    def started() -> "AbstractContextManager[Start | Series]":
        given = options.given_settings(ctx)
        layout = series.pick_layout(seeds, folds, given=given)
        if layout:
            given |= layout.flags
        options.note_misspelt_variables()
        resolved = settings.resolve(given, config=config, environ=os.environ)
        if dry_run:
            if layout:
                series.check(resolved.settings, layout)
            plan = training.plan(resolved.settings)
            if json or not quiet:
                render.settings(plan, resolved.sources, layout=layout, as_json=json)
            raise typer.Exit
        if layout:
            return series.started(resolved.settings, layout=layout, name=name, out=out)
        return training.started(resolved.settings, name=name, out=out)

    def begin() -> "Start | Series":
        return held.enter_context(started() if resume is None else resumed(resume))

    machine.keep_freed_memory()
    with ExitStack() as held:
        workers = held.enter_context(distributed.joined())
        begun = workers.from_leader(begin)
        workers.take_device(begun.plan.device.value)
        folder = datasets.pick_data_dir(data_dir, os.environ)
        data.ready(begun.plan.dataset, folder, offline=offline)
        quiet_here = quiet or json or not workers.leads
        if isinstance(begun, series.Series):
            _train_series(begun, folder, workers=workers, quiet=quiet_here)
            if workers.leads:
                spreads.report(begun, data_dir=data_dir, as_json=json, quiet=quiet)
        else:
            _train_run(begun, folder, workers=workers, quiet=quiet_here)
            if workers.leads:
                render.trained(begun, data_dir=data_dir, as_json=json, quiet=quiet)


def _train_run(start: "Start", data_dir: Path, *, workers: "Workers", quiet: bool) -> None:
    from mnistcli import render, training

    examples, val = training.load(start.plan, data_dir, workers=workers)
    sizes = (len(examples), len(val))
    shown = render.training(start, *sizes, workers=workers, quiet=quiet)
    with shown as display, _told_if_broken_off(display):
        for _ in training.execute(start, examples, val, workers=workers, on_step=display.on_step):
            display.show_epochs()


def _train_series(several: "Series", data_dir: Path, *, workers: "Workers", quiet: bool) -> None:
    from mnistcli import datasets, series, spreads, training

    examples = datasets.load(several.plan.dataset, "train", data_dir)
    # The first run's, so that what cannot be divided is refused before anything is begun.
    sizes = map(len, training.divide(several.plan, examples, workers=workers))
    shown = spreads.training(several, *sizes, workers=workers, quiet=quiet)
    with shown as display, _told_if_broken_off(display):
        for result in series.execute(several, examples, workers=workers, on_run=display.begin):
            display.show(result)


@contextmanager
def _told_if_broken_off(display: "TrainingDisplay | SeriesDisplay") -> "Iterator[None]":
    """Say what is kept of a training that is interrupted or cannot go on, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        display.interrupted()
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except MnistError:
        display.stopped()
        raise
