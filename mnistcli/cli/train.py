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
    Composed,
    DataDir,
    Dataset,
    Depthwise,
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
    Raw,
    Recipe,
    Text,
    Width,
    complete_run,
    given_settings,
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
)
from mnistcli.errors import EXIT_INTERRUPTED, MnistError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mnistcli.training.distributed import ProcessGroup
    from mnistcli.training.multirun import MultiRun
    from mnistcli.training.trainer import TrainingRun
    from mnistcli.views.multirun import MultiRunDisplay
    from mnistcli.views.train import TrainingDisplay

_TIMING = "timing three steps"


def train(
    ctx: typer.Context,
    arch: Arch = None,
    recipe: Recipe = None,
    max_params: MaxParams = None,
    hidden: Hidden = None,
    channels: Channels = None,
    kernel_size: KernelSize = None,
    depthwise: Depthwise = None,
    padding: Padding = None,
    pool: Pool = None,
    batch_norm: BatchNorm = None,
    dropout: Dropout = None,
    width: Width = None,
    epochs: Annotated[
        Text, setting("--epochs", "-e", help="Number of epochs.", metavar="N", panel=TRAINING)
    ] = None,
    until: Annotated[
        Text,
        setting(
            "--until",
            help="Stop early at this validation accuracy, in percent.",
            metavar="PERCENT",
            panel=TRAINING,
            default="never",
        ),
    ] = None,
    batch_size: BatchSize = None,
    lr: Annotated[
        Text,
        setting(
            "--lr", help="Learning rate (the peak of the schedule).", metavar="X", panel=TRAINING
        ),
    ] = None,
    optimizer: Annotated[Text, setting("--optimizer", choice=OptimizerName, panel=TRAINING)] = None,
    momentum: Annotated[
        Text,
        setting(
            "--momentum",
            help="Momentum, used by sgd only.",
            metavar="X",
            panel=TRAINING,
            default="0.9",
        ),
    ] = None,
    schedule: Annotated[Text, setting("--schedule", choice=ScheduleName, panel=TRAINING)] = None,
    weight_decay: Annotated[
        Text,
        setting(
            "--weight-decay",
            help="Weight decay, of weight matrices and kernels only.",
            metavar="X",
            panel=TRAINING,
        ),
    ] = None,
    loss: Annotated[
        Text,
        setting(
            "--loss",
            help="cross-entropy, or nll (log-softmax and NLL: the same function in two steps).",
            choice=LossName,
            panel=TRAINING,
        ),
    ] = None,
    label_smoothing: Annotated[
        Text,
        setting(
            "--label-smoothing",
            help="Label smoothing: probability spread evenly over all classes.",
            metavar="X",
            panel=TRAINING,
        ),
    ] = None,
    augment: Augment = None,
    composed: Composed = None,
    ema: Ema = None,
    seed: Annotated[
        Text,
        setting("--seed", "-s", help="Random seed.", metavar="N", panel=TRAINING, default="0"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            help="Train once for each of this many seeds, from --seed on; report mean and SD.",
            metavar="N",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    device: Annotated[
        Text, setting("--device", choice=DeviceName, panel=TRAINING, default="auto")
    ] = None,
    precision: Annotated[
        Text, setting("--precision", choice=PrecisionName, panel=TRAINING, default="auto")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Read settings from a JSON or TOML file, such as a run's settings.json.",
            metavar="FILE",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start from the weights of a run or .pth file (fine-tuning), with its network and "
            "a tenth of its recipe's learning rate.",
            metavar="RUN",
            rich_help_panel=TRAINING,
            autocompletion=complete_run,
        ),
    ] = None,
    dataset: Dataset = None,
    val_size: Annotated[
        Text,
        setting(
            "--val-size",
            help="Validation split: a fraction of the training set below 1, otherwise a count.",
            metavar="X",
            panel=DATA,
            default="0.1",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            help="Cross-validation: split the training set into this many folds and train once "
            "for each, validating on it.",
            metavar="N",
            rich_help_panel=DATA,
        ),
    ] = None,
    train_size: Annotated[
        Text,
        setting(
            "--train-size",
            help="Train on only this many images, for example for a learning curve.",
            metavar="N",
            panel=DATA,
            default="all that are not held out",
        ),
    ] = None,
    raw: Raw = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="Name of the run or multi-run.",
            metavar="NAME",
            show_default="recipe and time",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    out: Out = Path("runs"),
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Resume a run or multi-run: name, directory or `last`. With a larger --epochs it "
            "trains longer.",
            metavar="RUN",
            rich_help_panel=OUTPUT,
            autocompletion=complete_run,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show every setting and its source without training (with -q only validate).",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: Json = False,
    quiet: Annotated[
        bool,
        quiet_option(
            "the run's directory, or a multi-run's mean accuracy in percent (last epochs)"
        ),
    ] = False,
) -> None:
    """Train a network and save it as a run.

    Settings that are not given come from the recipe (by default cnn-small),
    from --config, or from a variable of their name, such as MNIST_EPOCHS=3.
    The best epoch is chosen on a validation split of the training set; the
    test set is left to `mnist eval`. --seeds and --folds train several
    networks, one after the other, and compare them.

    Examples:
    $ mnist train --arch cnn-small --max-params 8000
    $ mnist train --recipe cnn-26k --epochs 3 --name quick
    $ mnist train --resume last
    """
    from mnistcli.system.machine import keep_freed_memory, spare_busy_cores

    spare_busy_cores()  # before the imports that load PyTorch

    from mnistcli.cli.inputs import ensure_downloaded
    from mnistcli.views.status_line import status_line

    is_silent = quiet or json or os.environ.get("RANK", "0") != "0"
    with status_line(quiet=is_silent, terminal_only=True) as show_status:
        show_status("loading PyTorch")
        from mnistcli.data.datasets import resolve_data_dir
        from mnistcli.training.distributed import process_group
        from mnistcli.training.multirun import MultiRun
        from mnistcli.views.multirun import show_multirun
        from mnistcli.views.train import show_trained

    def begin() -> "TrainingRun | MultiRun":
        if resume is None:
            run = _start(
                ctx, config=config, start_from=start_from, raw=raw, seeds=seeds, folds=folds,
                name=name, out=out, dry_run=dry_run, as_json=json, quiet=quiet,
            )  # fmt: skip
        else:
            other: dict[str, object] = {
                "config": config,
                "from": start_from,
                "raw": raw or None,
                "name": name,
                "seeds": seeds,
                "folds": folds,
                "dry_run": dry_run or None,
            }
            run = _resume(ctx, resume, out=out, other=other)
        return stack.enter_context(run)

    keep_freed_memory()
    with ExitStack() as stack:
        group = stack.enter_context(process_group())
        run = group.broadcast_from_main(begin)
        group.use_own_gpu(run.plan.device.value)
        folder = resolve_data_dir(data_dir, os.environ)
        ensure_downloaded(run.plan.dataset, folder, offline=offline)
        hide = quiet or json or not group.is_main
        if isinstance(run, MultiRun):
            _train_multirun(run, folder, group=group, quiet=hide)
            if group.is_main:
                show_multirun(run, data_dir=data_dir, as_json=json, quiet=quiet)
        else:
            _train_run(run, folder, group=group, quiet=hide)
            if group.is_main:
                show_trained(run, data_dir=data_dir, as_json=json, quiet=quiet)


def _start(
    ctx: typer.Context,
    *,
    config: Path | None,
    start_from: str | None,
    raw: bool,
    seeds: int | None,
    folds: int | None,
    name: str | None,
    out: Path,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> "AbstractContextManager[TrainingRun | MultiRun]":
    """A new run or multi-run; with `dry_run` only its settings are shown."""
    from mnistcli.cli.inputs import prepare_dataset, prepare_option
    from mnistcli.config.resolve import resolve_settings
    from mnistcli.training.multirun import check_layout, parse_layout, start_multirun
    from mnistcli.training.trainer import make_plan, start_run
    from mnistcli.views.train import show_settings

    flags = given_settings(ctx)
    if raw or "dataset" in flags:
        flags["dataset"] = prepare_option(flags.get("dataset"), raw=raw)
    layout = parse_layout(seeds, folds, settings=flags)
    if layout:
        flags |= layout.flags
    warn_misspelled_variables()
    base = _fine_tuning_base(start_from, out, flags, config) if start_from is not None else None
    resolved = resolve_settings(flags, config=config, base=base, environ=os.environ)
    if "dataset" not in flags:
        prepare_dataset(resolved.settings.dataset)
    if dry_run:
        if layout:
            check_layout(resolved.settings, layout)
        plan = make_plan(resolved.settings)
        if as_json or not quiet:
            show_settings(plan, resolved.sources, layout=layout, as_json=as_json)
        raise typer.Exit
    if layout:
        return start_multirun(resolved.settings, layout=layout, name=name, out=out)
    return start_run(resolved.settings, name=name, out=out)


def _fine_tuning_base(
    name: str, out: Path, flags: dict[str, object], config: Path | None
) -> tuple[str, dict[str, object]]:
    """The settings that follow from --from, and their source; conflicting options are refused."""
    from mnistcli.config.resolve import fine_tuning_settings
    from mnistcli.config.settings import MODEL_FIELDS
    from mnistcli.runs.checkpoint import describe_start
    from mnistcli.runs.find import find_checkpoint

    of_network = {"arch", "recipe", "max_params", *MODEL_FIELDS} & flags.keys()
    given = sorted(of_network | ({"config"} if config else set()))
    if given:
        raise SettingsError(
            f"--{given[0].replace('_', '-')} cannot be used with --from.",
            why=f"The network and its recipe are those of {name}.",
            fix="Leave out one of them.",
        )
    loaded, start = describe_start(find_checkpoint(name, out))
    settings = fine_tuning_settings(loaded.card.settings)
    return f"from {name}", {**settings, "start": start.model_dump()}


def _resume(
    ctx: typer.Context, name: str, *, out: Path, other: dict[str, object]
) -> "AbstractContextManager[TrainingRun | MultiRun]":
    """The run or multi-run called `name`; `other` options are refused there if they were given."""
    from mnistcli.cli.inputs import prepare_dataset
    from mnistcli.config.dataset_names import is_own_data
    from mnistcli.runs.find import dataset_to_resume, find_multirun
    from mnistcli.training.multirun import dataset_of_multirun, resume_multirun
    from mnistcli.training.trainer import resume_run

    given = {option: value for option, value in other.items() if value is not None}
    changes = {**given_settings(ctx), **given}
    multirun = find_multirun(name, out)
    trained_on = dataset_of_multirun(multirun) if multirun else dataset_to_resume(name, out)
    if is_own_data(trained_on):
        dataset = prepare_dataset(changes.get("dataset") or trained_on)
        changes |= {"dataset": dataset} if "dataset" in changes else {}
    if multirun:
        return resume_multirun(multirun, changes=changes)
    return resume_run(name, changes=changes, out=out)


def _train_run(run: "TrainingRun", data_dir: Path, *, group: "ProcessGroup", quiet: bool) -> None:
    from mnistcli.training.estimate import estimate_epoch_seconds
    from mnistcli.training.trainer import load_training_data, train_run
    from mnistcli.views.status_line import status_line
    from mnistcli.views.train import training_display

    with status_line(quiet=quiet, terminal_only=True) as show_status:
        show_status(f"loading {run.plan.dataset.title}")
        train, val = load_training_data(run.plan, data_dir, group=group)
        estimates = not (quiet or run.is_finished or group.world_size > 1)
        if estimates:
            show_status(_TIMING)
        epoch_seconds = estimate_epoch_seconds(run.plan, train, val) if estimates else None
    with (
        training_display(
            run, len(train), len(val), epoch_seconds=epoch_seconds, group=group, quiet=quiet
        ) as display,
        _report_interruption(display),
    ):
        for _ in train_run(run, train, val, group=group, on_step=display.on_step):
            display.show_epochs()


def _train_multirun(
    multirun: "MultiRun", data_dir: Path, *, group: "ProcessGroup", quiet: bool
) -> None:
    from mnistcli.data.datasets import load_dataset
    from mnistcli.training.estimate import estimate_epoch_seconds
    from mnistcli.training.multirun import train_multirun
    from mnistcli.training.trainer import split_for_training
    from mnistcli.views.multirun import multirun_display
    from mnistcli.views.status_line import status_line

    with status_line(quiet=quiet, terminal_only=True) as show_status:
        show_status(f"loading {multirun.plan.dataset.title}")
        examples = load_dataset(multirun.plan.dataset, "train", data_dir)
        # Of the first run, to refuse a split that cannot be made before anything is trained.
        train, val = split_for_training(multirun.plan, examples, group=group)
        estimates = not (quiet or group.world_size > 1)
        if estimates:
            show_status(_TIMING)
        epoch_seconds = estimate_epoch_seconds(multirun.plan, train, val) if estimates else None
    with (
        multirun_display(
            multirun, len(train), len(val), epoch_seconds=epoch_seconds, group=group, quiet=quiet
        ) as display,
        _report_interruption(display),
    ):
        for result in train_multirun(multirun, examples, group=group, on_run=display.start_run):
            display.show_result(result)


@contextmanager
def _report_interruption(display: "TrainingDisplay | MultiRunDisplay") -> "Iterator[None]":
    """Say what an interrupted or failed training has saved, and how to resume it."""
    try:
        yield
    except KeyboardInterrupt:
        display.interrupted()
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except MnistError:
        display.stopped()
        raise
