"""Functions in other processes: what they give back, what they raise, how they end."""

import signal
import sys
from pathlib import Path

import pytest

from mnistcli.diagnostics.processes import call_in_process, last_words
from mnistcli.errors import RunError, SettingsError


def test_a_function_gives_its_result() -> None:
    assert call_in_process("math:sqrt", 9) == 3.0


def test_what_is_printed_in_between_is_no_result() -> None:
    assert call_in_process("builtins:print", "noise") is None


def test_its_error_is_raised_here() -> None:
    with pytest.raises(SettingsError, match="no recipe called 'cnn-26'") as caught:
        call_in_process("mnistcli.registry:recipe", "cnn-26")
    assert caught.value.fix == "Did you mean cnn-26k?"
    assert "cnn-26k" in caught.value.why


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_is_killed_is_an_error() -> None:
    with pytest.raises(RunError, match="ended by SIGKILL") as caught:
        call_in_process("signal:raise_signal", signal.SIGKILL.value)
    assert caught.value.fix


def test_a_bug_says_its_last_words() -> None:
    with pytest.raises(RunError, match="gave no result: ValueError"):
        call_in_process("math:sqrt", -1)


def test_the_other_process_ignores_what_lies_in_the_current_directory() -> None:
    for name in ("json.py", "math.py", "mnistcli.py"):
        Path(name).write_text("raise SystemExit('the wrong module')\n")
    assert call_in_process("math:sqrt", 4) == 2.0


@pytest.mark.parametrize(
    ("returncode", "complaints", "words"),
    [
        (3, [], "the process ended with exit code 3"),
        (1, ["Traceback", "OSError: no room ", " "], "OSError: no room"),
        (-250, ["ignored"], "the process was ended by signal 250"),
    ],
)
def test_last_words(returncode: int, complaints: list[str], words: str) -> None:
    assert last_words(returncode, complaints) == words
