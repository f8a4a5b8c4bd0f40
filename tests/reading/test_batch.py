"""Which files are meant, what is in them, and many of them in several processes."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistcli.errors import DataError
from mnistcli.reading import batch as gathering
from mnistcli.reading.batch import (
    PictureResult,
    find_picture_files,
    process_picture,
    process_pictures,
    read_input,
)
from tests.cli.test_train import shell_code
from tests.reading.test_predict import written


def files(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found_in(*names: str, recursive: bool = False) -> list[str]:
    found, errors = find_picture_files(names, recursive=recursive)
    assert not errors
    return found


def refused(*names: str, recursive: bool = False) -> tuple[list[str], DataError]:
    found, [error] = find_picture_files(names, recursive=recursive)
    return found, error


def test_files_are_taken_as_they_are_named() -> None:
    files("b.png", "notes.txt")
    names = ["notes.txt", "b.png", "missing.png", "-", "b.png"]
    assert found_in(*names) == names


def test_a_directory_stands_for_its_pictures_in_order() -> None:
    files("scans/b.png", "scans/a.JPG", "scans/c.tiff", "scans/d.txt", "scans/png", "scans/e/f.png")
    assert found_in("scans") == ["scans/a.JPG", "scans/b.png", "scans/c.tiff"]
    assert found_in("scans/") == found_in("scans")


def test_recursive_goes_to_the_bottom() -> None:
    files("scans/b.png", "scans/a/z.gif", "scans/a/y/x.bmp", "scans/a/y/notes.txt")
    everything = ["scans/a/y/x.bmp", "scans/a/z.gif", "scans/b.png"]
    assert found_in("scans", recursive=True) == everything


def test_names_keep_their_order_whatever_they_stand_for() -> None:
    files("z.png", "scans/2.png", "scans/1.png", "a.png")
    assert found_in("z.png", "scans", "a.png") == ["z.png", "scans/1.png", "scans/2.png", "a.png"]


def test_a_directory_without_pictures_is_named_and_recursive_suggested() -> None:
    files("scans/notes.txt", "scans/deep/1.png")
    found, error = refused("scans")
    assert not found
    assert "'scans'" in error.what
    assert "--recursive" in error.fix


def test_recursive_is_not_suggested_where_it_was_asked_for() -> None:
    files("scans/deep/notes.txt")
    assert "--recursive" not in refused("scans", recursive=True)[1].fix


def test_a_pattern_stands_for_what_is_called_like_it() -> None:
    files("scans/b.png", "scans/a.png", "scans/c.jpg", "scans/deep/d.png")
    assert found_in("scans/*.png") == ["scans/a.png", "scans/b.png"]
    assert found_in("scans/[bc].*") == ["scans/b.png", "scans/c.jpg"]
    assert found_in("scans/**/*.png") == ["scans/a.png", "scans/b.png", "scans/deep/d.png"]
    assert found_in(str(Path.cwd() / "scans" / "?.jpg")) == [str(Path.cwd() / "scans" / "c.jpg")]


def test_a_pattern_may_stand_for_directories() -> None:
    files("scans/1/a.png", "scans/2/b.png", "scans/2/notes.txt")
    assert found_in("scans/*") == ["scans/1/a.png", "scans/2/b.png"]


def test_a_pattern_that_nothing_is_called_like_is_named() -> None:
    files("scans/a.png")
    found, error = refused("scans/a.png", "scans/*.jpg")
    assert found == ["scans/a.png"]
    assert "scans/*.jpg" in error.what


def test_a_name_with_brackets_that_exists_is_no_pattern() -> None:
    files("scans [1]/a.png", "b[2].png", "b2.png")
    assert found_in("scans [1]") == ["scans [1]/a.png"]
    assert found_in("b[2].png") == ["b[2].png"]


def test_a_picture_is_read_with_its_size_and_frames() -> None:
    page = written("42")
    page.save("pages.tiff", save_all=True, append_images=[written("1"), written("2")])
    found = process_picture("pages.tiff", single=False)
    assert (found.name, found.error, found.num_frames) == ("pages.tiff", None, 3)
    assert (found.width_px, found.height_px) == page.size
    assert len(found.digits) == 2
    assert found.steps is None


def test_single_takes_all_ink_for_one_digit() -> None:
    written("42").save("42.png")
    found = process_picture("42.png", single=True)
    assert [len(ways) for ways in found.digits] == [1]


def test_the_steps_are_kept_where_they_are_asked_for() -> None:
    written("42").save("42.png")
    steps = process_picture("42.png", single=False, keep_steps=True).steps
    assert steps
    assert len(np.unique(steps.labels_HW)) == 3


def test_a_blank_picture_comes_back_as_its_error() -> None:
    Image.new("L", (50, 50), 255).save("blank.png")
    found = process_picture("blank.png", single=False)
    assert found.digits == []
    assert found.error
    assert "blank.png" in found.error.what
    assert found.error.fix


def test_a_file_that_cannot_be_read_comes_back_as_its_error() -> None:
    Path("folder").mkdir()
    for name in ("missing.png", "folder", "nul\0.png", "x" * 300):
        error = process_picture(name, single=False).error
        assert error
        assert name in error.what
        assert error.why
        assert error.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_must_not_be_read_comes_back_as_its_error() -> None:
    written("7").save("secret.png")
    Path("secret.png").chmod(0)
    error = process_picture("secret.png", single=False).error
    assert error
    assert "Permission denied" in error.why


def test_a_dash_stands_for_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x89PNG")))
    assert read_input("-") == b"\x89PNG"


def test_few_pictures_are_read_only_when_they_are_asked_for() -> None:
    written("1").save("1.png")
    chunks = process_pictures(["1.png", "2.png"], single=False)
    assert [each.name for each in next(chunks)] == ["1.png"]
    written("2").save("2.png")
    ((second,),) = chunks
    assert (second.name, second.error) == ("2.png", None)


def same(first: PictureResult, second: PictureResult) -> bool:
    plain = replace(first, digits=[], error=None) == replace(second, digits=[], error=None)
    errors = [each.error and each.error.what for each in (first, second)]
    pixels = [
        [digit.pixels_HW for ways in each.digits for way in ways for digit in way]
        for each in (first, second)
    ]
    return (
        plain
        and errors[0] == errors[1]
        and len(pixels[0]) == len(pixels[1])
        and all(map(np.array_equal, *pixels))
    )


@pytest.fixture
def many() -> list[str]:
    """Over 200 names, of which every tenth is of no picture."""
    names = []
    for number in range(210):
        name = f"{number}.png"
        if number % 10:
            written(str(number % 100)).resize((90, 48)).save(name)
        names.append(name)
    return names


def test_many_pictures_are_read_as_they_are_one_by_one(many: list[str]) -> None:
    chunks = list(process_pictures(many, single=False))
    assert 1 < len(chunks) < len(many)
    together = [found for chunk in chunks for found in chunk]
    assert [found.name for found in together] == many
    for found in together:
        assert same(found, process_picture(found.name, single=False))
    assert sum(found.error is not None for found in together) == 21
    assert sum(len(found.digits) == 2 for found in together) > 100


def test_many_pictures_are_read_in_other_processes_that_end(many: list[str]) -> None:
    chunks = process_pictures(many, single=False)
    assert not multiprocessing.active_children()
    next(chunks)
    assert multiprocessing.active_children()
    list(chunks)
    assert not multiprocessing.active_children()


def test_the_processes_of_a_reader_that_stops_early_end(many: list[str]) -> None:
    chunks = process_pictures(many, single=False)
    assert isinstance(chunks, Generator)
    with closing(chunks):
        next(chunks)
    assert not multiprocessing.active_children()


def test_what_is_read_ahead_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "CHUNK_SIZE", 8)
    monkeypatch.setattr(gathering, "CHUNKS_AHEAD", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    written("7").resize((68, 60)).save("7.png")
    names = ["7.png"] * 199 + ["late.png"]
    chunks = process_pictures(names, single=False)
    next(chunks)
    # All the others may be waiting by now; this one must not have been looked for.
    time.sleep(1)
    written("7").save("late.png")
    *_, last = chunks
    assert last[-1].error is None


def test_standard_input_among_many_is_read_by_this_process(
    many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path("1.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    chunks = process_pictures([*many[:200], "-"], single=False)
    *_, (last,) = chunks
    assert same(replace(last, name="1.png"), process_picture("1.png", single=False))


def running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("whole_group", [True, False], ids=["the terminal's", "kill's"])
def test_ctrl_c_leaves_no_traceback_and_no_process(whole_group: bool) -> None:
    written("2026").resize((1680, 480)).save("0.png")
    Path("many").mkdir()
    for number in range(400):
        os.link("0.png", f"many/{number}.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "mnistcli", "predict", "many", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline()
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=10)
    assert shell_code(process.returncode) == 130
    assert len(stdout.splitlines()) < 399
    assert b"Traceback" not in stderr
    deadline = time.monotonic() + 10
    while running(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
