"""`mnist predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.commands import options
from mnistcli.errors import DataError


def predict(
    pictures: Annotated[
        list[str], typer.Argument(help="Picture files, or - for standard input.", metavar="FILE…")
    ],
    checkpoint: options.Checkpoint = None,
    top: Annotated[
        int,
        typer.Option("--top", "-t", help="Classes to show, most probable first.", min=1, max=10),
    ] = 3,
    out: options.Out = Path("runs"),
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the digits")] = False,
) -> None:
    """Read the digit in a picture.

    Any picture of one digit will do: a scan, a photo, a drawing, dark on light
    or light on dark. A picture that cannot be read is named, and the others are
    read. With --json, one object a line; with -q, one digit a line, or ?.

    Examples:
    $ mnist predict digit.png
    $ mnist predict scans/*.png --json
    $ mnist predict photo.jpg -c runs/quick --top 10
    """
    from mnistcli import images, render, runs
    from mnistcli.predict import classify

    loaded = runs.load_model(runs.find_checkpoint(checkpoint, out))
    failures = []
    for picture in pictures:
        try:
            digit = images.read_digit(_read(picture), name=picture)
        except DataError as error:
            failures.append(error)
            render.unread(quiet=quiet and not json)
            continue
        prediction = classify(loaded, [digit])[0]
        render.prediction(picture, digit, prediction, top=top, as_json=json, quiet=quiet)
    for failure in failures[:-1]:
        render.error(failure)
    if failures:
        raise failures[-1]


def _read(picture: str) -> bytes:
    """The bytes of a file, or of standard input for "-"."""
    if picture == "-":
        return sys.stdin.buffer.read()
    if Path(picture).is_dir():
        raise DataError(
            f"'{picture}' is a directory.",
            why="predict reads picture files.",
            fix=f"Name the files in it: mnist predict {picture.rstrip('/')}/*.png",
        )
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise DataError(
            f"'{picture}' cannot be read.",
            why=f"{error.strerror or error}.",
            fix="Check the name; mnist predict takes PNG, JPEG and other picture files.",
        ) from error
