"""Writing a file all at once or not at all; one process at a time in a directory."""

import errno
import math
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

LOCK_NAME = ".lock"
# How many seconds a lock is tried that is not waited for: `is_locked` holds it for less.
LOCK_TIMEOUT_SECONDS = 0.2
_TEMPORARY_NAME = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp", re.DOTALL)


class LockedError(Exception):
    """Another process, or another part of this one, holds a directory's lock."""


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


@contextmanager
def lock_directory(directory: Path, *, wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock of `directory` as long as the context lasts.

    If it is taken, `wait` is called once and the lock waited for. The lock is
    the system's own on the hidden file `.lock`, which may stay: the lock ends
    with the process that holds it, however that ends. It is not reentrant: who
    holds it already must not wait for it.

    Raises:
        LockedError: the lock is taken, for longer than a moment, and `wait` is None.
        OSError: the directory is missing, or the lock file cannot be made or written.
    """
    from filelock import FileLock, Timeout

    if not directory.is_dir():  # which filelock would make
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    lock = FileLock(directory / LOCK_NAME)
    try:
        lock.acquire(timeout=0 if wait else LOCK_TIMEOUT_SECONDS)
    except Timeout:
        if wait is None:
            raise LockedError(f"{directory} is in use.") from None
        wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(directory: Path) -> bool:
    """Whether another process, or another part of this one, holds the lock of `directory`.

    To find out, the lock is shared for a moment where there is one; none is
    made. Windows alone asks for a directory that can be written.
    """
    if not (directory / LOCK_NAME).exists():
        return False
    try:
        return _is_held(directory)
    except OSError:  # no file, or nothing can be locked there
        return False


def _is_held(directory: Path) -> bool:
    """Whether the lock of `directory`, which has one, is held; raises OSError."""
    if sys.platform == "win32":
        try:
            with lock_directory(directory, wait=None):
                return False
        except LockedError:
            return True
    descriptor = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until several files that belong together are written.

    Elsewhere than in the main thread, where Python handles no signals, nothing
    needs to be put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    usual = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            usual[number] = signal.signal(number, lambda number, _frame: caught.append(number))
        yield
    finally:
        for each, handler in usual.items():
            # None: it was set by something else than Python, which cannot set it again.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
    if caught:
        signal.raise_signal(caught[0])


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
