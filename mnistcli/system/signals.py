"""The signals that interrupt a command: Ctrl-C, SIGTERM, and SIGHUP of a closed terminal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    if (number := getattr(signal, name, None)) is not None
)


def handle_as_ctrl_c() -> None:
    """Let every interrupt raise KeyboardInterrupt, so that unfinished work is cleaned up.

    One that is ignored stays ignored, as SIGHUP is after `nohup`.
    """
    for number in INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            is_hangup = number == getattr(signal, "SIGHUP", None)
            signal.signal(number, _hang_up if is_hangup else signal.default_int_handler)


def _hang_up(number: int, _frame: FrameType | None) -> NoReturn:
    # The system and the shell both send it, and a second one would interrupt the cleaning up.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Delay interrupts until the context ends, so that several files are written together.

    Outside the main thread this does nothing, because Python handles signals only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    previous_handlers = {}
    try:
        for number in INTERRUPTS:
            if signal.getsignal(number) == signal.SIG_IGN:
                continue  # raised below in place of another one, it would have no effect
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
