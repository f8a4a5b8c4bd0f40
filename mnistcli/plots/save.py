"""Figures become files: png, svg or pdf, the same bytes every time."""

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
    """The format asked for, else the one that the suffix of a path names, else png.

    Raises:
        SettingsError: it is none of `FORMATS`.
    """
    suffix = target.suffix[1:] if isinstance(target, Path) else "png"
    chosen = (suffix if format is None else format).lower()
    if chosen in FORMATS:
        return chosen
    raise SettingsError(
        f"Cannot draw '{chosen}' files." if chosen else f"Cannot tell the format of '{target}'.",
        why="Pictures are written as png, svg or pdf.",
        fix="End the file name in .png, .svg or .pdf.",
    )


@mpl.rc_context(STYLE)
def save(figure: Figure, target: Path | BinaryIO, *, format: str | None = None) -> None:  # noqa: A002
    """Write a figure as png (200 dpi), svg or pdf; the same figure gives the same bytes.

    A path appears complete or not at all: an older file stays until the new one
    is whole. Without a format, the suffix of the path says which, and a stream
    gets png.

    Raises:
        SettingsError: the format is none of `FORMATS`.
        RunError: the target cannot be written.
    """
    chosen = pick_format(target, format=format)
    # No dates. Through memory, because a pipe cannot tell its position and pdf asks for it.
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    picture = io.BytesIO()
    figure.savefig(picture, format=chosen, dpi=200, metadata=undated[chosen])
    try:
        if isinstance(target, Path):
            write_atomically(target, lambda handle: handle.write(picture.getvalue()))
        else:
            target.write(picture.getvalue())
            target.flush()
    except OSError as error:
        raise _unwritable_error(target, error) from error


def _unwritable_error(target: Path | BinaryIO, error: OSError) -> RunError:
    fix = "Write to another place."
    if isinstance(target, Path) and not target.parent.exists():
        fix = f"Make the directory first: mkdir -p {shlex.quote(str(target.parent))}"
    place = target if isinstance(target, Path) else "the output"
    return RunError(f"Cannot write the picture to {place}.", why=f"{error.strerror}.", fix=fix)
