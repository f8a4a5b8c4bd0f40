"""What a person sees of a picture: previews, steps and progress bars in a terminal."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.reading.predict import Reading
from mnistcli.views.predict import PredictReport
from tests.helpers.cli import Mnist, Terminal, environment
from tests.helpers.pictures import decoded, reading_of, with_marks, written
from tests.helpers.processes import ForkServer

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLORS = re.compile(r"\x1b\[[0-9;]*[349][0-9][0-9;]*m")
STEPS = ("gray", "ink", "digit 1", "digit 2")


def has_blocks(line: str) -> bool:
    return any(block in line for block in "▀▄█")


def plain_lines(output: str, *, columns: int) -> list[str]:
    """The lines of a terminal without colors; none is wider than it."""
    lines = ESCAPE.sub("", output).splitlines()
    assert max(map(len, lines)) <= columns
    return lines


@pytest.fixture
def many() -> Path:
    Path("many").mkdir()
    for label in "12345":
        written(label).save(f"many/{label}.png")
    return Path("many")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_networks_input_is_next_to_the_bars(columns: int, terminal: Terminal) -> None:
    written("7").save("digit.png")
    output = terminal("predict digit.png", columns=columns)
    first, *lines = plain_lines(output, columns=columns)
    assert first == "digit.png: 7"
    bars = [line for line in lines if "%" in line]
    assert len(bars) == 3
    assert any(has_blocks(line[:28]) for line in bars)
    assert all("━" in line[28:] and not has_blocks(line[28:]) for line in bars)
    assert COLORS.search(output)


@pytest.mark.parametrize(("columns", "per_row"), [(80, 2), (120, 3)])
def test_show_draws_every_step(columns: int, per_row: int, terminal: Terminal) -> None:
    written("42").save("number.png")
    lines = plain_lines(terminal("predict number.png --show", columns=columns), columns=columns)
    titles = [line for line in lines if line and not has_blocks(line)]
    assert all(any(re.search(rf"\b{step}\b", line) for line in titles) for step in STEPS)
    assert re.split(r"\s{2,}", titles[1].strip()) == list(STEPS[:per_row])


def test_without_colors_there_is_still_a_preview(terminal: Terminal) -> None:
    written("7").save("digit.png")
    output = terminal("predict digit.png", NO_COLOR="1")
    assert not COLORS.search(output)
    assert sum(map(has_blocks, output.splitlines())) >= 10


def test_a_dumb_terminal_gets_no_escapes(terminal: Terminal) -> None:
    written("7").save("digit.png")
    output = terminal("predict digit.png", TERM="dumb")
    assert "\x1b" not in output
    assert "digit.png: 7" in output


def test_many_pictures_get_a_line_each(terminal: Terminal, many: Path) -> None:
    lines = plain_lines(terminal(f"predict {many}", columns=80), columns=80)
    assert [line.split()[1] for line in lines] == list("12345")


@pytest.mark.parametrize(
    ("options", "stdout"),
    [
        ("", r"(many/([1-5])\.png: \2 .*\n){5}"),
        ("--csv", r"file,.*\n(many/([1-5])\.png,\2,.*\n){5}"),
        ("--labels labels.csv -q", r"100\.00\n"),
    ],
)
def test_a_terminal_shows_progress_while_results_go_to_a_file(
    options: str, stdout: str, many: Path, fork_server: ForkServer
) -> None:
    Path("labels.csv").write_text("file,label\nmany/1.png,1\n")
    arguments = ["predict", str(many), *options.split()]
    results = Path("results.txt")
    output = fork_server.run_in_terminal(
        *arguments, columns=80, environ=environment(), stdout=results
    )
    assert "5/5" in output
    assert re.fullmatch(stdout, results.read_text())


@pytest.mark.parametrize("names", [["7.png"], ["2026.png"], ["7.png", "2026.png"] * 3])
def test_a_pipe_gets_no_preview_no_colors_and_no_progress(mnist: Mnist, names: list[str]) -> None:
    for name in set(names):
        written(Path(name).stem).save(name)
    result = mnist("predict", *names)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert not has_blocks(result.stdout)
    assert result.stderr == ""


def test_show_draws_the_steps_in_a_pipe_too(mnist: Mnist, many: Path) -> None:
    result = mnist("predict", many, "--show")
    assert "\x1b" not in result.stdout
    assert has_blocks(result.stdout)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout.count("digit 1") == 5


def test_a_doubt_is_printed_with_the_digit(capsys: pytest.CaptureFixture[str]) -> None:
    picture = written("42")
    first, second = reading_of(picture).predictions
    unsure = replace(second, probabilities=second.probabilities | {"2": 0.5, "7": 0.49})
    reading = Reading([first, unsure], [], reading_of(picture).ink_HW)
    for num in (1, 5):
        with PredictReport(
            num_pictures=num, style="text", top=3, show=False, is_scored=False
        ) as report:
            report.add(decoded(picture), reading, None)
        assert "unsure: it may be 2 or 7" in capsys.readouterr().out


def test_what_is_left_out_is_named_on_stderr(mnist: Mnist) -> None:
    with_marks("7", num=2).save("7.png")
    for options in ([], ["-q"]):
        result = mnist("predict", "7.png", *options)
        assert result.exit_code == 0
        [note] = result.stderr.splitlines()
        assert re.search(r"7\.png: ink left out at 3[45], 1[45] \([4-6]x[4-6] px", note)
        assert "apart" in note
        assert "and 1 more" in note
    for option in ("--json", "--csv"):
        assert mnist("predict", "7.png", option).stderr == ""
    assert "left out" in mnist("predict", *["7.png"] * 5).stdout
