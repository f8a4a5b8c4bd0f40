"""`mnist bench`."""

from typing import Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.options import MODEL, TRAINING, one_of
from mnistcli.errors import EXIT_INTERRUPTED, MnistError
from mnistcli.registry import ARCHITECTURES, RECIPES

MEASURING = "Measuring"
Names = list[str] | None


def bench(
    ctx: typer.Context,
    arch: Annotated[
        Names,
        typer.Option(
            "--arch",
            "-a",
            help="An architecture; again for another.",
            metavar="NAME",
            show_default="all",
            rich_help_panel=MODEL,
            autocompletion=one_of(tuple(ARCHITECTURES)),
        ),
    ] = None,
    recipe: Annotated[
        Names,
        typer.Option(
            "--recipe",
            "-r",
            help="A recipe; again for another.",
            metavar="NAME",
            rich_help_panel=MODEL,
            autocompletion=one_of(tuple(RECIPES)),
        ),
    ] = None,
    max_params: options.MaxParams = None,
    hidden: options.Hidden = None,
    channels: options.Channels = None,
    kernel_size: options.KernelSize = None,
    padding: options.Padding = None,
    pool: options.Pool = None,
    batch_norm: options.BatchNorm = None,
    dropout: options.Dropout = None,
    width: options.Width = None,
    batch_size: options.BatchSize = None,
    augment: options.Augment = None,
    ema: options.Ema = None,
    precision: Annotated[
        Names,
        typer.Option(
            "--precision",
            help="auto, float32, bfloat16 or float16; again for another.",
            metavar="NAME",
            show_default="float32 and auto",
            rich_help_panel=TRAINING,
            autocompletion=one_of(("auto", "float32", "bfloat16", "float16")),
        ),
    ] = None,
    device: options.Device = "auto",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            help="How long to train, and again to evaluate, each network.",
            metavar="N",
            min=0.01,
            max=3600,
            rich_help_panel=MEASURING,
        ),
    ] = 3.0,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            help="Into how many samples those seconds are divided.",
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
            help="Train also by the usual DataLoader loop, turn by turn.",
            rich_help_panel=MEASURING,
        ),
    ] = False,
    loader_processes: Annotated[
        int,
        typer.Option(
            "--loader-processes",
            help="Processes of the usual loop's DataLoader; 0: none but its own.",
            metavar="N",
            min=0,
            max=256,
            rich_help_panel=MEASURING,
        ),
    ] = 0,
    data_dir: options.DataDir = None,
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the images per second of training")] = False,
) -> None:
    """Measure how fast this machine trains and evaluates.

    Images per second, seconds an epoch of 54,000 images, one picture's latency
    and the peak of memory, of every architecture in float32 and in the format
    that auto takes, each in a process of its own: some minutes for them all.
    Needs no data: without MNIST it repeats scikit-learn's digits.

    Examples:
    $ mnist bench
    $ mnist bench --recipe cnn-26k --precision float32 --reference
    $ mnist bench --arch mlp --arch cnn --seconds 1 --json
    """
    from mnistcli import timings
    from mnistcli.bench import PRECISIONS, Row, Wanted, measure, picks, prepare

    options.note_misspelt_variables()
    more = options.given_settings(ctx)
    for name in ("arch", "recipe", "precision"):
        more.pop(name, None)
    wanted = Wanted(
        picks=picks(arch or (), recipe or (), more),
        precisions=tuple(precision or PRECISIONS),
        seconds=seconds,
        repeats=repeats,
        reference=reference,
        loader_processes=loader_processes,
        data_dir=str(data_dir) if data_dir else None,
    )
    rows: list[Row] = []
    interrupted = False
    with timings.progress(quiet=quiet or json) as on_start:
        machine, benches = prepare(wanted)
        try:
            rows += measure(wanted, benches, on_start=on_start)
        except KeyboardInterrupt:
            interrupted = True
    timings.report(machine, wanted, rows, num_benches=len(benches), as_json=json, quiet=quiet)
    failures = [row.outcome for row in rows if isinstance(row.outcome, MnistError)]
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if failures:
        raise typer.Exit(failures[0].exit_code)
