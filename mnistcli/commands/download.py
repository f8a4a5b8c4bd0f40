"""`mnist download`."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.data import say_wait
from mnistcli.commands.options import DATA


def download(
    dataset: options.Dataset = "mnist",
    data_dir: options.DataDir = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--mirror",
            help="Ask this address before the usual mirrors; may be repeated.",
            metavar="URL",
            rich_help_panel=DATA,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Import the files from this directory instead, as .gz or unpacked.",
            rich_help_panel=DATA,
            file_okay=False,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Only check what is there (exit 3 if not all of it is right)."
        ),
    ] = False,
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the data directory")] = False,
) -> None:
    """Get a data set, checked against its published checksums.

    What is there and right is not fetched again.

    Examples:
    $ mnist download
    $ mnist download --dataset fashion-mnist --mirror http://127.0.0.1:8000/
    $ mnist download --from ~/Downloads
    """
    from mnistcli import datasets, render

    wanted = datasets.dataset(dataset or "mnist")
    on_wait = partial(say_wait, wanted)
    folder = datasets.pick_data_dir(data_dir, os.environ)
    if verify:
        states = datasets.verify(wanted, folder)
    elif source:
        states = datasets.import_from(wanted, folder, source, on_wait=on_wait)
    else:
        with render.download_progress(quiet=quiet or json) as on_progress:
            states = datasets.download(
                wanted, folder, mirrors=mirror or (), on_progress=on_progress, on_wait=on_wait
            )
    render.files(wanted, folder, states, as_json=json, quiet=quiet)
    datasets.check(wanted, states)
