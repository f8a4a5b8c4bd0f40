"""A directory can be locked by one process at a time, and no lock outlives its process."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mnistcli.system import lock
from mnistcli.system.lock import (
    LOCK_NAME,
    LOCK_TIMEOUT_SECONDS,
    LockedError,
    is_locked,
    lock_directory,
)
from tests.helpers.programs import kill, running

# Holds the lock of a directory until it is killed or gets a line.
HOLDER = """
import sys
from pathlib import Path
from mnistcli.system.lock import lock_directory

with lock_directory(Path(sys.argv[1]), wait=None):
    print("held", flush=True)
    sys.stdin.readline()
"""

# Increments a number in a file under the lock; without it, increments would be lost.
COUNTER = """
import sys
from pathlib import Path
from mnistcli.system.lock import lock_directory

count = Path(sys.argv[1], "count")
for _ in range(50):
    with lock_directory(count.parent, wait=lambda: None):
        count.write_text(str(int(count.read_text()) + 1))
"""


def test_a_locked_directory_is_refused_or_waited_for(tmp_path: Path) -> None:
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
    assert {path.name for path in tmp_path.iterdir()} <= {LOCK_NAME}


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with running(HOLDER, tmp_path, "held") as holder:
        kill(holder)
    with lock_directory(tmp_path, wait=None):
        pass


def test_waiting_ends_when_the_holder_is_killed(tmp_path: Path) -> None:
    with (
        running(HOLDER, tmp_path, "held") as holder,
        lock_directory(tmp_path, wait=lambda: kill(holder)),
    ):
        assert holder.returncode == -signal.SIGKILL


def test_a_process_can_lock_again_but_not_twice(tmp_path: Path) -> None:
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


def test_a_lock_file_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), lock_directory(tmp_path / "nowhere", wait=None):
        pytest.fail("there is no directory")
    assert list(tmp_path.iterdir()) == []
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


def test_checking_a_lock_does_not_disturb_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    with lock_directory(tmp_path, wait=None):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    assert LOCK_TIMEOUT_SECONDS >= 0.2
    monkeypatch.setattr(lock, "LOCK_TIMEOUT_SECONDS", 20)  # for busy machines
    looking = os.open(tmp_path / LOCK_NAME, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert not is_locked(tmp_path)  # two may check at once
    done = threading.Timer(0.1, os.close, [looking])
    done.start()
    with lock_directory(tmp_path, wait=None):
        done.join()


def test_a_path_that_cannot_be_locked_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nowhere")
    os.mkfifo(tmp_path / LOCK_NAME)
    assert not is_locked(tmp_path)


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    counters = [subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)]) for _ in range(3)]
    assert [counter.wait(timeout=30) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "150"
