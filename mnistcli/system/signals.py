"""Deferring Ctrl-C and SIGTERM."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform != "win32":
    pass


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
