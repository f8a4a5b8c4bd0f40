"""Every failure has its exit code, its three parts, and a wrong name the nearest right one."""

import pytest

from mnistcli.errors import (
    EXIT_INTERRUPTED,
    DataError,
    DeviceError,
    GateError,
    MnistError,
    RunError,
    SettingsError,
    unknown_name,
)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (MnistError, 1),
        (RunError, 1),
        (SettingsError, 2),
        (DataError, 3),
        (DeviceError, 4),
        (GateError, 5),
    ],
)
def test_each_failure_has_its_own_exit_code(error: type[MnistError], exit_code: int) -> None:
    assert error.exit_code == exit_code
    assert issubclass(error, MnistError)


def test_an_interruption_leaves_as_a_shell_expects() -> None:
    assert EXIT_INTERRUPTED == 130


def test_an_error_carries_what_why_and_fix() -> None:
    error = DataError("It broke.", why="It fell.", fix="Glue it.")
    assert (error.what, error.why, error.fix) == ("It broke.", "It fell.", "Glue it.")
    assert str(error) == "It broke."


def test_why_and_fix_are_empty_unless_given() -> None:
    error = RunError("It broke.")
    assert (error.why, error.fix) == ("", "")


@pytest.mark.parametrize(
    ("typed", "meant"), [("apple", "apples"), ("BANANA", "bananas"), ("bnana", "bananas")]
)
def test_a_wrong_name_suggests_the_nearest(typed: str, meant: str) -> None:
    error = unknown_name("fruit", typed, ["bananas", "apples"])
    assert error.what == f"There is no fruit called '{typed}'."
    assert error.why == "Known: apples, bananas."
    assert error.fix == f"Did you mean {meant}?"


def test_a_name_like_no_other_lists_them_all() -> None:
    error = unknown_name("fruit", "zzz", iter(["b", "a"]))
    assert error.why == "Known: a, b."
    assert error.fix == "Pick one of these."
    assert error.exit_code == 2
