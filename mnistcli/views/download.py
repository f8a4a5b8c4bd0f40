"""The output of `mnist download`: progress, files and their states."""

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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


@dataclass(frozen=True)
class FileRecord:
    """The state of a file; `source` is where it was just copied from, else empty."""

    name: str
    state: Literal["verified", "downloaded", "imported", "missing", "damaged"]
    path: str
    source: str


@dataclass(frozen=True)
class DownloadRecord:
    """The files of a data set."""

    dataset: str
    data_dir: str
    files: list[FileRecord]


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
        files = [
            FileRecord(state.name, state.state, str(state.path), state.source) for state in states
        ]
        print_json(DownloadRecord(dataset.name, str(data_dir), files))
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
