"""Which files are named, what is in them, and many of them in several processes."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mnistcli.errors import DataError, RunError
from mnistcli.reading import batch
from mnistcli.reading.batch import (
    PictureResult,
    decode_file,
    decode_files,
    find_picture_files,
    no_digit_error,
    read_file,
)
from tests.helpers.cli import shell_code
from tests.helpers.pictures import written


def make_files(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def files_for(*names: str, recursive: bool = False) -> list[str]:
    files, errors, _ = find_picture_files(names, recursive=recursive)
    assert not errors
    return files


def refusal(name: str, *, recursive: bool = False) -> DataError:
    files, [error], _ = find_picture_files(["other.png", name], recursive=recursive)
    assert files == ["other.png"]
    assert f"'{name}'" in error.what
    return error


def test_names_of_files_are_kept_in_order() -> None:
    make_files("z.png", "notes.txt", "scans/2.png", "scans/1.png")
    names = ["z.png", "missing.png", "-", "notes.txt", "z.png"]
    assert files_for(*names) == names
    assert files_for("z.png", "scans", "a.png") == ["z.png", "scans/1.png", "scans/2.png", "a.png"]


def test_a_directory_stands_for_its_pictures() -> None:
    make_files(
        "scans/b.png", "scans/a.JPG", "scans/c.tiff", "scans/d.txt", "scans/png", "scans/._e.png"
    )
    make_files("scans/deep/f.png", "scans/deep/g/h.bmp", "scans/.hidden/i.png")
    directly = ["scans/a.JPG", "scans/b.png", "scans/c.tiff"]
    assert files_for("scans") == files_for("scans/") == directly
    assert files_for("scans", recursive=True) == [
        *directly,
        "scans/deep/f.png",
        "scans/deep/g/h.bmp",
    ]


def test_suffixes_of_directories() -> None:
    make_files("scans/a.jfif", "scans/b.HEIC", "scans/c.heif", "scans/d.csv", "scans/e.AVIF")
    make_files("scans/f.pdf", "scans/._g.pdf", "scans/deep/h.pdf", "i.psd")
    other_suffixes = [f"scans/k.{suffix}" for suffix in ("JPE", "apng", "dib", "hif", "pjpeg")]
    make_files(*other_suffixes)
    names, errors, unread = find_picture_files(["scans", "i.psd"], recursive=False)
    assert names == ["scans/a.jfif", "scans/b.HEIC", "scans/c.heif", *other_suffixes, "i.psd"]
    assert not errors
    assert unread == {".avif": 1, ".pdf": 1}
    assert find_picture_files(["scans"], recursive=True)[2] == {".avif": 1, ".pdf": 2}


def test_a_directory_without_pictures_is_refused() -> None:
    make_files("scans/notes.txt", "scans/deep/notes.txt")
    assert "--recursive" in refusal("scans").fix
    assert "--recursive" not in refusal("scans", recursive=True).fix


def test_a_pattern_stands_for_what_it_matches() -> None:
    make_files("scans/b.png", "scans/a.png", "scans/c.jpg", "scans/deep/d.png", "scans/deep/e.txt")
    assert files_for("scans/*.png") == ["scans/a.png", "scans/b.png"]
    assert files_for("scans/[bc].*") == ["scans/b.png", "scans/c.jpg"]
    assert files_for("scans/**/*.png") == ["scans/a.png", "scans/b.png", "scans/deep/d.png"]
    assert files_for("sc*/d*") == ["scans/deep/d.png"]
    absolute = Path.cwd() / "scans"
    assert files_for(str(absolute / "?.jpg")) == [str(absolute / "c.jpg")]
    refusal("scans/*.gif")


def test_a_name_with_brackets_that_exists_is_not_a_pattern() -> None:
    make_files("scans [1]/a.png", "b[2].png", "b2.png")
    assert files_for("scans [1]", "b[2].png") == ["scans [1]/a.png", "b[2].png"]


def test_a_picture_is_decoded_with_its_size_and_frames() -> None:
    picture = written("42")
    picture.save("pages.tiff", save_all=True, append_images=[written("1"), written("2")])
    result = decode_file("pages.tiff", single=False)
    assert (result.name, result.error, result.num_frames) == ("pages.tiff", None, 3)
    assert result.size == picture.size
    assert result.gray_HW is not None
    assert result.gray_HW.dtype == np.uint8
    assert np.array_equal(result.gray_HW, np.asarray(picture))
    assert np.allclose(result.gray(), np.asarray(picture) / 255, atol=1e-6)
    assert result.segmentation is None, "that of a large picture takes a network"


def test_a_small_picture_is_segmented_where_it_is_decoded() -> None:
    small = written("42").resize((40, 21))
    small.save("small.png")
    for single, num in ((False, 2), (True, 1)):
        segmentation = decode_file("small.png", single=single).segmentation
        assert segmentation
        assert segmentation.ink_HW.shape == (21, 40)
        assert sum(line.num_fragments for line in segmentation.lines) == num
    written("42").resize((41, 21)).save("large.png")
    assert decode_file("large.png", single=False).segmentation is None


@pytest.mark.parametrize("name", ["missing.png", "folder", "nul\0.png", "x" * 300])
def test_a_file_that_cannot_be_read_gives_an_error(name: str) -> None:
    Path("folder").mkdir()
    result = decode_file(name, single=False)
    assert result.gray_HW is None
    assert result.error
    assert name in result.error.what
    assert result.error.why
    assert result.error.fix


def test_a_picture_without_digits_is_named() -> None:
    assert "'blank.png'" in no_digit_error("blank.png").what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_gives_an_error() -> None:
    written("7").save("secret.png")
    Path("secret.png").chmod(0)
    error = decode_file("secret.png", single=False).error
    assert error
    assert "Permission denied" in error.why


def test_a_dash_stands_for_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x89PNG")))
    assert read_file("-") == b"\x89PNG"
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError):
        read_file("-")


def test_endless_files_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="too large"):
        read_file("/dev/zero")


def test_few_pictures_are_read_one_by_one() -> None:
    written("1").save("1.png")
    chunks = decode_files(["1.png", "2.png"], single=False)
    assert [result.name for result in next(chunks)] == ["1.png"]
    written("2").save("2.png")
    [[second]] = chunks
    assert (second.name, second.error) == ("2.png", None)


@pytest.fixture
def many() -> list[str]:
    """Over 200 names; every tenth file is missing."""
    names = [f"{number}.png" for number in range(210)]
    for number, name in enumerate(names):
        if number % 10:
            size = (40, 21) if number % 3 else (90, 48)
            written(str(number % 100)).resize(size).save(name)
    return names


def content(result: PictureResult) -> tuple[object, ...]:
    """What can be compared of a result."""
    lines = result.segmentation.lines if result.segmentation else []
    digits = [
        (image.box, image.pixels_HW.tobytes())
        for line in lines
        for image in line.candidates.values()
    ]
    gray = None if result.gray_HW is None else result.gray_HW.tobytes()
    error = result.error and result.error.what
    return result.name, result.num_frames, result.size, error, gray, digits


@pytest.mark.slow
def test_many_pictures_are_processed_like_one_by_one(many: list[str]) -> None:
    chunks = list(decode_files(many, single=False))
    assert 1 < len(chunks) < len(many)
    results = [result for chunk in chunks for result in chunk]
    assert sum(result.error is not None for result in results) == 21
    alone = [decode_file(name, single=False) for name in many]
    assert list(map(content, results)) == list(map(content, alone))


@pytest.mark.slow
def test_processes_start_when_needed_and_end(many: list[str]) -> None:
    chunks = decode_files(many, single=False)
    assert not multiprocessing.active_children()
    next(chunks)
    assert multiprocessing.active_children()
    list(chunks)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_processes_end_when_their_results_are_not_needed(many: list[str]) -> None:
    chunks = decode_files(many, single=False)
    assert isinstance(chunks, Generator)
    with closing(chunks):
        next(chunks)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_killed_process_is_reported(many: list[str]) -> None:
    chunks = decode_files(many * 20, single=False)
    next(chunks)
    for process in multiprocessing.active_children():
        process.kill()
    with pytest.raises(RunError):
        list(chunks)


@pytest.mark.slow
def test_only_so_many_chunks_are_processed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "CHUNK_SIZE", 8)
    monkeypatch.setattr(batch, "CHUNKS_AHEAD", 2)
    monkeypatch.setattr(batch, "num_cores", lambda: 1)
    written("7").resize((68, 60)).save("7.png")
    chunks = decode_files([*["7.png"] * 199, "late.png"], single=False)
    next(chunks)
    # All others may be finished by now; this one must not have been opened yet.
    time.sleep(1)
    written("7").save("late.png")
    *_, last = chunks
    assert last[-1].error is None


def test_standard_input_among_many_is_read_by_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()
    written("42").save(buffer, "PNG")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
    chunks = decode_files([*["missing.png"] * 210, "-"], single=False)
    *_, [last] = chunks
    assert (last.error, last.size) == (None, written("42").size)


def is_running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["by the terminal", "by kill"])
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
    stdout, stderr = process.communicate(timeout=60)
    assert shell_code(process.returncode) == 130
    assert len(stdout.splitlines()) < 399
    assert b"Traceback" not in stderr
    deadline = time.monotonic() + 60
    while is_running(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
