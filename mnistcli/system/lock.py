"""One process at a time in a directory."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


LOCK_NAME = ".lock"
# How many seconds a lock is tried that is not waited for: `is_locked` holds it for less.
LOCK_TIMEOUT_SECONDS = 0.2


class LockedError(Exception):
    """Another process, or another part of this one, holds a directory's lock."""


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
