"""`mnist bench`: how fast this machine trains and evaluates."""

from typing import Annotated

import typer

from mnistcli.cli.options import (
    MODEL,
    TRAINING,
    Augment,
    BatchNorm,
    BatchSize,
    Channels,
    DataDir,
    Depthwise,
    Device,
    Dropout,
    Ema,
    Hidden,
    Json,
    KernelSize,
    MaxParams,
    Padding,
    Pool,
    Width,
    complete_from,
    given_settings,
    one_of,
    quiet_option,
    warn_misspelled_variables,
)
from mnistcli.cli.parsing import split_items
from mnistcli.config.choices import PrecisionName, values
from mnistcli.config.recipes import RECIPES
from mnistcli.errors import EXIT_INTERRUPTED, MnistError
from mnistcli.models.registry import ARCHITECTURES

MEASURING = "Measuring"
Names = list[str] | None


def bench(
    ctx: typer.Context,
    arch: Annotated[
        Names,
        typer.Option(
            "--arch",
            "-a",
            help=f"Architectures: {', '.join(ARCHITECTURES)}.",
            metavar="NAME…",
            show_default="all",
            rich_help_panel=MODEL,
            autocompletion=complete_from(tuple(ARCHITECTURES)),
        ),
    ] = None,
    recipe: Annotated[
        Names,
        typer.Option(
            "--recipe",
            "-r",
            help="Recipes; `mnist summary` lists them.",
            metavar="NAME…",
            rich_help_panel=MODEL,
            autocompletion=complete_from(tuple(RECIPES)),
        ),
    ] = None,
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
    batch_size: BatchSize = None,
    augment: Augment = None,
    ema: Ema = None,
    precision: Annotated[
        Names,
        typer.Option(
            "--precision",
            help=one_of(PrecisionName),
            metavar="NAME…",
            show_default="float32 and auto",
            rich_help_panel=TRAINING,
            autocompletion=complete_from(values(PrecisionName)),
        ),
    ] = None,
    device: Device = "auto",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            help="Seconds to train each network, and as many to evaluate it.",
            metavar="X",
            min=0.01,
            max=3600,
            rich_help_panel=MEASURING,
        ),
    ] = 3.0,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            help="Number of samples in these seconds.",
            metavar="N",
            min=1,
            max=1000,
            rich_help_panel=MEASURING,
        ),
    ] = 5,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference",
            help="Compare with a standard PyTorch training loop with a DataLoader.",
            rich_help_panel=MEASURING,
        ),
    ] = False,
    loader_processes: Annotated[
        int,
        typer.Option(
            "--loader-processes",
            help="Worker processes of the reference loop's DataLoader.",
            metavar="N",
            min=0,
            max=256,
            rich_help_panel=MEASURING,
        ),
    ] = 0,
    data_dir: DataDir = None,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the images per second of training")] = False,
) -> None:
    """Measure how fast this machine trains and evaluates.

    For every architecture, in float32 and in the precision that auto picks:
    images per second, seconds per epoch of 54,000 images, the latency of one
    image, and peak memory. All architectures take a few minutes. Needs no data:
    without MNIST it repeats scikit-learn's digits.

    Examples:
    $ mnist bench
    $ mnist bench --recipe cnn-26k --precision float32 --reference
    $ mnist bench --arch mlp cnn --seconds 1 --json
    """
    from mnistcli.system.machine import spare_busy_cores

    spare_busy_cores()  # for the processes that measure

    from mnistcli.diagnostics.bench import BenchRow, measure_cases, prepare_cases, select_networks
    from mnistcli.diagnostics.measurement import DEFAULT_PRECISIONS, BenchOptions
    from mnistcli.views.bench import bench_progress, show_bench

    warn_misspelled_variables()
    settings = given_settings(ctx)
    for name in ("arch", "recipe", "precision"):
        settings.pop(name, None)
    options = BenchOptions(
        networks=select_networks(split_items(arch), split_items(recipe), settings),
        precisions=tuple(split_items(precision)) or DEFAULT_PRECISIONS,
        seconds=seconds,
        repeats=repeats,
        reference=reference,
        loader_processes=loader_processes,
        data_dir=str(data_dir) if data_dir else None,
    )
    rows: list[BenchRow] = []
    interrupted = False
    with bench_progress(quiet=quiet or json) as on_start:
        machine, cases = prepare_cases(options)
        try:
            rows += measure_cases(options, cases, on_start=on_start)
        except KeyboardInterrupt:
            interrupted = True
    show_bench(machine, options, rows, num_cases=len(cases), as_json=json, quiet=quiet)
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    failures = [row.outcome for row in rows if isinstance(row.outcome, MnistError)]
    if failures:
        raise typer.Exit(failures[0].exit_code)
