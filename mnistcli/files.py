"""Writing a file all at once or not at all."""

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Give `target` what `write` writes; if anything fails, leave it as it was.

    The content goes to a temporary name of its own in the same directory, is
    flushed to the disk and renamed, so that no reader, no crash and no second
    writer ever meets half a file.

    Raises:
        OSError: the directory is missing, read-only or full.
    """
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        # "x" rather than the tempfile module, whose files only their owner can read.
        with temporary.open("xb") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until several files that belong together are written.

    Elsewhere than in the main thread, where Python handles no signals, nothing
    needs to be put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    usual = {
        number: signal.signal(number, lambda number, _frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for each, handler in usual.items():
            signal.signal(each, handler)
    if caught:
        signal.raise_signal(caught[0])


class LockedError(Exception):
    """Another process holds the lock of a directory."""


@contextmanager
def locked(directory: Path, *, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """TO BE REPLACED."""
    from filelock import FileLock, Timeout

    lock = FileLock(directory / ".lock", timeout=0 if wait is None else -1)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError from error
    try:
        yield
    finally:
        lock.release()


def remove_abandoned(directory: Path) -> None:
    """TO BE REPLACED."""
