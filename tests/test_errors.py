"""Errors: exit codes, the parts of a message, suggestions for unknown names."""

import pytest

from mnistcli.errors import (
    MAX_QUOTED,
    DataError,
    DeviceError,
    GateError,
    MnistError,
    RunError,
    SettingsError,
    first_line,
    first_mismatch,
    shorten,
    unknown_name,
)


def test_every_error_has_its_exit_code() -> None:
    errors = (MnistError, RunError, SettingsError, DataError, DeviceError, GateError)
    assert [error.exit_code for error in errors] == [1, 1, 2, 3, 4, 5]


def test_an_error_has_what_why_and_fix() -> None:
    error = DataError("It broke.", why="It fell.", fix="Glue it.")
    assert (error.what, error.why, error.fix) == ("It broke.", "It fell.", "Glue it.")
    assert str(error) == "It broke."
    assert error.__notes__ == ["It fell.", "Glue it."]
    assert (RunError("It broke.").why, RunError("It broke.").fix) == ("", "")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("apple", "Did you mean apples?"),
        ("BNANA", "Did you mean bananas?"),
        ("zzz", "Pick one of these."),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, fix: str) -> None:
    error = unknown_name("fruit", name, iter(["bananas", "apples"]))
    assert name in error.what
    assert "apples, bananas" in error.why
    assert error.fix == fix


def test_long_texts_are_shortened() -> None:
    assert shorten("x" * MAX_QUOTED) == "x" * MAX_QUOTED
    assert len(shorten("x" * 9000)) == MAX_QUOTED + 1


def test_messages_of_libraries_are_reduced_to_one_line() -> None:
    assert first_line(ValueError("It broke.\nHere is why.")) == "It broke"
    assert first_line(ValueError("")) == "ValueError"
    assert first_mismatch(RuntimeError("Error(s) in X:\n\tMissing key(s).")) == "Missing key(s)"
    assert first_mismatch(RuntimeError("")) == "RuntimeError"
