"""Several real processes train as one does, and their failures are told plainly.

Most are started with the environment that torchrun gives its processes, some by torchrun itself.
"""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.errors import DeviceError, RunError
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run, read_record
from mnistcli.runs.history import read_metrics
from mnistcli.training.distributed import (
    SINGLE_PROCESS,
    ProcessGroup,
    _use_gpu,
    process_group,
    translate_lost_process,
)
from tests.helpers.cli import Mnist, Result
from tests.helpers.paths import REPOSITORY
from tests.helpers import distributed_worker
from tests.helpers.processes import ForkedProcess, ForkServer
from tests.helpers.runs import signal_at_step

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
TRAIN = ["-m", "mnistcli", "train", "--dataset", "digits", "--precision", "float32"]
ENDLESS = ["--recipe", "cnn-26k", "--epochs", "1000", "--name", "one"]


def torchrun(num: int, *command: str) -> subprocess.Popen[str]:
    # A port of its own, so that jobs side by side do not meet.
    return subprocess.Popen(
        [*TORCHRUN, str(num), "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


def finished(job: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    return out, err


def workers_of(job: subprocess.Popen[str]) -> list[int]:
    """The process ids that a job has started, the leader first."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    ranks = {}
    for child in map(int, children):
        found = re.search(rb"\x00RANK=(\d+)\x00", Path(f"/proc/{child}/environ").read_bytes())
        if found:
            ranks[int(found[1])] = child
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for(path: Path, job: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        if job:
            assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def curve(run: str) -> list[tuple[float, ...]]:
    return [
        (epoch.train_loss, epoch.train_accuracy, epoch.val_loss or 0, epoch.val_accuracy or 0)
        for epoch in read_metrics(Run(Path("runs", run)))
    ]


@pytest.mark.parametrize("num", [0, 1, 7, 64, 1001])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_shares_are_everything_once_and_nearly_equal(num: int, count: int) -> None:
    everything = list(range(num))
    shares = [everything[ProcessGroup(rank, count).shard(num)] for rank in range(count)]
    assert list(itertools.chain(*shares)) == everything
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("told", [{}, {"WORLD_SIZE": "4"}, {"RANK": "1", "MASTER_PORT": "x"}])
def test_alone_nothing_is_exchanged(told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with process_group() as group:
        assert group is SINGLE_PROCESS
        assert group.is_leader
        assert group.broadcast_from_leader(lambda: 7) == 7


def all_ended(processes: list[ForkedProcess], exit_code: int = 0) -> list[Result]:
    ends = [process.wait() for process in processes]
    assert [ended.exit_code for ended in ends] == [exit_code] * len(ends), ends
    return ends


# Instead of a command.
WORKER = """
from mnistcli import cli
from tests.helpers import distributed_worker
cli.main = lambda _args: distributed_worker.main()
"""


@pytest.fixture(scope="module")
def alone(fork_server: ForkServer) -> Any:
    """What one process finds in `distributed_worker`."""
    return json.loads(fork_server.run(prepare=WORKER).stdout)


@pytest.mark.parametrize("num", [2, 3])
def test_several_processes_train_as_one_does(num: int, alone: Any, fork_server: ForkServer) -> None:
    found = json.loads(all_ended(fork_server.start_distributed(num, prepare=WORKER))[0].stdout)
    assert max(found["batch_norm"]) < 1e-12
    assert found["bad_step"] == alone["bad_step"]
    assert "infinite in step 3 of epoch 1" in alone["bad_step"]
    for case, one, several in zip(
        distributed_worker.CASES, alone["curves"], found["curves"], strict=True
    ):
        for figures, wanted in zip(several, one, strict=True):
            assert figures == pytest.approx(wanted, rel=1e-6), case


def test_the_command_trains_writes_and_draws_once(mnist: Mnist) -> None:
    settings = ["--recipe", "cnn-26k", "--epochs", "3", "--name"]
    out, err = finished(torchrun(2, *TRAIN, *settings, "two"))
    assert err.count("processes  2") == 1
    assert len(re.findall(r"^ +\d/3 ", err, re.MULTILINE)) == 3
    assert out.count("Kept in runs/two") == 1
    assert mnist(*TRAIN[2:], *settings, "one").exit_code == 0
    names = [sorted(path.name for path in Path("runs", run).iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    # In float32 the sums of a step are rounded in another order.
    for two, one in zip(curve("two"), curve("one"), strict=True):
        assert two == pytest.approx(one, rel=2e-3)
    assert read_record(Run(Path("runs/two")), "environment.json")["num_processes"] == 2
    assert mnist("eval", "two", "--dataset", "digits", "-q").exit_code == 0


def test_a_killed_worker_ends_the_job_and_the_run_goes_on(mnist: Mnist, fork_server: ForkServer) -> None:
    job = torchrun(2, *TRAIN, *ENDLESS)
    wait_for(Path("runs/one/metrics.csv"), job)
    os.kill(workers_of(job)[1], signal.SIGKILL)
    _, err = job.communicate(timeout=180)
    assert job.returncode != 0
    # torchrun's SIGTERM may come before the lost connection is noticed.
    assert re.search("Another process of this training has ended|Interrupted after epoch", err)
    assert "mnist train --resume runs/one" in err
    assert not list(Path("runs/one").glob(".*.tmp"))
    num_done = len(curve("one"))
    # Alone, then by three.
    alone = mnist("train", "--resume", "one", "--epochs", num_done + 1)
    assert f"Resuming at epoch {num_done + 1} of {num_done + 1}." in alone.stderr
    three = fork_server.start_distributed(3, "train", "--resume", "one", "--epochs", str(num_done + 2))
    leader, *_ = all_ended(three)
    assert f"Resuming at epoch {num_done + 2} of {num_done + 2}." in leader.stderr
    assert len(curve("one")) == num_done + 2
    lives = read_record(Run(Path("runs/one")), "environment.json")["resumed"]
    assert [life["num_processes"] for life in lives] == [1, 3]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_left_alone_notices_it_and_ends(victim: int, fork_server: ForkServer) -> None:
    pair = fork_server.start_distributed(2, *TRAIN[2:], *ENDLESS)
    wait_for(Path("runs/one/metrics.csv"))
    pair[victim].kill()
    assert pair[victim].wait().exit_code == 137
    left = pair[1 - victim].wait()
    assert left.exit_code == 1
    assert "Another process of this training has ended" in left.stderr
    assert "mnist train --resume runs/one" in left.stderr
    assert not list(Path("runs/one").glob(".*.tmp"))
    assert curve("one")


def test_two_machines_meet_and_the_first_alone_keeps_the_run(tmp_path: Path) -> None:
    """Two of torchrun's agents, as on two machines that share no directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    jobs = [
        subprocess.Popen(
            [*TORCHRUN, "1", *meeting, *TRAIN, "--recipe", "cnn-26k", "--epochs", "2"],
            cwd=tmp_path / name,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        for name in ("first", "second")
    ]
    outs = [finished(job)[0] for job in jobs]
    # Which of the two has process 0 is torchrun's to say.
    assert sorted(len(list((tmp_path / name).glob("runs/*"))) for name in ("first", "second")) == [
        0,
        1,
    ]
    assert sum("Kept in runs/" in out for out in outs) == 1


def test_the_same_processes_go_on_to_the_same_bits(fork_server: ForkServer) -> None:
    settings = ["--recipe", "cnn-15k", "--dropout", "0.2", "--epochs", "4", "--name"]
    all_ended(fork_server.start_distributed(2, *TRAIN[2:], *settings, "whole"))
    killed = signal_at_step(signal.SIGKILL)
    parts = fork_server.start_distributed(2, *TRAIN[2:], *settings, "parts", prepare=killed)
    # One may notice that the other is gone before it comes to its own end.
    assert {process.wait().exit_code for process in parts} <= {137, 1}
    assert len(curve("parts")) == 1
    all_ended(fork_server.start_distributed(2, "train", "--resume", "parts"))
    for name in ("last.pth", "best.pth"):
        whole, resumed = (Path("runs", run, name).read_bytes() for run in ("whole", "parts"))
        assert whole == resumed


def test_what_ends_before_training_is_said_once(fork_server: ForkServer) -> None:
    leader, other = all_ended(fork_server.start_distributed(2, *TRAIN[2:], "--lr", "-3"), 2)
    assert leader.stderr.count("--lr: -3 will not do") == 1
    assert (leader.stdout, other.stdout, other.stderr) == ("", "", "")
    ends = all_ended(fork_server.start_distributed(3, *TRAIN[2:], "--batch-size", "2"), 2)
    assert "3 processes cannot share 2 pictures a step" in ends[0].stderr
    leader, other = all_ended(fork_server.start_distributed(2, *TRAIN[2:], "--dry-run"))
    assert leader.stdout.count("val_size") == 1
    assert (leader.stderr, other.stdout, other.stderr) == ("", "", "")
    assert not list(Path().glob("runs/*"))


def test_the_others_end_when_the_leader_has_said_why(fork_server: ForkServer) -> None:
    """As soon as one has ended, torchrun ends them all."""
    late = """
from mnistcli import render
error = render.error
def say_late(*args):
    time.sleep(1)
    error(*args)
    open("said", "w").close()
render.error = say_late
"""
    leader, other = fork_server.start_distributed(2, *TRAIN[2:], "--lr", "-3", prepare=late)
    ended = other.wait()
    assert Path("said").exists()
    assert (ended.exit_code, ended.stderr) == (2, "")
    assert "--lr: -3 will not do" in leader.wait().stderr


def test_ctrl_c_ends_all_and_keeps_the_last_epoch() -> None:
    job = torchrun(2, *TRAIN, *ENDLESS)
    wait_for(Path("runs/one/metrics.csv"), job)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=180)
    assert "Go on: mnist train --resume runs/one" in err
    assert load_checkpoint(Path("runs/one/last.pth")).card.epoch >= 1


@pytest.mark.parametrize(
    "said",
    [
        "[/some/place/gloo/tcp/pair.cc:545] Read error: Connection reset by peer. More words",
        "NCCL error in: a.cpp:3, unhandled system error\nsecond line",
    ],
)
def test_a_lost_connection_is_told_in_words(said: str) -> None:
    with pytest.raises(RunError) as told, translate_lost_process("runs/x"):
        raise RuntimeError(said)
    assert "\n" not in told.value.why
    assert "/some/place" not in told.value.why
    assert told.value.fix.endswith("mnist train --resume runs/x")


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="a bug"), translate_lost_process():
        raise RuntimeError("a bug")


def test_there_must_be_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA is injected, because such a machine is not here."""
    chosen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    _use_gpu(1)
    assert chosen == [1]
    with pytest.raises(DeviceError, match="no GPU for process 2") as refused:
        _use_gpu(2)
    assert "--nproc-per-node 2" in refused.value.fix
