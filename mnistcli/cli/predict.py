"""`mnist predict`."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.inputs import find_checkpoints
from mnistcli.cli.options import OUTPUT, Json, Out, complete_run, quiet_option
from mnistcli.errors import DataError, SettingsError

if TYPE_CHECKING:
    from mnistcli.reading.pipeline import DigitImage
    from mnistcli.views.predict import OutputStyle


def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help="Picture files, directories, patterns, or - for standard input.", metavar="FILE…"
        ),
    ],
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="A run or a checkpoint; several are averaged. Unset: the bundled one.",
            metavar="RUN",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="Take all ink for one digit, however it is parted.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Search directories to the bottom.")
    ] = False,
    label_file: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="A CSV file with columns file,label: score the readings.",
            metavar="FILE",
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--top",
            "-t",
            help="Classes to show of a single digit, most probable first.",
            min=1,
            max=10,
            rich_help_panel=OUTPUT,
        ),
    ] = 3,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            help="Draw each step from the picture to the network's input.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    save_input: Annotated[
        Path | None,
        typer.Option(
            "--save-input",
            help="Write what the network saw as PNG, 28x28 a digit; of one picture.",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    out: Out = Path("runs"),
    json: Json = False,
    as_csv: Annotated[
        bool,
        typer.Option("--csv", help="Print a table as CSV on stdout.", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Annotated[bool, quiet_option("the digits, or with --labels the accuracy")] = False,
) -> None:
    """Read the digits in pictures.

    Any picture will do: a scan, a photo, a drawing, dark on light or light on
    dark. Its digits are read line by line from left to right. A file that
    cannot be read is named, the others are read, and the exit code is 3. With
    --json, one object a line; with -q, one reading a line, or ?.

    Examples:
    $ mnist predict digit.png
    $ mnist predict scans --recursive --json
    $ mnist predict photo.jpg -c runs/quick --show
    """
    from mnistcli.reading.batch import find_picture_files, process_pictures
    from mnistcli.reading.scoring import read_labels
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.views.console import print_error

    style = _pick_style(
        json=json, as_csv=as_csv, quiet=quiet, show=show, score=label_file is not None
    )
    known = read_labels(label_file) if label_file else None
    names, failures = find_picture_files(pictures, recursive=recursive)
    if not names:
        raise failures[-1]
    if save_input:
        _check_output(save_input, names)
    chunks = process_pictures(names, single=single, keep_steps=show)
    # The first is asked for before torch loads: other processes decode meanwhile.
    chunks = itertools.chain([next(chunks)], chunks)
    paths = find_checkpoints(checkpoints, out)

    import torch

    # The networks are small, and the other cores decode pictures: more threads only get in the way.
    torch.set_num_threads(1)
    models = [load_checkpoint(path) for path in paths]

    from mnistcli.evaluation.eval_data import require_classes
    from mnistcli.reading.pipeline import save_digits
    from mnistcli.reading.predict import predict_digits
    from mnistcli.views.predict import PredictReport

    if len(models) > 1:
        require_classes(models, models[0].card.settings.dataset)
    seen: list[DigitImage] = []
    with PredictReport(
        num_pictures=len(names), style=style, top=top, show=show, labels=known
    ) as report:
        for chunk in chunks:
            failures += [found.error for found in chunk if found.error]
            read = predict_digits(models, [found.digits for found in chunk])
            for found, predictions in zip(chunk, read, strict=True):
                report.add(found, predictions)
                if save_input:
                    seen += [each.digit for each in predictions]
    if seen and save_input:
        save_digits(save_input, seen)
    for failure in failures:
        print_error(failure)
    if known is not None:
        report.print_score()
    if failures:
        raise typer.Exit(DataError.exit_code)


def _check_output(target: Path, names: list[str]) -> None:
    """Raise SettingsError where what the network saw cannot be written to `target`."""
    if len(names) > 1:
        raise SettingsError(
            "--save-input takes one picture.",
            why=f"{len(names):,} were named.",
            fix="Name one picture, or leave the option out.",
        )
    if target.resolve() == Path(names[0]).resolve():
        raise SettingsError(
            f"--save-input would overwrite the picture '{target}'.",
            why="It is the one that is read.",
            fix="Give it another name.",
        )
    if target.suffix.lower() != ".png" or not target.parent.is_dir():
        raise SettingsError(
            f"--save-input cannot write '{target}'.",
            why="It writes PNG files, in a directory that is there.",
            fix="Name a file like seen.png.",
        )


def _pick_style(*, json: bool, as_csv: bool, quiet: bool, show: bool, score: bool) -> "OutputStyle":
    """What is printed; SettingsError where two options each want to say it."""
    wanted = {"--show": show, "--json": json, "--csv": as_csv, "--quiet": quiet}
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if show and score:
        chosen = ["--show", "--labels"]
    if len(chosen) > 1:
        raise SettingsError(
            f"{chosen[0]} and {chosen[1]} do not go together.",
            why="Each says alone what is printed.",
            fix="Use one of them.",
        )
    return "json" if json else "csv" if as_csv else "quiet" if quiet else "text"
