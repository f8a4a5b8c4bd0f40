"""What happens to a run when its process, its disk or its machine fails.

The processes are real, and so are the signals, the limits and the full disk; a test says so where
a fault is only played.
"""

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.runs import directory as runs
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.history import read_metrics
from mnistcli.training import engine
from mnistcli.training.engine import _train_step
from mnistcli.training.state import TrainState
from tests.helpers.cli import Mnist, Result
from tests.helpers.processes import ForkedProcess, ForkServer
from tests.helpers.runs import ONE, assert_same_run, resume, saved_state, train, train_command

WHOLE = Path("runs/whole")


def assert_readable(path: Path) -> int:
    """Every file of a run that is there can be read; how many epochs its state has."""
    run = Run(path)
    if (path / "settings.json").exists():
        read_settings(run)
    if (path / "environment.json").exists():
        read_record(run, "environment.json")
    if not run.state.exists():
        assert not any((path / name).exists() for name in ("last.pth", "best.pth", "metrics.csv"))
        return 0
    num_done = len(saved_state(path).history)
    for checkpoint in (run.last, run.best):
        if checkpoint.exists():
            assert 1 <= load_checkpoint(checkpoint).card.epoch <= num_done
    if (path / "metrics.csv").exists():
        assert num_done - 1 <= len(read_metrics(run)) <= num_done
    return num_done


def temporaries(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.glob(".*") if entry.name != ".lock")


def go_on(fork_server: ForkServer, **how: Any) -> ForkedProcess:
    """The next train_command of a person whose run was killed: resume it, or train it if it is not."""
    if (ONE / "settings.json").exists():
        return fork_server.start("train", "--resume", "last", **how)
    return fork_server.start(*train_command(epochs=3), "--name", "one", **how)


def time_of_a_whole_run(fork_server: ForkServer) -> float:
    began = time.monotonic()
    assert fork_server.run(*train_command(epochs=3), "--name", "whole").exit_code == 0
    return time.monotonic() - began


# Killed at once


def test_a_run_killed_at_fifty_random_moments_ends_as_one_that_never_was(
    fork_server: ForkServer,
) -> None:
    """SIGKILL, in any instruction. A run that was killed is resumed, and killed again."""
    seconds = time_of_a_whole_run(fork_server)
    chance, num_kills, num_ends = random.Random(0), 0, 0
    while num_kills < 50 or num_ends < 5:
        child = go_on(fork_server)
        time.sleep(chance.uniform(0, 0.8 * seconds))
        child.kill()
        ended = child.wait()
        if ONE.exists():
            num_done = assert_readable(ONE)
        if ended.exit_code == 137:
            num_kills += 1
            continue
        assert ended.exit_code == 0, ended.stderr
        assert num_done == 3
        assert_same_run(ONE, WHOLE)
        shutil.rmtree(ONE)
        num_ends += 1
    assert num_kills >= 50


def moments_of(fork_server: ForkServer, *words: str | Path) -> list[str]:
    """The moments at which a train_command touches the files of runs."""
    noted = Path("moments")
    noted.unlink(missing_ok=True)
    ended = fork_server.run(*words, prepare="kill_at_write(0, log='moments')")
    assert ended.exit_code == 0, ended.stderr
    return noted.read_text().splitlines()


def test_a_run_killed_at_every_write_of_its_first_epoch_goes_on(fork_server: ForkServer) -> None:
    moments = moments_of(fork_server, *train_command(epochs=3), "--name", "whole")
    # From the first directory to the first file of the second epoch.
    second_state = [n for n, what in enumerate(moments) if what.startswith("open .state.pth")][1]
    assert second_state > 20
    for number in range(1, second_state + 2):
        ended = fork_server.run(
            *train_command(epochs=3), "--name", "one", prepare=f"kill_at_write({number})"
        )
        assert ended.exit_code == 137
        if ONE.exists():
            assert_readable(ONE)
        ended = go_on(fork_server).wait()
        assert ended.exit_code == 0, (moments[number - 1], ended.stderr)
        assert_same_run(ONE, WHOLE)
        shutil.rmtree(ONE)


def test_a_run_killed_at_every_write_while_it_is_resumed_goes_on(fork_server: ForkServer) -> None:
    """From a state whose checkpoints and metrics were not yet written, with more epochs."""
    train("whole", epochs=2, schedule="constant")
    train("before", 1, epochs=1, schedule="constant")
    for name in ("last.pth", "best.pth", "metrics.csv"):
        (Path("runs/before") / name).unlink()
    resuming = ("train", "--resume", "one", "--epochs", "2")
    shutil.copytree("runs/before", ONE)
    num_moments = len(moments_of(fork_server, *resuming))
    assert num_moments > 30
    for number in range(1, num_moments + 1):
        shutil.rmtree(ONE)
        shutil.copytree("runs/before", ONE)
        ended = fork_server.run(*resuming, prepare=f"kill_at_write({number})")
        assert ended.exit_code == 137
        assert_readable(ONE)
        assert fork_server.run(*resuming).exit_code == 0
        assert_same_run(ONE, WHOLE, best=False)


def test_a_run_killed_in_the_middle_of_a_write_goes_on(fork_server: ForkServer) -> None:
    """The kernel ends a process that writes more than it may, after so many bytes."""
    prepare = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes},) * 2)\n"
    )
    train("whole", epochs=3)
    for num_bytes in (1, 300, 600, 900, 5_000, 50_000):
        ended = fork_server.run(
            *train_command(epochs=3), "--name", "one", prepare=prepare.format(num_bytes=num_bytes)
        )
        assert ended.exit_code == 128 + 25
        assert_readable(ONE)
        assert go_on(fork_server).wait().exit_code == 0
        assert_same_run(ONE, WHOLE)
        shutil.rmtree(ONE)


def test_what_a_killed_writer_left_is_gone_when_the_run_goes_on(fork_server: ForkServer) -> None:
    ended = fork_server.run(
        *train_command(epochs=3), "--name", "one", prepare="kill_at_write(5, only='fsync')"
    )
    assert ended.exit_code == 137
    assert len(temporaries(ONE)) == 1
    assert fork_server.run("train", "--resume", "one").exit_code == 0
    assert temporaries(ONE) == []


# Interrupted


def test_an_interruption_at_any_moment_is_tidy(fork_server: ForkServer) -> None:
    """SIGTERM and Ctrl-C, thirty times."""
    seconds = time_of_a_whole_run(fork_server)
    chance = random.Random(1)
    for number in range(30):
        child = go_on(fork_server)
        # At once, it may not yet have come to the point where its code begins.
        time.sleep(0.02 + chance.uniform(0, seconds))
        child.kill((2, 15)[number % 2])
        ended = child.wait()
        assert ended.exit_code in (0, 130), ended.stderr
        assert "Traceback" not in ended.stderr
        if ONE.exists():
            assert temporaries(ONE) == []
            if assert_readable(ONE) == 3 and ended.exit_code == 0:
                assert_same_run(ONE, WHOLE)
                shutil.rmtree(ONE)


# The disk


def test_a_disk_that_is_full_before_the_first_epoch_leaves_nothing(fork_server: ForkServer) -> None:
    for num_bytes in (0, 100, 700, 2_000, 20_000):
        prepare = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes},) * 2)"
        ended = fork_server.run(*train_command(epochs=2), "--name", "one", prepare=prepare)
        assert ended.exit_code == 1
        assert "Error: Cannot write runs/one" in ended.stderr
        assert "File too large." in ended.stderr
        assert "--out DIR" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(Path("runs").iterdir()) == []


def full_after(num_epochs: int, num_bytes: int) -> str:
    """Limit the size of files once so many epochs are trained."""
    return f"""
import resource
from mnistcli import engine
validate, done = engine._validate, []
def limited(*args):
    done.append(1)
    if len(done) > {num_epochs}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes},) * 2)
    return validate(*args)
engine._validate = limited
"""


@pytest.mark.parametrize("num_bytes", [10, 1_000, 60_000])
def test_a_disk_that_becomes_full_keeps_what_there_was(
    fork_server: ForkServer, num_bytes: int
) -> None:
    train("whole")
    ended = fork_server.run(*train_command(), "--name", "one", prepare=full_after(2, num_bytes))
    assert ended.exit_code == 1
    assert "Error: Cannot write runs/one/" in ended.stderr
    assert "mnist train --resume runs/one" in ended.stderr
    assert "Epoch 2 is kept in runs/one." in ended.stderr
    assert temporaries(ONE) == []
    assert assert_readable(ONE) == 2
    assert_same_run(resume("one"), WHOLE)


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """A file system in memory; skips where none may be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this process may not mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_really_full_disk_ends_in_a_message_and_goes_on_with_room(
    fork_server: ForkServer,
) -> None:
    train("whole")
    with small_disk(Path("disk"), "size=1200k") as disk:
        num_done = -1
        for room in range(40, 1200, 60):
            (disk / "filler").write_bytes(bytes(1024 * (1200 - room)))
            if not (disk / "one" / "settings.json").exists():
                ended = fork_server.run(*train_command(), "--name", "one", "--out", disk)
            else:
                ended = fork_server.run("train", "--resume", disk / "one")
            (disk / "filler").unlink()
            assert "Traceback" not in ended.stderr
            if not (disk / "one").exists():
                assert [entry.name for entry in disk.iterdir()] == []
                assert "No space left on device." in ended.stderr
                continue
            assert temporaries(disk / "one") == []
            num_done = assert_readable(disk / "one")
            if ended.exit_code == 0:
                break
            assert ended.exit_code == 1
            assert "No space left on device." in ended.stderr
        assert num_done == 4
        assert_same_run(disk / "one", WHOLE)


def test_a_disk_without_room_for_names_leaves_nothing_or_an_epoch(fork_server: ForkServer) -> None:
    ends = []
    for num_names in range(2, 9):
        with small_disk(Path(f"disk-{num_names}"), f"size=4m,nr_inodes={num_names}") as disk:
            ended = fork_server.run(*train_command(), "--name", "one", "--out", disk)
            assert ended.exit_code == 1
            assert "No space left on device." in ended.stderr
            assert "Traceback" not in ended.stderr
            if (disk / "one" / "state.pth").exists():
                assert temporaries(disk / "one") == []
                ends.append(assert_readable(disk / "one"))
            else:
                assert list(disk.iterdir()) == []
                ends.append(0)
    assert set(ends) == {0, 1}


@pytest.mark.parametrize("moment", range(1, 13))
def test_a_disk_that_fails_at_any_write_keeps_what_there_was(
    moment: int, monkeypatch: pytest.MonkeyPatch, mnist: Mnist
) -> None:
    """Played: a flush to the disk fails, once, from the second epoch on."""
    whole = train("whole", epochs=5)
    train("one", 1, epochs=5)
    flush, flushes = os.fsync, count(1)

    def fsync(handle: int) -> None:
        if next(flushes) == moment:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    result = mnist("train", "--resume", "one")
    assert result.exit_code == 1
    assert "Input/output error." in result.stderr
    assert "mnist train --resume runs/one" in result.stderr
    assert temporaries(ONE) == []
    assert_readable(ONE)
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


NOBODY = "os.setgid(65534); os.setuid(65534)" if os.geteuid() == 0 else ""


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A directory into which its user may not write, nor root's child that is nobody."""
    Path.cwd().chmod(0o755)
    mode = path.stat().st_mode
    path.chmod(0o555)
    try:
        yield
    finally:
        path.chmod(mode)


def test_an_output_directory_that_is_read_only_is_an_error(fork_server: ForkServer) -> None:
    Path("runs").mkdir()
    with read_only(Path("runs")):
        ended = fork_server.run(*train_command(), "--name", "one", prepare=NOBODY)
    assert ended.exit_code == 1
    assert "Error: Cannot write runs/one." in ended.stderr
    assert "Permission denied." in ended.stderr
    assert "--out DIR" in ended.stderr
    assert list(Path("runs").iterdir()) == []


def test_a_run_that_is_read_only_cannot_go_on_and_stays_as_it_is(fork_server: ForkServer) -> None:
    train("one", 2)
    for entry in ONE.iterdir():
        entry.chmod(0o444)
    before = {entry.name: entry.read_bytes() for entry in ONE.iterdir()}
    with read_only(ONE):
        ended = fork_server.run("train", "--resume", "one", prepare=NOBODY)
    assert ended.exit_code == 1
    assert "Error: Cannot write runs/one" in ended.stderr
    assert "Permission denied." in ended.stderr
    assert "mnist train --resume runs/one" in ended.stderr
    assert {entry.name: entry.read_bytes() for entry in ONE.iterdir()} == before


@pytest.mark.parametrize("when", [1, 2])
def test_a_run_that_is_removed_meanwhile_ends_in_a_message(
    fork_server: ForkServer, when: int
) -> None:
    prepare = f"""
import shutil
from mnistcli import engine
validate, done = engine._validate, []
def removing(*args):
    done.append(1)
    if len(done) == {when}:
        shutil.rmtree("runs/one")
    return validate(*args)
engine._validate = removing
"""
    ended = fork_server.run(*train_command(), "--name", "one", prepare=prepare)
    assert ended.exit_code == 1
    assert "Error: Cannot write runs/one/state.pth." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(Path("runs").iterdir()) == []


# The numbers


def spoiling(number: int, spoil: Callable[[TrainState], object]) -> Any:
    """A training step that is followed by `spoil` the `number`-th time."""
    step, steps = _train_step, count(1)

    def train_step(state: TrainState, *args: Any) -> Any:
        done = step(state, *args)
        if next(steps) == number:
            spoil(state)
        return done

    return train_step


@torch.no_grad()
def lose_numbers(state: TrainState) -> None:
    for network in (state.model, state.eval_model):
        next(network.parameters()).fill_(float("nan"))


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (5 * 2 + 1, "in step 2 of epoch 3"),
        (5 * 2 + 4, "in step 5 of epoch 3"),
        (5 * 3, "after the last step of epoch 3"),
    ],
)
def test_a_loss_that_becomes_no_number_keeps_the_epochs_before(
    number: int, where: str, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played: a weight is lost after one step. On the next try it is not."""
    whole = train("whole")
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_train_step", spoiling(number, lose_numbers))
        result = mnist(*train_command(), "--name", "one")
    assert result.exit_code == 1
    assert f"The loss became NaN or infinite {where}." in result.stderr
    assert "--lr 0.001" in result.stderr
    assert "Epoch 2 is kept in runs/one." in result.stderr
    assert "Traceback" not in result.stderr
    assert temporaries(ONE) == []
    assert assert_readable(ONE) == 2
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


def test_a_loss_that_becomes_no_number_in_the_first_epoch_leaves_nothing(mnist: Mnist) -> None:
    deep = {"hidden": [50] * 8, "optimizer": "sgd", "lr": 100, "schedule": "constant", "ema": 0}
    result = mnist(*train_command(**deep), "--name", "one")
    assert result.exit_code == 1
    assert "The loss became NaN or infinite in step" in result.stderr
    assert "--lr 10" in result.stderr
    assert "is kept" not in result.stderr
    assert list(Path("runs").iterdir()) == []


# The memory


@pytest.mark.parametrize("room_mb", [5, 15, 25, 40, 60, 80, 100, 120, 140, 160])
def test_a_memory_that_is_full_names_a_batch_to_try(fork_server: ForkServer, room_mb: int) -> None:
    """The system refuses more pages, in one place or another of the first epoch."""
    prepare = f"""
import resource
from mnistcli import engine
epoch = engine._train_epoch
def limited(*args):
    with open("/proc/self/statm") as handle:
        used = int(handle.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + {room_mb}_000_000, -1))
    return epoch(*args)
engine._train_epoch = limited
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much memory a process uses")
    big = {"recipe": "cnn-deep", "hidden": None, "dropout": None, "batch_size": 1200, "epochs": 1}
    ended = fork_server.run(*train_command(**big), "--name", "one", prepare=prepare)
    assert ended.exit_code == 1, ended.stderr
    assert "Error: The memory of the cpu is full." in ended.stderr
    assert "a batch 1,200 pictures" in ended.stderr
    assert "Try --batch-size 300" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(Path("runs").iterdir()) == []


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_memory_that_becomes_full_keeps_the_epochs_before(
    problem: Exception, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played: the third epoch's first step fails."""

    def fail(_state: TrainState) -> None:
        raise problem

    whole = train("whole")
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_train_step", spoiling(11, fail))
        result = mnist(*train_command(), "--name", "one")
    assert result.exit_code == 1
    assert "Try --batch-size 64" in result.stderr
    assert "Epoch 2 is kept in runs/one." in result.stderr
    assert_same_run(resume("one"), whole)


# The clock


def test_a_clock_that_goes_backwards_disturbs_nothing(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played: every look at it finds it an hour earlier."""
    import datetime as dt

    now, looks = time.time(), count()

    class Backwards(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Backwards":
            return cls.fromtimestamp(now - 3600 * next(looks), tz)

    monkeypatch.setattr(runs, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(looks))
    paths = [mnist(*train_command(epochs=2), "-q").stdout.strip() for _ in range(4)]
    assert len(set(paths)) == 4
    for path in map(Path, paths):
        assert all(epoch.seconds > 0 for epoch in read_metrics(Run(path)))
    result = mnist("train", "--resume", "last", "--epochs", "3")
    assert f"Kept in {paths[-1]}" in result.stdout


def test_a_clock_that_stands_still_gives_every_run_a_name(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datetime as dt

    class Standing(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Standing":
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(runs, "datetime", Standing)
    paths = [mnist(*train_command(epochs=1), "-q").stdout.strip() for _ in range(3)]
    assert len(set(paths)) == 3


# Two processes


HOLDING = """
from mnistcli import engine
step = engine._train_step
def train_step(*args):
    open("begun", "w").close()
    time.sleep(600)
engine._train_step = train_step
"""


@contextlib.contextmanager
def holder(fork_server: ForkServer, *words: str) -> Iterator[ForkedProcess]:
    """A process in the middle of an epoch; it is killed at the end."""
    Path("begun").unlink(missing_ok=True)
    child = fork_server.start(*words, prepare=HOLDING)
    deadline = time.monotonic() + 60
    while not Path("begun").exists():
        assert time.monotonic() < deadline, "training has not begun"
        time.sleep(0.01)
    try:
        yield child
    finally:
        child.kill()
        assert child.wait().exit_code == 137


def refused_at_once(fork_server: ForkServer, *words: str) -> Result:
    began = time.monotonic()
    ended = fork_server.run(*words)
    assert time.monotonic() - began < 10
    assert "Traceback" not in ended.stderr
    return ended


def test_a_second_process_is_refused_at_once_until_the_first_is_gone(
    fork_server: ForkServer,
) -> None:
    whole = train("whole")
    train("one", 2)
    before = {entry.name: entry.read_bytes() for entry in ONE.iterdir()}
    with holder(fork_server, "train", "--resume", "one"):
        during = {entry.name: entry.read_bytes() for entry in ONE.iterdir()}
        for name in ("one", "last", "runs/one"):
            ended = refused_at_once(fork_server, "train", "--resume", name)
            assert ended.exit_code == 1
            assert "runs/one is being trained by another process." in ended.stderr
        ended = refused_at_once(fork_server, *train_command(), "--name", "one")
        assert ended.exit_code == 2
        assert "There is a run runs/one already." in ended.stderr
        assert {entry.name: entry.read_bytes() for entry in ONE.iterdir()} == during
    assert set(before) == set(during)
    assert fork_server.run("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


def test_a_new_run_is_its_processes_own_from_the_start(fork_server: ForkServer) -> None:
    with holder(fork_server, *train_command(), "--name", "one"):
        ended = refused_at_once(fork_server, "train", "--resume", "last")
        assert ended.exit_code == 1
        assert refused_at_once(fork_server, *train_command(), "--name", "one").exit_code == 2
    assert fork_server.run("train", "--resume", "last").exit_code == 0
    assert_same_run(ONE, train("whole"))


def test_processes_that_begin_together_get_runs_of_their_own(fork_server: ForkServer) -> None:
    started = [fork_server.start(*train_command(epochs=2), "-q") for _ in range(6)]
    ends = [child.wait() for child in started]
    assert {ended.exit_code for ended in ends} == {0}
    paths = {Path(ended.stdout.strip()) for ended in ends}
    assert len(paths) == 6
    assert set(Path("runs").iterdir()) == paths
    for path in paths:
        assert assert_readable(path) == 2
        assert json.loads((path / "settings.json").read_text())["epochs"] == 2


def test_of_processes_that_want_one_name_one_gets_it(fork_server: ForkServer) -> None:
    started = [fork_server.start(*train_command(epochs=2), "--name", "one") for _ in range(6)]
    codes = sorted(child.wait().exit_code for child in started)
    assert codes == [0, 2, 2, 2, 2, 2]
    assert assert_readable(ONE) == 2


def test_of_processes_that_resume_together_one_does(fork_server: ForkServer) -> None:
    whole = train("whole", epochs=12)
    train("one", 1, epochs=12)
    started = [fork_server.start("train", "--resume", "one") for _ in range(5)]
    codes = {child.wait().exit_code for child in started}
    assert codes <= {0, 1}
    assert 0 in codes
    assert_same_run(ONE, whole)


def test_what_is_executed_is_what_is_tested(fork_server: ForkServer) -> None:
    """The forked processes compute what this one does."""
    assert fork_server.run(*train_command(), "--name", "one").exit_code == 0
    assert_same_run(ONE, train("whole"))
