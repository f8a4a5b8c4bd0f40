"""A file is written whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from mnistcli.files import write_atomically

# Writes half of its content, says so, and waits to be killed.
SLOW_WRITER = """
import sys, time
from pathlib import Path
from mnistcli.files import write_atomically

def write(handle):
    handle.write(b"half of the new")
    handle.flush()
    print("halfway", flush=True)
    time.sleep(60)

write_atomically(Path(sys.argv[1]), write)
"""


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"digit" * 100_000])
def test_the_file_holds_what_was_written_and_nothing_lies_beside_it(
    tmp_path: Path, content: bytes
) -> None:
    target = tmp_path / "file.bin"
    write_atomically(target, lambda handle: handle.write(content))
    assert target.read_bytes() == content
    assert names(tmp_path) == ["file.bin"]


def test_a_longer_old_file_is_replaced_entirely(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"a long old content")
    write_atomically(target, lambda handle: handle.write(b"new"))
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("problem", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_exception_while_writing_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, problem: type[BaseException]
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def write(handle: BinaryIO) -> None:
        handle.write(b"half")
        handle.flush()
        assert len(names(tmp_path)) == 2
        raise problem

    with pytest.raises(problem):
        write_atomically(target, write)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_the_old_content_is_readable_until_all_of_the_new_is_there(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    seen = []

    def write(handle: BinaryIO) -> None:
        handle.write(b"new")
        handle.flush()
        seen.append(target.read_bytes())

    write_atomically(target, write)
    assert seen == [b"old"]


@pytest.mark.parametrize(
    ("umask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)], indirect=["umask"]
)
def test_others_may_read_the_file_as_far_as_the_umask_lets_them(
    tmp_path: Path, umask: int, expected: int
) -> None:
    target = tmp_path / "file.bin"
    write_atomically(target, lambda handle: handle.write(b"new"))
    assert stat.S_IMODE(target.stat().st_mode) == expected


def test_a_missing_directory_is_an_oserror_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "file.bin", lambda handle: handle.write(b"new"))
    assert names(tmp_path) == []


def test_a_target_that_is_a_directory_is_an_oserror_and_leaves_no_temporary(
    tmp_path: Path,
) -> None:
    (tmp_path / "file.bin").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "file.bin", lambda handle: handle.write(b"new"))
    assert names(tmp_path) == ["file.bin"]


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    contents = [bytes([number]) * 200_000 for number in range(8)]

    def write_slowly(content: bytes) -> None:
        def write(handle: BinaryIO) -> None:
            for start in range(0, len(content), 20_000):
                handle.write(content[start : start + 20_000])
                handle.flush()

        write_atomically(target, write)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_slowly, contents))
    assert target.read_bytes() in contents
    assert names(tmp_path) == ["file.bin"]


def test_a_killed_writer_leaves_the_old_file_intact(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(target)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "halfway\n"
        writer.kill()
        assert writer.wait(timeout=20) == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    write_atomically(target, lambda handle: handle.write(b"new"))
    assert target.read_bytes() == b"new"
