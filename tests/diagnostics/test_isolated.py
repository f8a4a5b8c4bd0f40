"""Functions in processes of their own: results, errors, and all the ways to die."""

import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from mnistcli.diagnostics import isolated
from mnistcli.diagnostics.isolated import (
    ProcessDiedError,
    ProcessSilentError,
    _describe_exit,
    call_isolated,
    iterate_isolated,
)
from mnistcli.errors import SettingsError
from tests.helpers import crashes


def test_results_come_back_and_prints_do_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(iterate_isolated(crashes.chatter)) == [1, 2]
    assert call_isolated(math.hypot, 3, 4) == 5.0
    assert capfd.readouterr() == ("", "")


def test_an_error_of_ours_is_raised_here() -> None:
    with pytest.raises(SettingsError, match=r"No\.") as caught:
        list(iterate_isolated(crashes.refuses))
    assert (caught.value.why, caught.value.fix) == ("Because.", "Do this")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        (crashes.killed, (signal.SIGKILL,), "the process was killed by SIGKILL"),
        (crashes.killed, (signal.SIGSEGV,), "the process was killed by SIGSEGV"),
        (crashes.exits, (3,), "the process exited with code 3"),
        (crashes.raises, (), "libcudnn.so.9: cannot open"),
        (crashes.pid_then_sleep, (), "no answer within 1 s"),
    ],
)
def test_a_process_that_dies_is_an_error_with_its_reason(
    function: Callable[..., Iterator[int]], args: tuple[int, ...], reason: str
) -> None:
    results = iterate_isolated(function, *args, start_seconds=60, silence_seconds=1)
    with pytest.raises(ProcessDiedError) as caught:
        list(results)
    assert caught.value.reason == reason
    assert "mnist doctor" in caught.value.fix


def test_a_process_that_does_not_exit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "EXIT_SECONDS", 0.5)
    results = iterate_isolated(crashes.no_exit)
    assert next(results) == 1
    with pytest.raises(ProcessSilentError, match="does not exit"):
        next(results)


def test_a_signal_without_a_name_is_a_number() -> None:
    assert _describe_exit(-250, Path("output.txt")) == "the process was killed by signal 250"


def test_no_result_is_an_error() -> None:
    with pytest.raises(ProcessDiedError, match="exited with code 7"):
        call_isolated(os._exit, 7)
    with pytest.raises(ProcessDiedError, match="no result"):
        call_isolated(os._exit, 0)


def test_a_result_that_is_cut_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def recv(_self: Any) -> None:
        raise OSError("got end of file during message")

    monkeypatch.setattr(multiprocessing.connection.Connection, "recv", recv)
    with pytest.raises(ProcessDiedError, match="SIGKILL"):
        list(iterate_isolated(crashes.killed, signal.SIGKILL))


def test_a_closed_generator_kills_the_process() -> None:
    results = iterate_isolated(crashes.pid_then_sleep)
    pid = next(results)
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_cannot_be_killed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is stuck in a driver; neither here nor at the exit of Python."""
    monkeypatch.setattr(SpawnProcess, "kill", lambda _process: None)
    monkeypatch.setattr(isolated, "KILL_SECONDS", 0.1)
    results = iterate_isolated(crashes.pid_then_sleep)
    pid = next(results)
    results.close()  # type: ignore[attr-defined]
    assert pid not in [process.pid for process in multiprocessing.active_children()]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_nothing_is_imported_from_the_current_directory() -> None:
    for name in ("json", "pickle", "socket", "math", "torch", "mnistcli"):
        Path(f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    assert call_isolated(math.sqrt, 4) == 2.0
    assert "PYTHONSAFEPATH" not in os.environ
