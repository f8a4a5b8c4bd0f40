"""What happens to a run when its process, disk or memory fails.

The processes are real, and so are the signals, limits and full disks; a fault that is only
simulated is marked as such.
"""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.runs import directory
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run, read_record, read_settings
from mnistcli.runs.history import read_metrics
from mnistcli.training import engine, estimate
from mnistcli.training.engine import _train_step
from mnistcli.training.state import TrainState
from tests.helpers.cli import Mnist, Result
from tests.helpers.processes import ForkedProcess, ForkServer
from tests.helpers.runs import (
    NO_TRIAL_STEPS,
    ONE,
    assert_same_run,
    resume,
    saved_state,
    signal_at_step,
    signal_while_writing,
    train,
    train_command,
)

WHOLE = Path("runs/whole")


def assert_readable(path: Path) -> int:
    """All files of a run that exist are valid and consistent; the number of saved epochs."""
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


def temporary_files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.glob(".*") if entry.name != ".lock")


def start_or_resume(fork_server: ForkServer) -> ForkedProcess:
    """The next command after a kill: resume the run, or start it if it does not exist."""
    if (ONE / "settings.json").exists():
        return fork_server.start("train", "--resume", "last")
    return fork_server.start(*train_command(epochs=3), "--name", "one")


def seconds_of_whole_run(fork_server: ForkServer) -> float:
    began = time.monotonic()
    assert fork_server.run(*train_command(epochs=3), "--name", "whole").exit_code == 0
    return time.monotonic() - began


def test_forked_processes_compute_what_this_process_computes(fork_server: ForkServer) -> None:
    assert fork_server.run(*train_command(), "--name", "one").exit_code == 0
    assert_same_run(ONE, train("whole"))


# Killed


def test_a_run_killed_while_writing_is_resumed(fork_server: ForkServer) -> None:
    prepare = "kill_at_write(5, only='fsync')"
    killed = fork_server.run(*train_command(epochs=3), "--name", "one", prepare=prepare)
    assert killed.exit_code == 137
    assert len(temporary_files(ONE)) == 1
    assert_readable(ONE)
    assert fork_server.run("train", "--resume", "one").exit_code == 0
    assert temporary_files(ONE) == []
    assert_same_run(ONE, train("whole", epochs=3))


def test_a_run_killed_in_its_first_epoch_is_started_again(fork_server: ForkServer) -> None:
    prepare = signal_at_step(signal.SIGKILL, step=3)
    assert fork_server.run(*train_command(), "--name", "one", prepare=prepare).exit_code == 137
    assert not (ONE / "state.pth").exists()
    resumed = fork_server.run("train", "--resume", "last")
    assert resumed.exit_code == 0, resumed.stderr
    assert "epoch 1 of 4" in resumed.stderr
    assert_same_run(ONE, train("whole"))
    assert "resumed" not in read_record(Run(ONE), "environment.json")


def test_the_name_of_a_run_killed_before_its_settings_can_be_used_again(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    prepare = "kill_at_write(1, only='fsync')"
    assert fork_server.run(*train_command(), "--name", "one", prepare=prepare).exit_code == 137
    assert not (ONE / "settings.json").exists()
    assert len(list(ONE.iterdir())) == 2  # a lock and half a file
    assert mnist(*train_command(epochs=1), "--name", "one").exit_code == 0
    assert temporary_files(ONE) == []


def list_writes(fork_server: ForkServer, *words: str | Path) -> list[str]:
    """The changes that a command makes to the files of runs, in order."""
    log = Path("writes")
    log.unlink(missing_ok=True)
    result = fork_server.run(*words, prepare="kill_at_write(0, log='writes')")
    assert result.exit_code == 0, result.stderr
    return log.read_text().splitlines()


@pytest.mark.slow
def test_a_run_killed_at_every_write_of_its_first_epoch_is_resumed(fork_server: ForkServer) -> None:
    writes = list_writes(fork_server, *train_command(epochs=3), "--name", "whole")
    # From the first directory to the first file of the second epoch.
    second_state = [n for n, write in enumerate(writes) if write.startswith("open .state.pth")][1]
    assert second_state > 20
    for number in range(1, second_state + 2):
        prepare = f"kill_at_write({number})"
        killed = fork_server.run(*train_command(epochs=3), "--name", "one", prepare=prepare)
        assert killed.exit_code == 137
        if ONE.exists():
            assert_readable(ONE)
        result = start_or_resume(fork_server).wait()
        assert result.exit_code == 0, (writes[number - 1], result.stderr)
        assert_same_run(ONE, WHOLE)
        shutil.rmtree(ONE)


@pytest.mark.slow
def test_a_run_killed_at_every_write_while_it_is_resumed_is_resumed(
    fork_server: ForkServer,
) -> None:
    """It starts from a state whose checkpoints and metrics were not yet written."""
    train("whole", epochs=2, schedule="constant")
    before = train("before", 1, epochs=1, schedule="constant")
    for name in ("last.pth", "best.pth", "metrics.csv"):
        (before / name).unlink()
    resume_longer = ("train", "--resume", "one", "--epochs", "2")
    shutil.copytree(before, ONE)
    num_writes = len(list_writes(fork_server, *resume_longer))
    assert num_writes > 30
    for number in range(1, num_writes + 1):
        shutil.rmtree(ONE)
        shutil.copytree(before, ONE)
        killed = fork_server.run(*resume_longer, prepare=f"kill_at_write({number})")
        assert killed.exit_code == 137
        assert_readable(ONE)
        assert fork_server.run(*resume_longer).exit_code == 0
        assert_same_run(ONE, WHOLE, best=False)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(
    fork_server: ForkServer,
) -> None:
    """The run is resumed and killed again until it is finished."""
    seconds = seconds_of_whole_run(fork_server)
    rng, num_kills, num_finished = random.Random(0), 0, 0
    while num_kills < 30 or num_finished < 3:
        process = start_or_resume(fork_server)
        time.sleep(rng.uniform(0, 0.8 * seconds))
        process.kill()
        result = process.wait()
        num_done = assert_readable(ONE) if ONE.exists() else 0
        if result.exit_code == 137:
            num_kills += 1
            continue
        assert result.exit_code == 0, result.stderr
        assert num_done == 3
        assert_same_run(ONE, WHOLE)
        shutil.rmtree(ONE)
        num_finished += 1


# Interrupted


@pytest.mark.parametrize(
    ("prepare", "number"),
    [
        (signal_while_writing, signal.SIGINT),
        (signal_at_step, signal.SIGTERM),
        (signal_at_step, signal.SIGHUP),
    ],
)
def test_an_interrupted_run_reports_what_is_saved_and_is_resumed(
    fork_server: ForkServer, prepare: Callable[[int], str], number: int
) -> None:
    train("whole")
    stopped = fork_server.run(*train_command(), "--name", "one", prepare=prepare(number))
    assert stopped.exit_code == 130
    assert "Traceback" not in stopped.stderr
    assert "epoch 2 of 4" in stopped.stderr
    assert "mnist train --resume runs/one" in stopped.stderr
    assert len(read_metrics(Run(ONE))) == 2
    assert temporary_files(ONE) == []
    resumed = fork_server.run("train", "--resume", "one")
    assert resumed.exit_code == 0
    assert "epoch 3 of 4" in resumed.stderr
    assert_same_run(ONE, WHOLE)


def test_an_interruption_while_the_first_epoch_is_written_saves_it(fork_server: ForkServer) -> None:
    prepare = signal_while_writing(signal.SIGINT, epoch=1)
    stopped = fork_server.run(*train_command(), "--name", "one", prepare=prepare)
    assert stopped.exit_code == 130
    assert "epoch 1 of 4" in stopped.stderr
    assert_same_run(resume("one"), train("whole"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_in_the_first_epoch_leaves_no_run(
    fork_server: ForkServer, number: int
) -> None:
    prepare = signal_at_step(number, step=2)
    stopped = fork_server.run(*train_command(), "--name", "one", prepare=prepare)
    assert stopped.exit_code == 130
    assert not ONE.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the state of a process in /proc")
@pytest.mark.parametrize("num_epochs", [0, 1])
def test_a_closed_terminal_ends_a_training(fork_server: ForkServer, num_epochs: int) -> None:
    ours, theirs = os.openpty()
    terminal = f"""
os.setsid()
terminal = os.open({os.ttyname(theirs)!r}, os.O_RDWR)
for number in (0, 1, 2): os.dup2(terminal, number)
"""
    # It stops itself, so that the terminal is closed at that moment.
    stops = signal_at_step(signal.SIGSTOP, step=2 + 6 * num_epochs)
    process = fork_server.start(*train_command(), "--name", "one", prepare=terminal + stops)
    os.close(theirs)
    status = Path(f"/proc/{process.pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    assert (ONE / "settings.json").exists()
    os.close(ours)
    for number in (signal.SIGHUP, signal.SIGCONT):  # a shell sends it too
        process.kill(number)
    process.wait()  # its exit code is for nobody
    assert ONE.exists() == (num_epochs > 0)
    if num_epochs:
        assert assert_readable(ONE) == num_epochs


def test_under_nohup_a_training_goes_on_when_the_terminal_is_closed(
    fork_server: ForkServer,
) -> None:
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    prepare = ignored + signal_at_step(signal.SIGHUP)
    assert fork_server.run(*train_command(), "--name", "one", prepare=prepare).exit_code == 0
    assert_same_run(ONE, train("whole"))


@pytest.mark.slow
def test_interruptions_at_random_moments_leave_valid_runs(fork_server: ForkServer) -> None:
    seconds = seconds_of_whole_run(fork_server)
    rng = random.Random(1)
    for number in range(20):
        process = start_or_resume(fork_server)
        # Not at once: the command may not have reached its own code yet.
        time.sleep(0.02 + rng.uniform(0, seconds))
        process.kill((signal.SIGINT, signal.SIGTERM)[number % 2])
        result = process.wait()
        assert result.exit_code in (0, 130), result.stderr
        assert "Traceback" not in result.stderr
        if ONE.exists():
            assert temporary_files(ONE) == []
            if assert_readable(ONE) == 3 and result.exit_code == 0:
                assert_same_run(ONE, WHOLE)
                shutil.rmtree(ONE)


# The disk


def limit_file_size(num_epochs: int, num_bytes: int) -> str:
    """Code for `prepare`: limit the size of files once so many epochs are trained."""
    return f"""{NO_TRIAL_STEPS}
import resource
from mnistcli.training import engine
validate, calls = engine._validate, []
def limited(*args):
    calls.append(1)
    if len(calls) > {num_epochs}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes},) * 2)
    return validate(*args)
engine._validate = limited
"""


@pytest.mark.parametrize("num_bytes", [0, 700, 20_000])
def test_a_disk_that_is_full_at_the_start_leaves_no_files(
    fork_server: ForkServer, num_bytes: int
) -> None:
    prepare = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes},) * 2)"
    result = fork_server.run(*train_command(epochs=2), "--name", "one", prepare=prepare)
    assert result.exit_code == 1
    assert "Cannot write runs/one" in result.stderr
    assert "File too large" in result.stderr
    assert "--out DIR" in result.stderr
    assert list(Path("runs").iterdir()) == []


@pytest.mark.parametrize("num_bytes", [10, 60_000])
def test_a_disk_that_becomes_full_keeps_finished_epochs(
    fork_server: ForkServer, num_bytes: int
) -> None:
    train("whole")
    prepare = limit_file_size(2, num_bytes)
    result = fork_server.run(*train_command(), "--name", "one", prepare=prepare)
    assert result.exit_code == 1
    assert "Cannot write runs/one/" in result.stderr
    assert "mnist train --resume runs/one" in result.stderr
    assert temporary_files(ONE) == []
    assert assert_readable(ONE) == 2
    assert_same_run(resume("one"), WHOLE)


@pytest.mark.parametrize("number", [1, 4, 9])
def test_a_failing_disk_keeps_finished_epochs(
    number: int, monkeypatch: pytest.MonkeyPatch, mnist: Mnist
) -> None:
    """Simulated: flushing a file to the disk fails once."""
    whole = train("whole", epochs=5)
    train("one", 1, epochs=5)
    flush, calls = os.fsync, count(1)

    def fsync(handle: int) -> None:
        if next(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    result = mnist("train", "--resume", "one")
    assert result.exit_code == 1
    assert "Input/output error" in result.stderr
    assert "mnist train --resume runs/one" in result.stderr
    assert temporary_files(ONE) == []
    assert_readable(ONE)
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """A file system in memory; skips the test where none may be mounted."""
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


@pytest.mark.slow
def test_a_run_on_a_full_disk_is_resumed_when_there_is_space(fork_server: ForkServer) -> None:
    train("whole")
    with small_disk(Path("disk"), "size=1200k") as disk:
        num_done = -1
        for free_kb in range(40, 1200, 60):
            (disk / "filler").write_bytes(bytes(1024 * (1200 - free_kb)))
            if not (disk / "one" / "settings.json").exists():
                result = fork_server.run(*train_command(), "--name", "one", "--out", disk)
            else:
                result = fork_server.run("train", "--resume", disk / "one")
            (disk / "filler").unlink()
            assert "Traceback" not in result.stderr
            if not (disk / "one").exists():
                assert list(disk.iterdir()) == []
                assert "No space left on device" in result.stderr
                continue
            assert temporary_files(disk / "one") == []
            num_done = assert_readable(disk / "one")
            if result.exit_code == 0:
                break
            assert result.exit_code == 1
            assert "No space left on device" in result.stderr
        assert num_done == 4
        assert_same_run(disk / "one", WHOLE)


@pytest.mark.slow
def test_a_disk_without_free_inodes_leaves_no_files_or_a_valid_epoch(
    fork_server: ForkServer,
) -> None:
    saved_epochs = set()
    for num_inodes in range(2, 9):
        with small_disk(Path(f"disk-{num_inodes}"), f"size=4m,nr_inodes={num_inodes}") as disk:
            result = fork_server.run(*train_command(), "--name", "one", "--out", disk)
            assert result.exit_code == 1
            assert "No space left on device" in result.stderr
            assert "Traceback" not in result.stderr
            if (disk / "one" / "state.pth").exists():
                assert temporary_files(disk / "one") == []
                saved_epochs.add(assert_readable(disk / "one"))
            else:
                assert list(disk.iterdir()) == []
                saved_epochs.add(0)
    assert saved_epochs == {0, 1}


# Code for `prepare`: root, who may write everywhere, becomes nobody.
DROP_PRIVILEGES = "os.setgid(65534); os.setuid(65534)" if os.geteuid() == 0 else ""


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    Path.cwd().chmod(0o755)
    mode = path.stat().st_mode
    path.chmod(0o555)
    try:
        yield
    finally:
        path.chmod(mode)


def test_a_read_only_output_directory_is_an_error(fork_server: ForkServer) -> None:
    Path("runs").mkdir()
    with read_only(Path("runs")):
        result = fork_server.run(*train_command(), "--name", "one", prepare=DROP_PRIVILEGES)
    assert result.exit_code == 1
    assert "Cannot write runs/one" in result.stderr
    assert "Permission denied" in result.stderr
    assert "--out DIR" in result.stderr
    assert list(Path("runs").iterdir()) == []


def test_a_read_only_run_cannot_be_resumed(fork_server: ForkServer) -> None:
    train("one", 2)
    for entry in ONE.iterdir():
        entry.chmod(0o444)
    before = {entry.name: entry.read_bytes() for entry in ONE.iterdir()}
    with read_only(ONE):
        result = fork_server.run("train", "--resume", "one", prepare=DROP_PRIVILEGES)
    assert result.exit_code == 1
    assert "Cannot write runs/one" in result.stderr
    assert "Permission denied" in result.stderr
    assert {entry.name: entry.read_bytes() for entry in ONE.iterdir()} == before


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_removed_during_training_is_an_error(fork_server: ForkServer, epoch: int) -> None:
    prepare = f"""{NO_TRIAL_STEPS}
import shutil
from mnistcli.training import engine
validate, calls = engine._validate, []
def remove_run(*args):
    calls.append(1)
    if len(calls) == {epoch}:
        shutil.rmtree("runs/one")
    return validate(*args)
engine._validate = remove_run
"""
    result = fork_server.run(*train_command(), "--name", "one", prepare=prepare)
    assert result.exit_code == 1
    assert "Cannot write runs/one/state.pth" in result.stderr
    assert "removed or moved" in result.stderr
    assert list(Path("runs").iterdir()) == []


# Losses and memory


def after_step(number: int, act: Callable[[TrainState], object]) -> Any:
    """A training step that calls `act` after the `number`-th time."""
    steps = count(1)

    def train_step(state: TrainState, *args: Any) -> Any:
        result = _train_step(state, *args)
        if next(steps) == number:
            act(state)
        return result

    return train_step


@torch.no_grad()
def lose_weights(state: TrainState) -> None:
    for network in (state.model, state.eval_model):
        next(network.parameters()).fill_(float("nan"))


@pytest.mark.parametrize(
    ("number", "where"),
    [(5 * 2 + 1, "in step 2 of epoch 3"), (5 * 3, "after the last step of epoch 3")],
)
def test_a_loss_that_becomes_nan_keeps_finished_epochs(
    number: int, where: str, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: a weight becomes NaN after one step, but not when the run is resumed."""
    whole = train("whole")
    with monkeypatch.context() as patched:
        patched.setattr(estimate, "estimate_epoch_seconds", lambda *_: None)
        patched.setattr(engine, "_train_step", after_step(number, lose_weights))
        result = mnist(*train_command(), "--name", "one")
    assert result.exit_code == 1
    assert where in result.stderr
    assert "--lr 0.001" in result.stderr
    assert "Epoch 2" in result.stderr
    assert temporary_files(ONE) == []
    assert assert_readable(ONE) == 2
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


def test_a_loss_that_becomes_nan_in_the_first_epoch_leaves_no_files(mnist: Mnist) -> None:
    deep = {"hidden": [50] * 8, "optimizer": "sgd", "lr": 100, "schedule": "constant", "ema": 0}
    result = mnist(*train_command(**deep), "--name", "one")
    assert result.exit_code == 1
    assert "NaN" in result.stderr
    assert "--lr 10" in result.stderr
    assert list(Path("runs").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("free_mb", [5, 40, 100, 160])
def test_too_little_memory_is_an_error_that_suggests_a_batch_size(
    fork_server: ForkServer, free_mb: int
) -> None:
    """The system refuses more memory at some place in the first epoch."""
    prepare = f"""
import resource
from mnistcli.training import engine
train_epoch = engine._train_epoch
def limited(*args):
    with open("/proc/self/statm") as handle:
        used = int(handle.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + {free_mb}_000_000, -1))
    return train_epoch(*args)
engine._train_epoch = limited
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not report how much memory a process uses")
    big = {"recipe": "cnn-deep", "hidden": None, "dropout": None, "batch_size": 1200, "epochs": 1}
    result = fork_server.run(*train_command(**big), "--name", "one", prepare=prepare)
    assert result.exit_code == 1, result.stderr
    assert "out of memory" in result.stderr
    assert "--batch-size 300" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(Path("runs").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_running_out_of_memory_keeps_finished_epochs(
    error: Exception, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: the third epoch's first step fails."""

    def fail(_state: TrainState) -> None:
        raise error

    whole = train("whole")
    with monkeypatch.context() as patched:
        patched.setattr(estimate, "estimate_epoch_seconds", lambda *_: None)
        patched.setattr(engine, "_train_step", after_step(11, fail))
        result = mnist(*train_command(), "--name", "one")
    assert result.exit_code == 1
    assert "--batch-size 64" in result.stderr
    assert "Epoch 2" in result.stderr
    assert_same_run(resume("one"), whole)


# The clock


def test_a_clock_that_goes_backwards_does_no_harm(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: whenever the time is read, it is an hour earlier, or the same second."""
    import datetime as dt

    now, calls = time.time(), count()

    class Backwards(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Backwards":
            return cls.fromtimestamp(now - 3600 * (next(calls) // 2), tz)

    monkeypatch.setattr(directory, "datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(calls))
    paths = [mnist(*train_command(epochs=2), "-q").stdout.strip() for _ in range(4)]
    assert len(set(paths)) == 4
    for path in map(Path, paths):
        assert all(epoch.seconds > 0 for epoch in read_metrics(Run(path)))
    assert paths[-1] in mnist("train", "--resume", "last", "--epochs", "3").stdout


# Several processes


STOP_IN_STEP = """
from mnistcli.training import engine
def train_step(*args):
    open("started", "w").close()
    time.sleep(600)
engine._train_step = train_step
"""


@contextlib.contextmanager
def training_process(fork_server: ForkServer, *words: str) -> Iterator[None]:
    """A process in the middle of an epoch, killed at the end."""
    process = fork_server.start(*words, prepare=STOP_IN_STEP)
    for _ in range(6000):
        if Path("started").exists():
            break
        time.sleep(0.01)
    else:
        pytest.fail("training has not started")
    try:
        yield
    finally:
        process.kill()
        assert process.wait().exit_code == 137


def test_a_run_in_use_is_refused_until_its_process_has_ended(fork_server: ForkServer) -> None:
    whole = train("whole")
    train("one", 2)
    with training_process(fork_server, "train", "--resume", "one"):
        before = {entry.name: entry.read_bytes() for entry in ONE.iterdir()}
        for name in ("one", "last"):
            result = fork_server.run("train", "--resume", name)
            assert result.exit_code == 1
            assert "runs/one is being trained by another process" in result.stderr
        assert fork_server.run(*train_command(), "--name", "one").exit_code == 2
        assert {entry.name: entry.read_bytes() for entry in ONE.iterdir()} == before
    assert fork_server.run("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


def test_a_new_run_is_locked_from_the_start(fork_server: ForkServer) -> None:
    with training_process(fork_server, *train_command(), "--name", "one"):
        assert fork_server.run("train", "--resume", "last").exit_code == 1
        assert fork_server.run(*train_command(), "--name", "one").exit_code == 2


def run_together(fork_server: ForkServer, num: int, *words: str) -> list[Result]:
    processes = [fork_server.start(*words) for _ in range(num)]
    return [process.wait() for process in processes]


@pytest.mark.slow
def test_processes_started_together_get_different_runs(fork_server: ForkServer) -> None:
    results = run_together(fork_server, 6, *train_command(epochs=2), "-q")
    assert {result.exit_code for result in results} == {0}
    paths = {Path(result.stdout.strip()) for result in results}
    assert len(paths) == 6
    assert set(Path("runs").iterdir()) == paths
    assert {assert_readable(path) for path in paths} == {2}


@pytest.mark.slow
def test_only_one_of_several_processes_gets_a_name(fork_server: ForkServer) -> None:
    results = run_together(fork_server, 6, *train_command(epochs=2), "--name", "one")
    assert sorted(result.exit_code for result in results) == [0, 2, 2, 2, 2, 2]
    assert assert_readable(ONE) == 2


@pytest.mark.slow
def test_only_one_process_at_a_time_resumes_a_run(fork_server: ForkServer) -> None:
    whole = train("whole", epochs=12)
    train("one", 1, epochs=12)
    results = run_together(fork_server, 5, "train", "--resume", "one")
    assert 0 in {result.exit_code for result in results} <= {0, 1}
    assert_same_run(ONE, whole)
