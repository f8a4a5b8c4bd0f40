"""Deferring Ctrl-C and SIGTERM."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the context ends, so that several files are written together.

    Outside the main thread this does nothing, because Python handles signals only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    previous_handlers = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous_handlers[number] = signal.signal(
                number, lambda number, _frame: caught.append(number)
            )
        yield
    finally:
        for number, handler in previous_handlers.items():
            # None: it was not set by Python, which cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if caught:
        signal.raise_signal(caught[0])
