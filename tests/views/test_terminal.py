"""Output in a pseudo-terminal, in a pipe, and without color."""

import re
import signal
import sys
from pathlib import Path

import pexpect
import pytest

from mnistcli.runs.directory import Run
from mnistcli.runs.history import read_metrics
from mnistcli.views.console import format_duration
from tests.helpers.cli import Mnist, Result, Terminal, environment
from tests.helpers.processes import ForkServer
from tests.helpers.runs import signal_at_step

COMMAND = "train --recipe cnn-26k --dataset digits --epochs 3 --name one"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_python_in_terminal(arguments: str, *, columns: int) -> str:
    """Everything that a fresh Python process sends to a terminal."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "mnistcli", *arguments.split()],
        env=environment(),
        dimensions=(24, columns),
        timeout=120,
        encoding="utf-8",
    )
    output: str = child.read()
    child.close()
    assert child.exitstatus == 0, output
    return output


def check_training(output: str, columns: int) -> None:
    """There is a live progress bar and a row for every epoch, none wider than the terminal."""
    assert "━" in output
    assert re.search(r"epoch 1/3.*loss .*img/s", output)
    plain = ESCAPE.sub("", output)
    for text in ("loading PyTorch", "loading digits", "timing three steps"):
        assert text in plain
    assert re.search(r"left +(-:--:--|-*:?--|\d+:\d\d)", plain)
    assert len(re.findall(r" +\d/3 .* s", plain)) == 3
    lines = [part for line in plain.splitlines() for part in line.split("\r")]
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_gets_a_live_bar_and_a_row_for_every_epoch(
    columns: int, terminal: Terminal
) -> None:
    check_training(terminal(COMMAND, columns=columns), columns)


@pytest.mark.slow
def test_a_fresh_process_in_a_terminal_gets_them_too() -> None:
    check_training(run_python_in_terminal(COMMAND, columns=80), 80)


def test_a_log_gets_the_header_and_the_rows_while_the_terminal_shows_the_bar(
    fork_server: ForkServer,
) -> None:
    shown = fork_server.run_in_terminal(
        *COMMAND.split(), columns=80, environ=environment(), stdout=Path("log.txt")
    )
    assert re.search(r"━.*img/s", shown)
    assert "val acc" not in shown
    log = Path("log.txt").read_text()
    assert log.startswith("network    cnn: 26,698 parameters")
    assert len(re.findall(r"^ +\d/3 .* s$", log, re.MULTILINE)) == 3
    assert not {"\x1b", "\r", "━"} & {*log}


def test_no_color_is_respected(terminal: Terminal) -> None:
    output = terminal("summary --arch cnn", NO_COLOR="1")
    assert "26,698" in output
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", output)


def test_force_color_colors_a_pipe(fork_server: ForkServer) -> None:
    for force, is_colored in (({"FORCE_COLOR": "1"}, True), ({}, False)):
        result = fork_server.start("summary", "--arch", "cnn", environ=environment(**force)).wait()
        assert result.exit_code == 0
        assert ("\x1b[" in result.stdout) is is_colored


def test_a_dumb_terminal_gets_no_escapes(terminal: Terminal) -> None:
    output = terminal(COMMAND, TERM="dumb")
    assert "\x1b" not in output
    assert "runs/one" in output


def test_a_pipe_gets_plain_lines(fork_server: ForkServer) -> None:
    result = fork_server.start(*COMMAND.split(), environ=environment()).wait()
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stdout
    assert len(re.findall(r"^ +\d/3 .* s$", result.stdout, re.MULTILINE)) == 3
    assert "━" not in result.stderr
    assert "loading" not in result.stderr


def test_the_confusion_matrix_fits_80_columns(terminal: Terminal) -> None:
    output = ESCAPE.sub("", terminal("eval --dataset digits", columns=80))
    assert max(map(len, output.splitlines())) <= 80
    assert "…" not in output


@pytest.mark.parametrize("columns", [50, 40])
def test_a_narrow_terminal_gets_a_tighter_matrix_with_its_labels(
    columns: int, terminal: Terminal
) -> None:
    output = ESCAPE.sub("", terminal("eval --dataset digits", columns=columns))
    assert "…" not in output
    matrix = output.partition("prediction.")[2].splitlines()
    rows = [line.split() for line in matrix if re.match(r"\d +[\d.]", line)]
    assert [row[0] for row in rows] == [str(digit) for digit in range(10)]
    assert all(len(row) == 11 for row in rows)
    assert max(map(len, matrix)) <= columns


@pytest.mark.parametrize("command", ["eval small", "runs", "summary", "summary small"])
def test_a_pipe_gets_full_lines_whatever_columns_says(
    command: str, mnist: Mnist, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for columns in (None, "30", "300"):
        if columns:
            monkeypatch.setenv("COLUMNS", columns)
        else:
            monkeypatch.delenv("COLUMNS", raising=False)
        shown.append(mnist(*command.split(), "--out", trained.parent).stdout)
    assert shown[0] == shown[1] == shown[2]
    assert "…" not in shown[0]


def test_columns_that_do_not_fit_are_named(terminal: Terminal) -> None:
    output = ESCAPE.sub("", terminal("summary", columns=40))
    assert "…" not in output
    assert re.search(r"No room for .*MACs", " ".join(output.split()))
    assert "cnn-small" in output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (8.4, "8 seconds"),
        (90, "90 seconds"),
        (91, "2 minutes"),
        (3600, "60 minutes"),
        (5401, "2 hours"),
    ],
)
def test_a_duration_is_in_the_unit_that_people_use(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_time_is_estimated_before_the_training(mnist: Mnist) -> None:
    command = ("train", "--recipe", "mlp-50-50", "--dataset", "digits", "--epochs", "4")
    for more, words in (
        ((), "about"),
        (("--until", "100"), "up to about"),
        (("--seeds", "2"), "about"),
    ):
        result = mnist(*command, *more)
        before, _, _ = result.stdout.partition("\n\n")
        line = r"^time +{} \d+ (seconds?|minutes|hours) on this machine \(from three trial steps\)$"
        assert re.search(line.format(words), before, re.MULTILINE), result.stdout


# Standard output, or both streams, lead to a pipe whose reader has ended.
UNREAD = """
reader, writer = os.pipe()
for number in {numbers}: os.dup2(writer, number)
os.close(reader)
"""


@pytest.mark.parametrize("several", ["", " --seeds 2"])
@pytest.mark.parametrize("numbers", [(1,), (1, 2)])
def test_a_training_goes_on_when_nobody_reads_its_output(
    fork_server: ForkServer, several: str, numbers: tuple[int, ...]
) -> None:
    runs = [Path("runs/one", folder) for folder in (["seed-0", "seed-1"] if several else [""])]
    for words, num_epochs in ((COMMAND + several, 3), ("train --resume one --epochs 4", 4)):
        result = fork_server.run(*words.split(), prepare=UNREAD.format(numbers=numbers))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Traceback" not in result.stderr
        assert [len(read_metrics(Run(run))) for run in runs] == [num_epochs] * len(runs)
        assert all((run / "best.pth").is_file() for run in runs)


def test_an_interrupted_training_has_its_exit_code_when_nobody_reads_its_output(
    fork_server: ForkServer,
) -> None:
    prepare = UNREAD.format(numbers=(1, 2)) + signal_at_step(signal.SIGTERM)
    assert fork_server.run(*COMMAND.split(), prepare=prepare) == Result(130, "", "")


def test_a_score_is_kept_when_nobody_reads_it(fork_server: ForkServer, trained: Path) -> None:
    result = fork_server.run("eval", trained, prepare=UNREAD.format(numbers=(1,)))
    assert result.exit_code == 1
    assert (trained / "eval-digits-test.json").is_file()
