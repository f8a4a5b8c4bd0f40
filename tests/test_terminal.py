"""What a person sees: the real command in a real pseudo-terminal, in a pipe, without colour."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

COMMAND = "-m mnistcli train --recipe cnn-26k --dataset digits --epochs 3 --name one"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(**changes: str) -> dict[str, str]:
    kept = {"PATH": os.environ["PATH"], "HOME": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", **changes}


def in_a_terminal(arguments: str, *, columns: int = 80, **changes: str) -> str:
    """Everything a terminal of `columns` columns is sent."""
    child = pexpect.spawn(
        sys.executable,
        arguments.split(),
        env=environment(**changes),
        dimensions=(24, columns),
        timeout=120,
        encoding="utf-8",
    )
    output: str = child.read()
    child.close()
    assert child.exitstatus == 0, output
    return output


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_gets_a_live_bar_and_a_row_an_epoch(columns: int) -> None:
    output = in_a_terminal(COMMAND, columns=columns)
    assert "━" in output
    assert re.search(r"epoch 1/3.*loss .*img/s", output)
    rows = re.findall(r" +\d/3 .* s", ESCAPE.sub("", output))
    assert len(rows) == 3


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    output = ESCAPE.sub("", in_a_terminal(COMMAND, columns=columns))
    lines = [part for line in output.splitlines() for part in line.split("\r")]
    assert max(map(len, lines)) <= columns


def test_no_color_is_respected() -> None:
    output = in_a_terminal("-m mnistcli summary --arch cnn", NO_COLOR="1")
    assert "26,698" in output
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", output)


def test_force_color_colours_a_pipe() -> None:
    command = [sys.executable, "-m", "mnistcli", "summary", "--arch", "cnn"]
    for force, coloured in (({"FORCE_COLOR": "1"}, True), ({}, False)):
        result = subprocess.run(command, capture_output=True, env=environment(**force), check=True)
        assert (b"\x1b[" in result.stdout) is coloured


def test_a_dumb_terminal_gets_no_escapes() -> None:
    output = in_a_terminal(COMMAND, TERM="dumb")
    assert "\x1b" not in output
    assert "Kept in runs/one" in output


def test_a_pipe_gets_plain_lines() -> None:
    result = subprocess.run(
        [sys.executable, *COMMAND.split()],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stderr
    assert len(re.findall(r"^ +\d/3 .* s$", result.stderr, re.MULTILINE)) == 3
    assert "━" not in result.stderr


def test_the_confusion_matrix_fits_80_columns() -> None:
    output = ESCAPE.sub("", in_a_terminal("-m mnistcli eval --dataset digits", columns=80))
    assert max(map(len, output.splitlines())) <= 80
    assert "…" not in output
