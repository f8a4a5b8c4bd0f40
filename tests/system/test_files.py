"""Files are replaced atomically, and what killed writers leave is removed."""

import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from mnistcli.system.files import remove_stale_temporaries, write_atomically
from tests.helpers.programs import kill, running

# Writes half of its content, says so, and waits to be killed.
SLOW_WRITER = """
import sys, time
from pathlib import Path
from mnistcli.system.files import write_atomically

def write(handle):
    handle.write(b"half of the new")
    handle.flush()
    print("halfway", flush=True)
    time.sleep(60)

write_atomically(Path(sys.argv[1]), write)
"""

# Its first temporary file is removed before it is locked.
OVERTAKEN_WRITER = """
import sys
from pathlib import Path
from mnistcli.system.files import remove_stale_temporaries, write_atomically

target = Path(sys.argv[1])
removed = []

def remove_first(event, args):
    if event == "fcntl.flock" and not removed:
        removed.append(args)
        assert list(target.parent.iterdir())
        remove_stale_temporaries(target.parent)
        assert not list(target.parent.iterdir())
        print("removed", flush=True)

sys.addaudithook(remove_first)
write_atomically(target, lambda handle: handle.write(b"new"))
"""


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"digit" * 100_000])
def test_a_file_holds_what_was_written_and_no_temporary_is_left(
    tmp_path: Path, content: bytes
) -> None:
    target = tmp_path / "file.bin"
    write_atomically(target, lambda handle: handle.write(content))
    assert target.read_bytes() == content
    assert names(tmp_path) == ["file.bin"]


def test_a_longer_file_is_replaced_entirely(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"a long old content")
    write_atomically(target, lambda handle: handle.write(b"new"))
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("problem", [OSError, KeyboardInterrupt])
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


def test_the_old_content_is_readable_until_the_new_is_complete(tmp_path: Path) -> None:
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
    ("umask", "expected"), [(0o022, 0o644), (0o027, 0o640)], indirect=["umask"]
)
def test_a_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: int, expected: int) -> None:
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


def test_simultaneous_writers_do_not_mix(tmp_path: Path) -> None:
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


def test_a_killed_writer_leaves_the_old_file_and_a_temporary_that_is_removed(
    tmp_path: Path,
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with running(SLOW_WRITER, target, "halfway") as writer:
        kill(writer)
    assert target.read_bytes() == b"old"
    left, _ = names(tmp_path)
    assert re.fullmatch(rf"\.file\.bin\.{writer.pid}-[0-9a-f]{{8}}\.tmp", left)
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == ["file.bin"]
    write_atomically(target, lambda handle: handle.write(b"new"))
    assert target.read_bytes() == b"new"


def test_the_temporary_of_a_running_writer_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"

    def write(handle: BinaryIO) -> None:
        handle.write(b"new")
        remove_stale_temporaries(tmp_path)

    with running(SLOW_WRITER, tmp_path / "other.bin", "halfway"):
        write_atomically(target, write)
        assert len(names(tmp_path)) == 2
    assert target.read_bytes() == b"new"


def test_other_files_are_not_removed_as_temporaries(tmp_path: Path) -> None:
    others = [
        "file.bin",
        ".file.bin.tmp",
        "file.bin.12-0123abcd.tmp",
        ".file.bin.12-0123abcd",
        ".file.bin.12-0123abc.tmp",
        ".file.bin.12-0123ABCD.tmp",
        ".file.bin.x-0123abcd.tmp",
        ".file.bin.12-0123abcd.tmp.gz",
        "..12-0123abcd.tmp",
    ]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".directory.12-0123abcd.tmp").mkdir()
    (tmp_path / ".link.12-0123abcd.tmp").symlink_to("file.bin")
    os.mkfifo(tmp_path / ".pipe.12-0123abcd.tmp")
    before = names(tmp_path)
    (tmp_path / ".file.bin.12-0123abcd.tmp").touch()
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == before


def test_without_a_directory_there_are_no_temporaries(tmp_path: Path) -> None:
    remove_stale_temporaries(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    remove_stale_temporaries(tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_a_temporary_removed_before_it_is_locked_is_written_again(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with running(OVERTAKEN_WRITER, target, "removed") as writer:
        assert writer.wait(timeout=20) == 0
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["file.bin"]
