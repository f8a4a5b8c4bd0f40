"""Writes figures as PNG, SVG or PDF files, and pages as HTML, with the same bytes every time."""

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib as mpl
from matplotlib.figure import Figure

from mnistcli.errors import RunError, SettingsError
from mnistcli.plots.kinds import FORMATS
from mnistcli.plots.style import STYLE
from mnistcli.system.files import write_atomically


def pick_format(
    target: Path | BinaryIO,
    *,
    format: str | None = None,  # noqa: A002
    formats: Sequence[str] = FORMATS,
) -> str:
    """`format`, or else the suffix of a path, or else the first of `formats` for a stream.

    Raises:
        SettingsError: it is not one of `formats`.
    """
    suffix = target.suffix[1:] if isinstance(target, Path) else formats[0]
    chosen = (suffix if format is None else format).lower()
    if chosen in formats:
        return chosen
    what = "Plots are" if formats == FORMATS else "This page is"
    raise SettingsError(
        f"Cannot write '{chosen}' files." if chosen else f"'{target}' has no format.",
        why=f"{what} written as {_join_names(formats)}.",
        fix=f"End the file name in {_join_names([f'.{each}' for each in formats])}.",
    )


def _join_names(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


@mpl.rc_context(STYLE)
def save(drawn: Figure | str, target: Path | BinaryIO, *, format: str | None = None) -> None:  # noqa: A002
    """Write a figure as png (200 dpi), svg or pdf, with the same bytes every time; a page as text.

    A file is replaced atomically. `pick_format` chooses the format of a figure.

    Raises:
        SettingsError: the format is not one of `FORMATS`.
        RunError: the target cannot be written.
    """
    if isinstance(drawn, str):
        content = drawn.encode()
    else:
        content = _render(drawn, pick_format(target, format=format))
    try:
        if isinstance(target, Path):
            write_atomically(target, lambda handle: handle.write(content))
        else:
            target.write(content)
            target.flush()
    except OSError as error:
        raise _unwritable_error(target, error) from error


def _render(figure: Figure, chosen: str) -> bytes:
    """The content of a file in a chosen format."""
    # Dates would change the bytes. Through memory, because PDF needs a stream that can seek.
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    content = io.BytesIO()
    figure.savefig(content, format=chosen, dpi=200, metadata=undated[chosen])
    return content.getvalue()


def _unwritable_error(target: Path | BinaryIO, error: OSError) -> RunError:
    fix = "Write to another file: -o FILE"
    if isinstance(target, Path) and not target.parent.exists():
        fix = f"Make the directory first: mkdir -p {shlex.quote(str(target.parent))}"
    destination = target if isinstance(target, Path) else "stdout"
    return RunError(f"Cannot write the plot to {destination}.", why=f"{error.strerror}.", fix=fix)
