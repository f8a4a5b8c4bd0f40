"""Ctrl-C and SIGTERM are delayed until several files are written."""

import signal
import threading

import pytest

from mnistcli.system.signals import defer_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handled_after_the_context(number: signal.Signals) -> None:
    events: list[str] = []
    previous = signal.signal(number, lambda *_: events.append("handled"))
    try:
        with defer_interrupts():
            signal.raise_signal(number)
            events.append("written")
        assert events == ["written", "handled"]
        signal.raise_signal(number)
        assert len(events) == 3
    finally:
        signal.signal(number, previous)


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
