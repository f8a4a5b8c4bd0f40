"""Errors: exit codes, the parts of a message, suggestions for unknown names."""

import sys

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
    require_known,
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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cuda", "cuda"),
        ("CUDA", "cuda"),
        (" Cuda:0", "cuda"),
        ("bf16", "bfloat16"),
        ("FP16", "float16"),
        ("Fashion_MNIST", "fashion-mnist"),
        ("My-Recipe", "My-Recipe"),
    ],
)
def test_a_name_in_another_case_or_by_an_alias_is_taken(name: str, meant: str) -> None:
    known = ["cuda", "float16", "bfloat16", "fashion-mnist", "My-Recipe"]
    assert require_known("name", name, known) == meant


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac's GPU is mps")
def test_a_gpu_is_cuda_and_never_the_cpu() -> None:
    assert require_known("device", "gpu", ["cpu", "cuda"]) == "cuda"
    fix = unknown_name("device", "cuda:1", ["cpu", "cuda"]).fix
    assert "cuda?" in fix
    assert "CUDA_VISIBLE_DEVICES=1" in fix


def test_long_texts_are_shortened() -> None:
    assert shorten("x" * MAX_QUOTED) == "x" * MAX_QUOTED
    assert len(shorten("x" * 9000)) == MAX_QUOTED + 1


def test_messages_of_libraries_are_reduced_to_one_line() -> None:
    assert first_line(ValueError("It broke.\nHere is why.")) == "It broke"
    assert first_line(ValueError("")) == "ValueError"
    assert first_mismatch(RuntimeError("Error(s) in X:\n\tMissing key(s).")) == "Missing key(s)"
    assert first_mismatch(RuntimeError("")) == "RuntimeError"
