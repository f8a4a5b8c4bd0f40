"""`mnist download`."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.inputs import note_wait
from mnistcli.cli.options import DATA, DataDir, Dataset, Json, quiet_option


def download(
    dataset: Dataset = "mnist",
    data_dir: DataDir = None,
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
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the data directory")] = False,
) -> None:
    """Get a data set, checked against its published checksums.

    What is there and right is not fetched again.

    Examples:
    $ mnist download
    $ mnist download --dataset fashion-mnist --mirror http://127.0.0.1:8000/
    $ mnist download --from ~/Downloads
    """
    from mnistcli.data.datasets import get_dataset, resolve_data_dir
    from mnistcli.data.download import (
        download_dataset,
        import_files,
        require_complete,
        verify_files,
    )
    from mnistcli.views.download import download_progress, show_files

    wanted = get_dataset(dataset or "mnist")
    on_wait = partial(note_wait, wanted)
    folder = resolve_data_dir(data_dir, os.environ)
    if verify:
        states = verify_files(wanted, folder)
    elif source:
        states = import_files(wanted, folder, source, on_wait=on_wait)
    else:
        with download_progress(quiet=quiet or json) as on_progress:
            states = download_dataset(
                wanted, folder, mirrors=mirror or (), on_progress=on_progress, on_wait=on_wait
            )
    show_files(wanted, folder, states, as_json=json, quiet=quiet)
    require_complete(wanted, states)
