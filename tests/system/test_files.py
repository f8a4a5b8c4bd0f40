"""A file is written whole or not at all."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from mnistcli.system import files
from mnistcli.system.files import remove_stale_temporaries, write_atomically
from mnistcli.system.lock import (
    LOCK_NAME,
    LOCK_TIMEOUT_SECONDS,
    LockedError,
    is_locked,
    lock_directory,
)

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

# Loses its first temporary between making and locking it.
OVERTAKEN_WRITER = """
import sys
from pathlib import Path
from mnistcli.files import remove_abandoned, write_atomically

target = Path(sys.argv[1])
removed = []

def remove_first(event, args):
    if event == "fcntl.flock" and not removed:
        removed.append(args)
        assert list(target.parent.iterdir())
        remove_abandoned(target.parent)
        assert not list(target.parent.iterdir())
        print("removed", flush=True)

sys.addaudithook(remove_first)
write_atomically(target, lambda handle: handle.write(b"new"))
"""

# Holds the lock of a directory, says so, and waits to be killed or for a line.
HOLDER = """
import sys
from pathlib import Path
from mnistcli.files import locked

with locked(Path(sys.argv[1]), wait=None):
    print("held", flush=True)
    sys.stdin.readline()
"""

# Counts in a file up and up, under the lock: two that mix lose counts.
COUNTER = """
import sys
from pathlib import Path
from mnistcli.files import locked

count = Path(sys.argv[1], "count")
for _ in range(50):
    with locked(count.parent, wait=lambda: None):
        count.write_text(str(int(count.read_text()) + 1))
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


@contextmanager
def running(program: str, argument: Path, line: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of its own that has printed `line`; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{line}\n"
        yield process
        process.kill()


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    assert process.wait(timeout=20) == -signal.SIGKILL


def test_a_killed_writer_leaves_the_old_file_intact_and_its_temporary_is_removed(
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


def test_the_temporary_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"

    def write(handle: BinaryIO) -> None:
        handle.write(b"new")
        remove_stale_temporaries(tmp_path)

    with running(SLOW_WRITER, tmp_path / "other.bin", "halfway"):
        write_atomically(target, write)
        assert len(names(tmp_path)) == 2
    assert target.read_bytes() == b"new"


def test_what_has_no_name_of_a_temporary_is_left_alone(tmp_path: Path) -> None:
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


def test_where_there_is_no_directory_nothing_is_abandoned(tmp_path: Path) -> None:
    remove_stale_temporaries(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    remove_stale_temporaries(tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_a_temporary_that_is_removed_before_it_is_locked_is_written_again(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with running(OVERTAKEN_WRITER, target, "removed") as writer:
        assert writer.wait(timeout=20) == 0
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["file.bin"]


def test_a_directory_in_use_is_refused_at_once_or_waited_for(tmp_path: Path) -> None:
    with running(HOLDER, tmp_path, "held") as holder:
        with (
            pytest.raises(LockedError, match=re.escape(str(tmp_path))),
            lock_directory(tmp_path, wait=None),
        ):
            pytest.fail("the lock is taken")
        calls = []

        def wait() -> None:
            calls.append(holder.poll())
            assert holder.stdin
            holder.stdin.write("\n")
            holder.stdin.flush()

        with lock_directory(tmp_path, wait=wait):
            assert holder.wait(timeout=20) == 0
    assert calls == [None]
    assert set(names(tmp_path)) <= {LOCK_NAME}


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with running(HOLDER, tmp_path, "held") as holder:
        kill(holder)
    with lock_directory(tmp_path, wait=None):
        pass


def test_a_killed_holder_is_waited_for_no_longer(tmp_path: Path) -> None:
    with (
        running(HOLDER, tmp_path, "held") as holder,
        lock_directory(tmp_path, wait=lambda: kill(holder)),
    ):
        assert holder.returncode == -signal.SIGKILL


def test_the_same_process_cannot_lock_twice_but_again(tmp_path: Path) -> None:
    with (
        lock_directory(tmp_path, wait=None),
        pytest.raises(LockedError),
        lock_directory(tmp_path, wait=None),
    ):
        pytest.fail("the lock is taken")
    with pytest.raises(ZeroDivisionError), lock_directory(tmp_path, wait=None):
        raise ZeroDivisionError
    with lock_directory(tmp_path, wait=None):
        pass


def test_a_lock_for_which_there_is_no_place_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), lock_directory(tmp_path / "nowhere", wait=None):
        pytest.fail("there is no directory")
    assert names(tmp_path) == []
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(IsADirectoryError), lock_directory(tmp_path, wait=None):
        pytest.fail("the lock is a directory")


def test_a_read_only_directory_cannot_be_locked(tmp_path: Path) -> None:
    directory = tmp_path / "read-only"
    directory.mkdir(0o555)
    if os.access(directory, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(PermissionError), lock_directory(directory, wait=None):
        pytest.fail("there is no place for the lock")


def test_who_looks_at_a_lock_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    with lock_directory(tmp_path, wait=None):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    assert LOCK_TIMEOUT_SECONDS >= 0.2
    monkeypatch.setattr(files, "PATIENCE", 20)  # a busy machine's moment is a long one
    looking = os.open(tmp_path / LOCK_NAME, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert not is_locked(tmp_path), "two may look at once"
    done = threading.Timer(0.1, os.close, [looking])
    done.start()
    with lock_directory(tmp_path, wait=None):
        done.join()


def test_what_cannot_be_locked_is_not(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nowhere")
    os.mkfifo(tmp_path / LOCK_NAME)
    assert not is_locked(tmp_path)


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    counters = [subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)]) for _ in range(3)]
    assert [counter.wait(timeout=30) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "150"
