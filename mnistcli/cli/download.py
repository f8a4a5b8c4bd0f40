"""`mnist download`."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.inputs import note_wait
from mnistcli.cli.options import DATA, DataDir, Dataset, Json, quiet_option
from mnistcli.errors import SettingsError


def download(
    dataset: Dataset = "mnist",
    data_dir: DataDir = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--mirror",
            help="Try this address before torchvision's mirrors; may be repeated.",
            metavar="URL",
            rich_help_panel=DATA,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Import the files from this directory instead, packed (.gz) or unpacked.",
            metavar="DIR",
            rich_help_panel=DATA,
            file_okay=False,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Only verify the files (exit 3 if any is missing or damaged)."
        ),
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the data directory")] = False,
) -> None:
    """Download a data set and verify its published checksums.

    Files that are already there and verified are not downloaded again.

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
    from mnistcli.views.console import print_note
    from mnistcli.views.download import download_progress, show_files

    selected = get_dataset("mnist" if dataset is None else dataset)
    if selected.digest:
        raise SettingsError(
            f"{selected.title} cannot be downloaded.",
            why="It is your own: it is read from where it is.",
            fix=f"Train on it: mnist train --dataset {dataset}",
        )
    on_wait = partial(note_wait, selected)
    folder = resolve_data_dir(data_dir, os.environ)
    if verify:
        states = verify_files(selected, folder)
    elif source:
        states = import_files(selected, folder, source, on_wait=on_wait)
    else:
        with download_progress(quiet=quiet or json) as on_progress:
            states = download_dataset(
                selected, folder, mirrors=mirror or (), on_progress=on_progress, on_wait=on_wait
            )
    show_files(selected, folder, states, as_json=json, quiet=quiet)
    if source and states and not any(state.source for state in states):
        print_note(f"Nothing was taken from {source}: the files were already in {folder}.")
    require_complete(selected, states, folder)
