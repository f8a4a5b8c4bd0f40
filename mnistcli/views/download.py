"""The output of `mnist download`: progress, files and their states."""

import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from mnistcli.data.datasets import raw_folder
from mnistcli.views.console import plain_table, print_json, print_line, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnistcli.data.datasets import Dataset
    from mnistcli.data.download import FileState, OnDownloadProgress


@contextmanager
def download_progress(*, quiet: bool = False) -> "Iterator[OnDownloadProgress]":
    """Show a progress bar for each file on a terminal, a line for each elsewhere."""
    console = stderr()
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=quiet or not sys.stderr.isatty(),
    )
    tasks: dict[str, TaskID] = {}

    def on_progress(name: str, num_bytes: int, total_bytes: int | None) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total_bytes)
            if progress.disable and not quiet:
                console.print(Text(f"downloading {name}"))
        progress.update(tasks[name], completed=num_bytes, total=total_bytes)

    with progress:
        yield on_progress


def show_files(
    dataset: "Dataset", data_dir: Path, states: "Sequence[FileState]", *, as_json: bool, quiet: bool
) -> None:
    """Print the states of a data set's files."""
    if as_json:
        records = [{**asdict(state), "path": str(state.path)} for state in states]
        print_json({"dataset": dataset.name, "data_dir": str(data_dir), "files": records})
    elif quiet:
        print_line(str(data_dir))
    elif not states:
        print_line(f"{dataset.name} needs no download: {dataset.summary}.")
    else:
        folder = raw_folder(dataset, data_dir)
        table = plain_table("file", "state")
        for state in states:
            style = "red" if state.state in ("missing", "damaged") else "green"
            table.add_row(Text(str(state.path.relative_to(folder))), Text(state.state, style=style))
        stdout().print(table)
        stdout().print(Text(f"Directory: {folder}"), soft_wrap=True)
