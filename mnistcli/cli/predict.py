"""`mnist predict`."""

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.inputs import default_checkpoint, find_checkpoints, load_models
from mnistcli.cli.options import OUTPUT, Json, Out, complete_run, quiet_option
from mnistcli.config.choices import MAX_CLASSES
from mnistcli.errors import DataError, SettingsError

if TYPE_CHECKING:
    from mnistcli.reading.digit import DigitImage
    from mnistcli.views.predict import OutputStyle


def predict(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            help="Picture files, directories or quoted patterns; - is standard input.",
            metavar="FILE…",
        ),
    ] = None,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="The network that tells which digit it is: a run, a .pth file, or a bundled one "
            "(reader, cnn-small); repeat it to average several.",
            metavar="CHECKPOINT",
            autocompletion=complete_run,
            show_default="both bundled ones",
        ),
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="Read all ink in a picture as one digit.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Read a sample picture that comes with mnist.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Also read pictures in subdirectories.")
    ] = False,
    label_file: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="A CSV file with columns file,label: print how many are read correctly.",
            metavar="FILE",
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--top",
            "-t",
            help="How many classes to show for a single digit, most probable first.",
            metavar="N",
            min=1,
            max=MAX_CLASSES,
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
            help="Write the network's input for one picture as PNG, 28x28 pixels per digit.",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            "--annotate",
            help="Write one picture with boxes around what is read and what is left out.",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission",
            help="Write the classes of the images in one CSV file as Kaggle's Digit Recognizer "
            "takes them (ImageId,Label).",
            metavar="FILE",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    out: Out = Path("runs"),
    json: Json = False,
    as_csv: Annotated[
        bool,
        typer.Option("--csv", help="Print CSV on stdout.", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Annotated[
        bool, quiet_option("the digits; with --labels, the accuracy in percent")
    ] = False,
) -> None:
    """Read the digits in pictures: scans, photos or drawings, dark on light or light on dark.

    Digits are read line by line from left to right. If a file cannot be read,
    the others still are, and the exit code is 3. --json prints one object per
    line, and -q one number per line (? for a file that cannot be read).

    Examples:
    $ mnist predict --demo
    $ mnist predict photo.jpg -c runs/quick --show
    $ mnist predict scans --recursive --labels scans/labels.csv
    """
    if submission:
        excluded = {
            "--demo": demo,
            "--single": single,
            "--recursive": recursive,
            "--labels": label_file,
            "--show": show,
            "--save-input": save_input,
            "--annotate": annotate,
            "--csv": as_csv,
        }
        tables = pictures or []
        _check_submission(tables, submission, [name for name, given in excluded.items() if given])
        _write_submission(
            Path(tables[0]), submission, checkpoints or [], out, as_json=json, quiet=quiet
        )
        return
    if not pictures and not demo:
        raise SettingsError(
            "No picture was named.",
            fix="Name a file, or see a sample being read: mnist predict --demo",
        )

    from mnistcli.reading.batch import (
        DEMO,
        MIN_FOR_PROCESSES,
        STDIN,
        decode_files,
        find_picture_files,
        no_digit_error,
    )
    from mnistcli.reading.scoring import (
        PictureScores,
        labels_as_classes,
        read_labels,
        require_labeled,
    )
    from mnistcli.views.console import print_error, print_note

    style = _pick_style(
        json=json, as_csv=as_csv, quiet=quiet, show=show, score=label_file is not None
    )
    pictures = [*(pictures or []), *([str(DEMO)] if demo else [])]
    _refuse_other_files(pictures, out)
    labels = read_labels(label_file) if label_file else {}
    names, errors, unread = find_picture_files(pictures, recursive=recursive)
    if unread:
        kinds = ", ".join(f"{num:,} {suffix}" for suffix, num in sorted(unread.items()))
        print_note(f"Files in formats that are not read, left out: {unread.total():,} ({kinds}).")
    if not names:
        *others, last = errors
        for other in others:
            print_error(other)
        raise last
    for option, path in (("--save-input", save_input), ("--annotate", annotate)):
        if path:
            _check_output(option, path, names)
    if annotate and names == [STDIN]:
        raise SettingsError("--annotate needs a picture file.", fix="Name one instead of -.")
    if label_file:
        require_labeled(labels, names)
    paths = find_checkpoints(checkpoints or [], out)
    chunks = decode_files(names, single=single)
    # Before torch is imported, so that other processes decode meanwhile.
    chunks = itertools.chain([next(chunks)], chunks)
    models = load_models(paths)

    import torch

    if len(names) >= MIN_FOR_PROCESSES:
        # The other cores decode pictures.
        torch.set_num_threads(1)

    from mnistcli.reading.annotate import save_annotated
    from mnistcli.reading.digit import save_digits
    from mnistcli.reading.predict import load_networks, read_pictures
    from mnistcli.views.predict import PredictReport

    networks = load_networks(models)
    scores = None
    if label_file:
        classes = networks.reader.card.classes
        scores = PictureScores(labels_as_classes(labels, classes, label_file))
    digits: list[DigitImage] = []

    def note_written(path: Path) -> None:
        if not quiet:
            print_note(f"Wrote {path}")

    with PredictReport(
        num_pictures=len(names), style=style, top=top, show=show, is_scored=scores is not None
    ) as report:
        for chunk in chunks:
            readings = read_pictures(chunk, networks, single=single)
            for picture, reading in zip(chunk, readings, strict=True):
                error = picture.error
                if not error and not reading.predictions:
                    error = no_digit_error(picture.name)
                errors += [error] if error else []
                read = None if error else reading.text
                labeled = scores.add(picture.name, read, picture.size) if scores else None
                report.add(picture, reading, error, labeled)
                if annotate and not picture.error:
                    save_annotated(annotate, picture.name, reading)
                    note_written(annotate)
                if save_input:
                    digits += [prediction.digit for prediction in reading.predictions]
    if digits and save_input:
        save_digits(save_input, digits)
        note_written(save_input)
    for error in errors:
        print_error(error)
    if scores:
        report.print_score(scores)
    if errors:
        raise typer.Exit(DataError.exit_code)


def _check_submission(files: list[str], target: Path, others: list[str]) -> None:
    """Raise SettingsError unless --submission can be written to `target`."""
    if others:
        raise SettingsError(
            f"{others[0]} cannot be used with --submission.",
            why="A submission is made of a table of images, not of pictures.",
            fix="Leave one of them out.",
        )
    if len(files) != 1:
        raise SettingsError(
            "--submission works for one CSV file only.",
            why=f"{len(files):,} files were named.",
            fix="Name one: mnist predict test.csv -c RUN --submission submission.csv",
        )
    if target.resolve() == Path(files[0]).resolve():
        raise SettingsError(
            f"--submission would overwrite '{target}'.", fix="Give it another name."
        )
    if target.is_dir() or not target.parent.is_dir():
        raise SettingsError(
            f"--submission cannot write '{target}'.",
            why="It writes a file to an existing directory.",
            fix="Name a file like submission.csv.",
        )


def _write_submission(
    table: Path,
    target: Path,
    checkpoints: list[str],
    out: Path,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from mnistcli.system.machine import spare_busy_cores

    spare_busy_cores()  # before the imports that load PyTorch

    from mnistcli.evaluation.submission import read_test_images, write_submission
    from mnistcli.runs.checkpoint import BUNDLED, checkpoint_title
    from mnistcli.views.console import print_note
    from mnistcli.views.predict import show_submission

    names = checkpoints or [str(default_checkpoint(out, action="predicting with"))]
    models = load_models(find_checkpoints(names, out))
    for model in models:
        start = model.card.settings.start
        if model.card.settings.dataset == "mnist" or (start and start.checkpoint in BUNDLED):
            print_note(
                f"Warning: {checkpoint_title(model.path)} was trained on MNIST, which contains the "
                "test images of Kaggle's Digit Recognizer. Its score there would mean nothing."
            )
    images_NHW = read_test_images(table)
    written = write_submission(models, images_NHW, target, beside=table.parent)
    show_submission(written, as_json=as_json, quiet=quiet)


def _refuse_other_files(pictures: list[str], out: Path) -> None:
    """Raise SettingsError if a network or a table of images is named like a picture."""
    from mnistcli.runs.find import names_network

    for name in pictures:
        if name not in ("", "-") and names_network(name, out):
            others = [other for other in pictures if other != name]
            raise SettingsError(
                f"'{name}' is a network, not a picture.",
                why="mnist predict takes pictures as arguments, and the network as an option.",
                fix=f"mnist predict {shlex.join(others or ['PICTURE'])} -c {shlex.quote(name)}",
            )
        if name.lower().endswith(".csv"):
            raise SettingsError(
                f"'{name}' is a table, not a picture.",
                fix="If its rows are images: "
                f"mnist predict {shlex.quote(name)} --submission submission.csv",
            )


def _check_output(option: str, path: Path, names: list[str]) -> None:
    """Raise SettingsError if an option's picture cannot be written to `path`."""
    if len(names) > 1:
        raise SettingsError(
            f"{option} works for one picture only.",
            why=f"{len(names):,} were named.",
            fix="Name one picture, or leave the option out.",
        )
    if path.resolve() == Path(names[0]).resolve():
        raise SettingsError(
            f"{option} would overwrite the picture '{path}'.", fix="Give it another name."
        )
    why = fix = ""
    if path.is_dir():
        why, fix = "It is a directory.", "Give the file another name."
    elif path.suffix.lower() != ".png":
        why = "It writes PNG files."
        fix = f"Name one: {option} {shlex.quote(str(path.with_suffix('.png')))}"
    elif not path.parent.is_dir():
        why = f"{path.parent} is not a directory."
        fix = f"Make it first: mkdir -p {shlex.quote(str(path.parent))}"
    if why:
        raise SettingsError(f"{option} cannot write '{path}'.", why=why, fix=fix)


def _pick_style(*, json: bool, as_csv: bool, quiet: bool, show: bool, score: bool) -> "OutputStyle":
    """The style of the output; raises SettingsError if several are chosen."""
    options = {"--show": show, "--json": json, "--csv": as_csv, "--quiet": quiet}
    chosen = [name for name, is_chosen in options.items() if is_chosen]
    if show and score:
        chosen = ["--show", "--labels"]
    if len(chosen) > 1:
        raise SettingsError(
            f"{chosen[0]} and {chosen[1]} cannot be combined.",
            why="Each of them decides what is printed.",
            fix="Use one of them.",
        )
    return "json" if json else "csv" if as_csv else "quiet" if quiet else "text"
