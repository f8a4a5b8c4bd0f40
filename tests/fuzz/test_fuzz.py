"""Some hundred damaged and forged files for every reader; thousands: `python tests/fuzz.py all`."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mnistcli.errors import DataError
from tests.fuzz import fuzz
from tests.fuzz.readers import READERS, Input, Reader
from tests.helpers.audit import reading

# What takes longest has fewer.
TRIES = {"state": 200, "settings": 200}


@pytest.fixture(autouse=True)
def _temporary_files_are_the_tests_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("reader", READERS)
def test_damaged_and_forged_files_are_read_rightly_or_refused(reader: str, tmp_path: Path) -> None:
    kinds = set()
    fuzz.attempt(reader, Input("warm", b""), tmp_path)  # what loads torch takes its time
    for number in range(TRIES.get(reader, 300)):
        given = fuzz.drawn(reader, 0, number)
        outcome = fuzz.attempt(reader, given, tmp_path)
        assert outcome.kind != "failure", f"try {number}, {given.how}: {outcome.why}"
        kinds.add(outcome.kind)
    assert kinds == {"error", "result"}


@pytest.mark.parametrize("reader", READERS)
def test_right_files_are_read(reader: str, tmp_path: Path) -> None:
    for kind, contents in READERS[reader].seeds().items():
        for content in contents:
            outcome = fuzz.attempt(reader, Input(f"{kind}-damaged", content), tmp_path)
            assert (outcome.kind, outcome.why) == ("result", "")


@pytest.mark.parametrize("reader", READERS)
def test_a_seed_always_gives_the_same_files(reader: str) -> None:
    for number in range(5):
        assert fuzz.drawn(reader, 3, number) == fuzz.drawn(reader, 3, number)


def _reads(way: Callable[[Path], object]) -> Reader:
    def check(how: str, content: bytes, folder: Path) -> None:
        way(folder)

    return Reader(lambda: {"x": [b"x"]}, {}, check)


def _raises(error: Exception) -> Callable[[Path], object]:
    def way(folder: Path) -> object:
        raise error

    return way


def _opens(path: str, mode: str) -> Callable[[Path], object]:
    def way(folder: Path) -> object:
        with reading(folder), (folder / path).open(mode):
            return None

    return way


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (_raises(KeyError("x")), "KeyError"),
        (_raises(RecursionError()), "RecursionError"),
        (_raises(DataError("what")), "without a way out"),
        (_raises(DataError("what", why="x" * 9000, fix="do")), "9006 characters"),
        (_opens("../other", "w"), "beside its file"),
        (_opens("/etc/hostname", "r"), "beside its file"),
        (lambda _: sum(range(10**6)), "seconds"),
        (lambda _: bytearray(b"x") * (50 << 20), "MiB"),
    ],
)
def test_a_reader_that_is_wrong_is_found(
    way: Callable[[Path], object], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READERS, "wrong", _reads(way))
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.001 if why == "seconds" else 10)
    monkeypatch.setattr(fuzz, "MAX_MIB", 10)
    outcome = fuzz.attempt("wrong", Input("x", b"x"), tmp_path)
    assert outcome.kind == "failure"
    assert why in outcome.why


def test_the_program_counts_and_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["idx", "--tries", "40", "--seed", "5", "--failures", str(tmp_path / "failures")]
    assert fuzz.main(arguments) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["reader", "tries", "errors", "results"]
    assert row.split()[:2] == ["idx", "40"]
    assert row.split()[-1] == "0"
    assert not (tmp_path / "failures").exists()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.abort()", "it crashes the process"),
        ("import time; time.sleep(99)", "it hangs"),
    ],
)
def test_a_crash_and_a_hang_cost_one_try_and_can_be_replayed(
    program: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the process: its first try ends it, or does not end."""
    script = tmp_path / "work.py"
    script.write_text(
        "import pathlib, sys\n"
        "first, end, folder = int(sys.argv[4]), int(sys.argv[5]), pathlib.Path(sys.argv[6])\n"
        "print('ready', flush=True)\n"
        "(folder / 'given').write_bytes(b'x')\n"
        "for number in range(first, end):\n"
        "    print('try', number, 'idx-damaged', flush=True)\n"
        f"    if number == 1: {program}\n"
        """    print('{"kind": "error", "why": "", "seconds": 0.0, "mib": 0.0}', flush=True)\n"""
    )
    monkeypatch.setattr(fuzz, "__file__", str(script))
    monkeypatch.setattr(fuzz, "HANGING_SECONDS", 0.5)
    tally = fuzz.fuzz("idx", tries=4, seed=0, failures=tmp_path / "failures")
    assert tally.kinds == {"error": 3, "failure": 1}
    assert tally.failures == {why: [tmp_path / "failures" / "idx-idx-damaged-0-1"]}
    assert fuzz.replay(tmp_path / "failures" / "idx-idx-damaged-0-1").kind == "error"
