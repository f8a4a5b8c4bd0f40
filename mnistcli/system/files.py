"""Replacing a file atomically, and checking a file before it is read."""

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
    """Replace `target` with what `write` writes; if anything fails, leave it unchanged.

    The content goes to a temporary file in the same directory, which is flushed to the disk and
    then renamed, so no reader, crash or second writer ever sees half a file. A killed writer leaves
    a hidden file, which `remove_stale_temporaries` removes.

    Raises:
        OSError: the directory is missing, read-only or full.
    """
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        # "x" rather than the tempfile module, whose files only their owner can read.
        with temporary.open("xb") as handle:
            _lock_while_open(handle)
            if not temporary.exists():  # removed as stale before it was locked
                write_atomically(target, write)
                return
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
            if sys.platform == "win32":
                handle.close()  # an open file cannot be renamed there
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale_temporaries(directory: Path) -> None:
    """Remove the temporary files in `directory` whose writer was killed, as far as possible.

    A writer holds a lock on its temporary file, which the system releases when the process ends.
    """
    with suppress(OSError):
        for path in directory.iterdir():
            if _TEMPORARY_NAME.fullmatch(path.name) and path.is_file():
                with suppress(OSError):
                    _remove_unless_open(path)


def expand_home(path: str | Path) -> Path:
    """A path with a "~" at its beginning expanded, or as it is if that home is not known."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own fails without a home)


class UnreadableFileError(OSError):
    """A path that exists and should not be read: a device, a pipe or a file that is too large."""


def require_readable(path: Path, max_bytes: float = math.inf) -> None:
    """Check a path before it is read, because reading a device or a pipe may never end.

    A missing path and a directory pass: opening them raises an error of its own.

    Raises:
        UnreadableFileError: it is a device or a pipe, or has more than `max_bytes`.
    """
    if path.is_file():
        if path.stat().st_size > max_bytes:
            raise UnreadableFileError(errno.EFBIG, f"It has more than {max_bytes / 1e6:.0f} MB")
    elif path.exists() and not path.is_dir():
        raise UnreadableFileError(errno.EINVAL, "It is a device or a pipe")


def _lock_while_open(handle: BinaryIO) -> None:
    """Lock a temporary file until it is closed. Windows does not remove open files anyway."""
    if sys.platform != "win32":
        with suppress(OSError):  # file systems without locks have no stale files
            fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_unless_open(path: Path) -> None:
    """Remove a temporary file; raises OSError if its writer is still running."""
    if sys.platform == "win32":
        path.unlink()
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
