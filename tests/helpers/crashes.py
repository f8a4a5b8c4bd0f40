"""Functions for processes of their own, which end in every way."""

import atexit
import os
import sys
import time
from collections.abc import Iterator

from mnistcli.errors import SettingsError


def chatter() -> Iterator[int]:
    """Yield 1 and 2, and print."""
    yield 1
    sys.stdout.write("noise\n")
    os.write(2, b"noise of a driver\n")
    yield 2


def pid_then_sleep() -> Iterator[int]:
    """Yield the process id, then hang."""
    yield os.getpid()
    time.sleep(600)


def no_exit() -> Iterator[int]:
    """Yield 1, and hang when the interpreter exits."""
    atexit.register(time.sleep, 600)
    yield 1


def killed(signal_number: int) -> Iterator[int]:
    """Yield 1, then crash."""
    yield 1
    os.kill(os.getpid(), signal_number)


def exits(code: int) -> Iterator[int]:
    """Exit without a result."""
    os._exit(code)
    yield


def refuses() -> Iterator[int]:
    """Raise an error with a way out."""
    raise SettingsError("No.", why="Because.", fix="Do this")
    yield


def raises() -> Iterator[int]:
    """Raise an error of another kind, of two lines."""
    raise OSError("first\nlibcudnn.so.9: cannot open")
    yield
