"""`mnist export`."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from mnistcli.cli.options import (
    NO_NAME,
    OUTPUT,
    CheckpointOption,
    DataDir,
    Json,
    Out,
    complete_from,
    complete_run,
    one_of,
    quiet_option,
)
from mnistcli.config.choices import ExportFormat, ExportPrecision, values
from mnistcli.errors import SettingsError, require_known


def export(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A run's name or directory, `last`, or a .pth file.",
            metavar="CHECKPOINT",
            show_default=NO_NAME,
            autocompletion=complete_run,
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help=one_of(ExportFormat),
            metavar="NAME",
            show_default="by the suffix of FILE",
            autocompletion=complete_from(values(ExportFormat)),
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, .onnx or .c; C gets a header beside it.",
            metavar="FILE",
            show_default="the checkpoint's name",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help=f"Of the C program: {one_of(ExportPrecision)}",
            metavar="NAME",
            autocompletion=complete_from(values(ExportPrecision)),
        ),
    ] = "float32",
    main: Annotated[
        bool,
        typer.Option(
            "--main", help="Also write a C program that reads an IDX file or a PGM picture."
        ),
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the file")] = False,
    out: Out = Path("runs"),
) -> None:
    """Write a network as ONNX or C, and prove that it predicts what PyTorch predicts.

    Both predict the test images of the data set that the network was trained
    on, or scikit-learn's digits where that is not on this machine. If a
    prediction differs, nothing is written; int8 may change 5 % of them and
    lose 1 point of accuracy. ONNX needs the extra `export` (docs/export.md).

    Examples:
    $ mnist export cnn-small -o digits.onnx
    $ mnist export last -o digits.c --precision int8
    $ mnist export runs/quick --format c --main
    """
    names = [*filter(None, [name]), *(checkpoint or [])]
    export_format, weights_as = _check_usage(names, format_name, output, precision, main=main)

    from mnistcli.cli.inputs import default_checkpoint
    from mnistcli.config.dataset_names import dataset_title, is_own_data
    from mnistcli.data.datasets import resolve_data_dir
    from mnistcli.export.export import check_target, export_network
    from mnistcli.export.proof import load_proof_images
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.runs.find import find_checkpoint, run_of_checkpoint
    from mnistcli.views.console import print_note
    from mnistcli.views.export import show_export

    name = names[0] if names else str(default_checkpoint(out, action="exporting"))
    path = find_checkpoint(name, out)
    run = run_of_checkpoint(path)
    target = output or Path(f"{run.path.resolve().name if run else path.stem}.{export_format}")
    check_target(target, export_format)
    loaded = load_checkpoint(path)
    folder = resolve_data_dir(data_dir, os.environ)
    images = load_proof_images(loaded, folder)
    trained_on = loaded.card.settings.dataset
    if images.dataset != trained_on:
        where = "here" if is_own_data(trained_on) else f"in {folder}"
        title = dataset_title(trained_on)
        print_note(f"{title} is not {where}: the proof uses scikit-learn's digits.")
    exported = export_network(
        loaded,
        target,
        images,
        export_format=export_format,
        precision=weights_as,
        with_main=main,
        command=["mnist", *sys.argv[1:]],
    )
    show_export(exported, as_json=json, quiet=quiet)


def _check_usage(
    names: list[str], format_name: str | None, output: Path | None, precision: str, *, main: bool
) -> tuple[ExportFormat, ExportPrecision]:
    """The format and the precision; raises SettingsError for what cannot be combined."""
    if len(names) > 1:
        raise SettingsError(
            "mnist export writes one network.",
            why=f"{' and '.join(names)} were named.",
            fix="Name one of them.",
        )
    export_format = format_name or (output.suffix[1:] if output else "")
    if not export_format:
        raise SettingsError(
            "No format was named.",
            why="Neither --format nor the suffix of --output says onnx or c.",
            fix=f"Add -o digits.{'c' if main or precision != 'float32' else 'onnx'}",
        )
    export_format = require_known("format", export_format, values(ExportFormat))
    precision = require_known("precision", precision, values(ExportPrecision))
    if export_format == "onnx" and (main or precision != "float32"):
        option = "--main" if main else f"--precision {precision}"
        as_c = "--format c"
        if output and not format_name:
            as_c = f"-o {shlex.quote(str(output.with_suffix('.c')))}"
        raise SettingsError(f"{option} is for C only.", fix=f"Use {as_c}, or leave out {option}.")
    return cast("ExportFormat", export_format), cast("ExportPrecision", precision)
