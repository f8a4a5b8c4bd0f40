"""What `mnist plot` prints."""

from dataclasses import dataclass
from pathlib import Path

from mnistcli.views.console import print_json, print_line


@dataclass(frozen=True)
class PlotRecord:
    """The file that was drawn."""

    file: str


def show_plot_path(target: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the path of the new file."""
    if as_json:
        print_json(PlotRecord(str(target)))
    else:
        print_line(str(target) if quiet else f"Drew {target}")
