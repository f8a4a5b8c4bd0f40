"""Writing a file all at once or not at all; one process at a time in a directory."""

import errno
import math
import os
import re
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

_TEMPORARY_NAME = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp", re.DOTALL)


def write_atomically(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Give `target` what `write` writes; if anything fails, leave it as it was.

    The content goes to a temporary name of its own in the same directory, is
    flushed to the disk and renamed, so that no reader, no crash and no second
    writer ever meets half a file. What a killed writer leaves is hidden, and
    `remove_abandoned` removes it.

    Raises:
        OSError: the directory is missing, read-only or full.
    """
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        # "x" rather than the tempfile module, whose files only their owner can read.
        with temporary.open("xb") as handle:
            _lock_while_open(handle)
            if not temporary.exists():  # taken for abandoned before it was locked
                write_atomically(target, write)
                return
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
            if sys.platform == "win32":
                handle.close()  # no open file can be renamed there
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale_temporaries(directory: Path) -> None:
    """Remove the temporaries in `directory` whose writer was killed; skip what cannot be removed.

    A writer locks its temporary as long as it lives, and the system unlocks it
    when the process ends, however it ends.
    """
    with suppress(OSError):
        for path in directory.iterdir():
            if _TEMPORARY_NAME.fullmatch(path.name) and path.is_file():
                with suppress(OSError):
                    _remove_unless_open(path)


class UnreadableFileError(OSError):
    """There is something to read, and it is not a file of a size that makes sense."""


def require_readable(path: Path, max_bytes: float = math.inf) -> None:
    """Look before something is read whose end may never come; nothing if it is not there.

    Raises:
        NotAFileError: it is a device or a pipe, or has more than `max_bytes`.
    """
    if path.is_file():
        if path.stat().st_size > max_bytes:
            raise UnreadableFileError(errno.EFBIG, f"It has more than {max_bytes / 1e6:.0f} MB")
    elif path.exists() and not path.is_dir():
        raise UnreadableFileError(errno.EINVAL, "It is a device or a pipe")


def _lock_while_open(handle: BinaryIO) -> None:
    """Show that the writer of a temporary lives. Windows removes no open file anyway."""
    if sys.platform != "win32":
        with suppress(OSError):  # where nothing can be locked, nothing is taken for abandoned
            fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_unless_open(path: Path) -> None:
    """Remove a temporary; raises OSError if its writer lives."""
    if sys.platform == "win32":
        path.unlink()
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
