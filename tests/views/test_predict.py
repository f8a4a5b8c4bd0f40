"""What a person sees of a reading: previews, steps and bars in a terminal, none in a pipe."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.cli import Mnist, Terminal, environment
from tests.helpers.processes import ForkServer
from tests.reading.test_predict import written
from tests.views.test_terminal import ESCAPE, in_a_terminal

HALF_BLOCKS = "▀▄█"
COLOURS = re.compile(r"\x1b\[[0-9;]*[349][0-9][0-9;]*m")
STEPS = ("grey", "its paper", "paper removed", "ink", "digits found", "digit 1", "digit 2")


def shown(terminal: Terminal, arguments: str, *, columns: int, **changes: str) -> list[str]:
    """The lines of a terminal, without colors; none is wider than it."""
    output = ESCAPE.sub("", terminal(arguments, columns=columns, **changes))
    lines = output.splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in output
    return lines


def has_blocks(text: str) -> bool:
    return any(block in text for block in HALF_BLOCKS)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_preview_stands_beside_the_bars(columns: int, terminal: Terminal) -> None:
    written("7").save("digit.png")
    first, *lines = shown(terminal, "predict digit.png", columns=columns)
    assert first == "digit.png: 7"
    beside = [line for line in lines if "%" in line]
    assert len(beside) == 3
    assert any(has_blocks(line[:28]) for line in beside)
    assert all("━" in line[28:] and not has_blocks(line[28:]) for line in beside)
    assert sum(has_blocks(line) for line in lines) >= 10


@pytest.mark.parametrize("columns", [80, 120])
def test_show_draws_every_step(columns: int, terminal: Terminal) -> None:
    written("42").save("number.png")
    lines = shown(terminal, "predict number.png --show", columns=columns)
    titles = [line for line in lines if not has_blocks(line)]
    for step in STEPS:
        assert any(re.search(rf"\b{step}\b", line) for line in titles)
    per_row = sum(step in titles[1] for step in ("grey", "its paper", "paper removed"))
    assert per_row == (2 if columns == 80 else 3)
    assert sum(has_blocks(line) for line in lines) > 30


def test_no_color_gives_a_preview_without_colors(terminal: Terminal) -> None:
    written("7").save("digit.png")
    output = terminal("predict digit.png", NO_COLOR="1")
    assert not COLOURS.search(output)
    assert sum(has_blocks(line) for line in output.splitlines()) >= 10


def test_a_terminal_gets_colors(terminal: Terminal) -> None:
    written("7").save("digit.png")
    assert COLOURS.search(terminal("predict digit.png"))


def test_a_dumb_terminal_gets_no_escapes(terminal: Terminal) -> None:
    written("7").save("digit.png")
    output = terminal("predict digit.png", TERM="dumb")
    assert "\x1b" not in output
    assert "digit.png: 7" in output


def test_a_terminal_without_block_characters_gets_letters() -> None:
    written("7").save("digit.png")
    # Python reads of the encoding when it starts.
    lines = shown(in_a_terminal, "predict digit.png", columns=80, PYTHONIOENCODING="ascii")
    assert sum("@" in line[:28] for line in lines) >= 8
    assert "?" not in "".join(lines)


def test_a_terminal_gets_a_line_a_picture_of_many(terminal: Terminal) -> None:
    Path("many").mkdir()
    for label in "12345":
        written(label).save(f"many/{label}.png")
    lines = shown(terminal, "predict many", columns=80)
    assert [line.split()[1] for line in lines] == list("12345")


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ("", r"(many/([1-5])\.png: \2 .*\n){5}"),
        ("-q", r"([1-5]\n){5}"),
        ("--json", r"(\{.*\}\n){5}"),
        ("--csv", r"file,.*\n(many/([1-5])\.png,\2,.*\n){5}"),
        ("--labels labels.csv -q", r"100\.00\n"),
    ],
    ids=["readings", "digits", "json", "csv", "score"],
)
def test_a_terminal_sees_how_far_it_is_while_the_results_go_to_a_file(
    options: str, kept: str, fork_server: ForkServer
) -> None:
    Path("many").mkdir()
    for label in "12345":
        written(label).save(f"many/{label}.png")
    Path("labels.csv").write_text("file,label\nmany/1.png,1\n")
    words = ["predict", "many", *options.split()]
    read = Path("read.txt")
    output = fork_server.run_in_terminal(*words, columns=80, environ=environment(), stdout=read)
    assert "reading" in output
    assert "5/5" in output
    assert re.fullmatch(kept, read.read_text())


def test_a_pipe_gets_no_preview_and_no_colors(mnist: Mnist) -> None:
    written("7").save("digit.png")
    written("2026").save("year.png")
    for names in (["digit.png"], ["year.png"], ["digit.png", "year.png"] * 3):
        result = mnist("predict", *names)
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout + result.stderr
        assert not has_blocks(result.stdout)
        assert "reading" not in result.stderr


def test_show_draws_every_step_in_a_pipe_too(mnist: Mnist) -> None:
    written("42").save("number.png")
    result = mnist("predict", "number.png", "--show")
    assert "\x1b" not in result.stdout
    assert all(step in result.stdout for step in STEPS)
    assert has_blocks(result.stdout)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_show_draws_the_steps_of_each_of_many(mnist: Mnist) -> None:
    for label in "12345":
        written(label).save(f"{label}.png")
    result = mnist("predict", *(f"{label}.png" for label in "12345"), "--show")
    assert result.stdout.count("digits found") == 5


def test_a_doubt_is_told_with_the_reading(mnist: Mnist) -> None:
    blot = Image.new("L", (100, 100), 255)
    blot.paste(0, (20, 20, 80, 80))
    blot.save("blot.png")
    few = mnist("predict", "blot.png").stdout
    many = mnist("predict", *["blot.png"] * 5).stdout.splitlines()
    doubts = ("unsure", "unlike MNIST")
    assert any(doubt in few for doubt in doubts)
    assert len(many) == 5
    assert all(any(doubt in line for doubt in doubts) for line in many)
