"""Interrupts are delayed until several files are written."""

import signal
import threading
from collections.abc import Iterator

import pytest

from mnistcli.system.signals import INTERRUPTS, defer_interrupts, handle_as_ctrl_c


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restores the handlers of all interrupts after the test."""
    previous = {number: signal.getsignal(number) for number in INTERRUPTS}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", INTERRUPTS)
def test_a_signal_is_handled_after_the_context(number: signal.Signals) -> None:
    events: list[str] = []
    signal.signal(number, lambda *_: events.append("handled"))
    with defer_interrupts():
        signal.raise_signal(number)
        events.append("written")
    assert events == ["written", "handled"]
    signal.raise_signal(number)
    assert len(events) == 3


@pytest.mark.usefixtures("handlers")
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_an_ignored_signal_does_not_replace_another_one() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    handle_as_ctrl_c()
    with pytest.raises(KeyboardInterrupt), defer_interrupts():
        list(map(signal.raise_signal, (signal.SIGHUP, signal.SIGTERM)))


def test_an_exception_restores_the_handlers() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), defer_interrupts():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_in_other_threads_nothing_is_deferred() -> None:
    handlers = []

    def run() -> None:
        with defer_interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


@pytest.mark.usefixtures("handlers")
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_interrupts_unless_it_is_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    handle_as_ctrl_c()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    handle_as_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)  # from the shell too
