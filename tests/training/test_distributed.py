"""Several real processes train as one does, and their failures end in a message.

Most are started with torchrun's environment variables, some by torchrun itself.
"""

import itertools
import json
import math
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
from mnistcli.runs.history import EpochResult, read_metrics
from mnistcli.training.distributed import (
    SINGLE_PROCESS,
    ProcessGroup,
    _set_gpu,
    process_group,
    translate_lost_process,
)
from tests.helpers import distributed_worker
from tests.helpers.cli import Mnist, Result
from tests.helpers.paths import REPOSITORY
from tests.helpers.processes import ForkedProcess, ForkServer
from tests.helpers.runs import ONE, signal_at_step

TRAIN = ["train", "--dataset", "digits", "--precision", "float32", "--recipe", "cnn-26k"]
ENDLESS = [*TRAIN, "--epochs", "1000", "--name", "one"]
# Against a test that hangs; nothing takes that long.
HANG_SECONDS = 600


def torchrun(num: int, *command: str, cwd: Path = Path(), **options: str) -> subprocess.Popen[str]:
    # A rendezvous on a port of its own, so that jobs in parallel do not meet.
    options = {"rdzv-endpoint": "localhost:0", **options}
    flags = itertools.chain(*((f"--{name}", value) for name, value in options.items()))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num)]
    return subprocess.Popen(
        [*launcher, "--rdzv-backend", "c10d", *flags, "-m", "mnistcli", *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


def wait(job: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = job.communicate(timeout=HANG_SECONDS)
    assert job.returncode == 0, err
    return out, err


def worker_pids(job: subprocess.Popen[str]) -> list[int]:
    """The process ids that torchrun has started, by rank."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    ranks = {}
    for child in map(int, children):
        match = re.search(rb"\x00RANK=(\d+)\x00", Path(f"/proc/{child}/environ").read_bytes())
        if match:
            ranks[int(match[1])] = child
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for_an_epoch(job: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not (ONE / "metrics.csv").exists():
        if job:
            assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.05)


def epochs_of(name: str) -> list[EpochResult]:
    return read_metrics(Run(Path("runs", name)))


def wait_for_all(processes: list[ForkedProcess], exit_code: int = 0) -> list[Result]:
    results = [process.wait() for process in processes]
    assert [result.exit_code for result in results] == [exit_code] * len(results), results
    return results


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("num", [0, 1, 7, 1001])
def test_the_shards_are_disjoint_complete_and_nearly_equal(num: int, world_size: int) -> None:
    items = list(range(num))
    shards = [items[ProcessGroup(rank, world_size).shard(num)] for rank in range(world_size)]
    assert list(itertools.chain(*shards)) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("variables", [{}, {"RANK": "1", "WORLD_SIZE": "4", "MASTER_PORT": "x"}])
def test_without_torchrun_there_is_a_single_process(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with process_group() as group:
        assert group is SINGLE_PROCESS
        assert group.is_main
        assert group.broadcast_from_main(lambda: 7) == 7


# The command line is replaced by the worker's computations.
RUN_WORKER = """
from mnistcli.cli import app
from tests.helpers import distributed_worker
app.app = lambda **_: distributed_worker.main()
"""


@pytest.fixture(scope="module")
def single_process(fork_server: ForkServer) -> Any:
    """The results of `distributed_worker` in one process."""
    result = fork_server.run(prepare=RUN_WORKER)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_as_one_does(
    world_size: int, single_process: Any, fork_server: ForkServer
) -> None:
    processes = fork_server.start_distributed(world_size, prepare=RUN_WORKER)
    record = json.loads(wait_for_all(processes)[0].stdout)
    # Networks are float64; augmented images and an epoch's sums are float32, with roundings of
    # 1e-7. Averaging over
    # shares instead of images, or normalizing each share alone, changes the third digit.
    assert max(record["batch_norm"]) < 1e-10
    for case, curve, expected_curve in zip(
        distributed_worker.CASES, record["curves"], single_process["curves"], strict=True
    ):
        for epoch, expected in zip(curve, expected_curve, strict=True):
            assert epoch == pytest.approx(expected, rel=1e-5), case
    assert record["bad_step"] == single_process["bad_step"]
    assert "in step 3 of epoch 1" in record["bad_step"]


@pytest.mark.slow
def test_torchrun_trains_one_run_that_one_process_writes_and_prints(mnist: Mnist) -> None:
    out, _ = wait(torchrun(2, *TRAIN, "--epochs", "3", "--name", "two"))
    assert re.search("^processes +2", out, re.MULTILINE)
    assert len(re.findall(r"^ +\d/3 ", out, re.MULTILINE)) == 3
    assert out.count("Saved in runs/two\n") == 1
    assert mnist(*TRAIN, "--epochs", "3", "--name", "one").exit_code == 0
    names = [sorted(path.name for path in Path("runs", run).iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    assert read_record(Run(Path("runs/two")), "environment.json")["num_processes"] == 2
    epochs = epochs_of("two")
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert all(math.isfinite(epoch.val_loss or math.nan) for epoch in epochs)
    assert epochs[-1].train_loss < epochs[0].train_loss
    # Float32 sums in another order; that the results agree is proved in float64 above.
    assert [epoch.lr for epoch in epochs] == [epoch.lr for epoch in epochs_of("one")]
    assert mnist("eval", "two", "--dataset", "digits", "-q").exit_code == 0


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_and_any_number_of_processes_resumes_it(
    mnist: Mnist, fork_server: ForkServer
) -> None:
    job = torchrun(2, *ENDLESS)
    wait_for_an_epoch(job)
    os.kill(worker_pids(job)[1], signal.SIGKILL)
    _, err = job.communicate(timeout=HANG_SECONDS)
    assert job.returncode != 0
    # torchrun's SIGTERM may come before the lost connection is noticed.
    assert re.search("Another process of this training|Interrupted after epoch", err)
    assert "mnist train --resume runs/one" in err
    assert not list(ONE.glob(".*.tmp"))
    num_done = len(epochs_of("one"))
    resume = ("train", "--resume", "one", "--epochs")
    assert mnist(*resume, num_done + 1).exit_code == 0
    wait_for_all(fork_server.start_distributed(3, *resume, str(num_done + 2)))
    assert len(epochs_of("one")) == num_done + 2
    resumptions = read_record(Run(ONE), "environment.json")["resumed"]
    assert [resumption["num_processes"] for resumption in resumptions] == [1, 3]


@pytest.mark.slow
@pytest.mark.parametrize("killed_rank", [0, 1])
def test_a_process_that_is_left_alone_ends_with_a_message(
    killed_rank: int, fork_server: ForkServer
) -> None:
    processes = fork_server.start_distributed(2, *ENDLESS)
    wait_for_an_epoch()
    processes[killed_rank].kill()
    assert processes[killed_rank].wait().exit_code == 137
    result = processes[1 - killed_rank].wait()
    assert result.exit_code == 1
    assert "Another process of this training" in result.stderr
    assert "mnist train --resume runs/one" in result.stderr
    assert not list(ONE.glob(".*.tmp"))
    assert epochs_of("one")


@pytest.mark.slow
def test_of_two_machines_one_keeps_the_run(tmp_path: Path) -> None:
    """Two torchrun agents, as on two machines that share no directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    rendezvous = {"nnodes": "2", "rdzv-endpoint": f"127.0.0.1:{port}"}
    jobs = [torchrun(1, *TRAIN, "--epochs", "2", cwd=folder, **rendezvous) for folder in folders]
    outs = [wait(job)[0] for job in jobs]
    # torchrun decides which of them gets rank 0.
    assert sorted(len(list(folder.glob("runs/*"))) for folder in folders) == [0, 1]
    assert sum("Saved in runs/" in out for out in outs) == 1


@pytest.mark.slow
def test_the_same_number_of_processes_resumes_to_the_same_bits(fork_server: ForkServer) -> None:
    command = [*TRAIN, "--dropout", "0.2", "--epochs", "4", "--name"]
    wait_for_all(fork_server.start_distributed(2, *command, "whole"))
    kill = signal_at_step(signal.SIGKILL, step=13)
    processes = fork_server.start_distributed(2, *command, "parts", prepare=kill)
    # One may notice that the other is gone before it is killed itself.
    assert {process.wait().exit_code for process in processes} <= {137, 1}
    assert len(epochs_of("parts")) == 1
    wait_for_all(fork_server.start_distributed(2, "train", "--resume", "parts"))
    for name in ("last.pth", "best.pth"):
        whole, parts = (Path("runs", run, name).read_bytes() for run in ("whole", "parts"))
        assert whole == parts


def test_what_ends_before_training_is_printed_once(fork_server: ForkServer) -> None:
    main, other = wait_for_all(fork_server.start_distributed(2, *TRAIN, "--lr", "-3"), 2)
    assert main.stderr.count("--lr") == 1
    assert (main.stdout, other.stdout, other.stderr) == ("", "", "")
    results = wait_for_all(fork_server.start_distributed(3, *TRAIN, "--batch-size", "2"), 2)
    assert "3 processes cannot share a batch of 2" in results[0].stderr
    main, other = wait_for_all(fork_server.start_distributed(2, *TRAIN, "--dry-run"))
    assert main.stdout.count("val_size") == 1
    assert (main.stderr, other.stdout, other.stderr) == ("", "", "")
    assert not list(Path().glob("runs/*"))


@pytest.mark.slow
def test_the_other_processes_end_after_the_main_one_has_printed_its_error(
    fork_server: ForkServer,
) -> None:
    """As soon as one process has ended, torchrun ends them all."""
    print_late = """
from mnistcli.views import console
print_error = console.print_error
def print_late(*args):
    time.sleep(1)
    print_error(*args)
    open("printed", "w").close()
console.print_error = print_late
"""
    main, other = fork_server.start_distributed(2, *TRAIN, "--lr", "-3", prepare=print_late)
    result = other.wait()
    assert Path("printed").exists()
    assert (result.exit_code, result.stderr) == (2, "")
    assert "--lr" in main.wait().stderr


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_keeps_the_last_epoch() -> None:
    job = torchrun(2, *ENDLESS)
    wait_for_an_epoch(job)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=HANG_SECONDS)
    assert "mnist train --resume runs/one" in err
    assert load_checkpoint(ONE / "last.pth").card.epoch >= 1


@pytest.mark.parametrize(
    "message",
    [
        "[/some/place/gloo/tcp/pair.cc:545] Read error: Connection reset by peer. More words",
        "NCCL error in: a.cpp:3, unhandled system error\nsecond line",
    ],
)
def test_a_lost_connection_is_an_error_with_a_way_on(message: str) -> None:
    with pytest.raises(RunError) as caught, translate_lost_process("runs/x"):
        raise RuntimeError(message)
    assert "\n" not in caught.value.why
    assert "/some/place" not in caught.value.why
    assert caught.value.fix.endswith("mnist train --resume runs/x")


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(RuntimeError, match="a bug"), translate_lost_process():
        raise RuntimeError("a bug")


def test_every_process_needs_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated machine with two GPUs."""
    gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", gpus.append)
    _set_gpu(1)
    assert gpus == [1]
    with pytest.raises(DeviceError, match="process 2") as caught:
        _set_gpu(2)
    assert "--nproc-per-node 2" in caught.value.fix
