"""Locking a directory for one process at a time."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


LOCK_NAME = ".lock"
# How long to try for a lock without waiting for it. `is_locked` holds it for less.
LOCK_TIMEOUT_SECONDS = 0.2


class LockedError(Exception):
    """Another process, or another part of this one, holds a directory's lock."""


@contextmanager
def lock_directory(directory: Path, *, wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock of `directory` inside the context.

    If it is taken, `wait` is called once, and then the lock is waited for. It is the system's lock
    on the hidden file `.lock`: the system releases it when the process ends, and the file may stay.
    It is not reentrant: a second attempt in the same process would wait forever.

    Raises:
        LockedError: the lock is taken and `wait` is None.
        OSError: the directory is missing, or the lock file cannot be made or written.
    """
    from filelock import FileLock, Timeout

    if not directory.is_dir():  # filelock would make it
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

    This holds a shared lock for a moment if there is a lock file, and never makes one. On Windows
    the directory must be writable.
    """
    if not (directory / LOCK_NAME).exists():
        return False
    try:
        return _is_held(directory)
    except OSError:  # not a file, or a file system without locks
        return False


def _is_held(directory: Path) -> bool:
    """Whether the existing lock file of `directory` is locked; raises OSError."""
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
