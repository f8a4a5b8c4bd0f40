"""Writes figures as PNG, SVG or PDF files, with the same bytes every time."""

import io
import shlex
from pathlib import Path
from typing import BinaryIO, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from mnistcli.errors import RunError, SettingsError
from mnistcli.plots.style import STYLE
from mnistcli.system.files import write_atomically

FORMATS: Final = ("png", "svg", "pdf")


def pick_format(target: Path | BinaryIO, *, format: str | None = None) -> str:  # noqa: A002
    """`format`, or else the suffix of a path, or else "png" for a stream.

    Raises:
        SettingsError: it is not one of `FORMATS`.
    """
    suffix = target.suffix[1:] if isinstance(target, Path) else "png"
    chosen = (suffix if format is None else format).lower()
    if chosen in FORMATS:
        return chosen
    raise SettingsError(
        f"Cannot write '{chosen}' files." if chosen else f"'{target}' has no format.",
        why="Plots are written as png, svg or pdf.",
        fix="End the file name in .png, .svg or .pdf.",
    )


@mpl.rc_context(STYLE)
def save(figure: Figure, target: Path | BinaryIO, *, format: str | None = None) -> None:  # noqa: A002
    """Write a figure as png (200 dpi), svg or pdf; the same figure gives the same bytes.

    A file is replaced atomically. `pick_format` chooses the format.

    Raises:
        SettingsError: the format is not one of `FORMATS`.
        RunError: the target cannot be written.
    """
    chosen = pick_format(target, format=format)
    # Dates would change the bytes. Through memory, because PDF needs a stream that can seek.
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    content = io.BytesIO()
    figure.savefig(content, format=chosen, dpi=200, metadata=undated[chosen])
    try:
        if isinstance(target, Path):
            write_atomically(target, lambda handle: handle.write(content.getvalue()))
        else:
            target.write(content.getvalue())
            target.flush()
    except OSError as error:
        raise _unwritable_error(target, error) from error


def _unwritable_error(target: Path | BinaryIO, error: OSError) -> RunError:
    fix = "Write to another file: -o FILE"
    if isinstance(target, Path) and not target.parent.exists():
        fix = f"Make the directory first: mkdir -p {shlex.quote(str(target.parent))}"
    destination = target if isinstance(target, Path) else "stdout"
    return RunError(f"Cannot write the plot to {destination}.", why=f"{error.strerror}.", fix=fix)
