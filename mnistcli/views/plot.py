"""What `mnist plot` prints."""

from pathlib import Path

from mnistcli.views.console import print_json, print_line


def show_plot_path(target: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the path of the new file."""
    if as_json:
        print_json({"file": str(target)})
    else:
        print_line(str(target) if quiet else f"Drew {target}")
