"""Which checks are carried out, and what becomes of a process that hangs or dies."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnistcli.diagnostics import device_checks, doctor, system_checks
from mnistcli.diagnostics.checks import (
    INSTALL,
    Check,
    CheckEvents,
    CheckStart,
    DoctorOptions,
    run_check,
)
from mnistcli.diagnostics.doctor import OnStart, Task, run_checks, run_task, run_task_here
from mnistcli.diagnostics.isolated import ProcessDiedError, ProcessSilentError
from mnistcli.diagnostics.verdict import decide_verdict
from mnistcli.errors import DataError

PICKED = Check("bfloat16", "cpu", "ok", "", facts={"auto": True})
TRAINED = Check("training", "", "ok", "")
TWO_GPUS = Check(
    "accelerators", "", "ok", "", facts={"devices": [{"device": "cuda:0"}, {"device": "cuda:1"}]}
)


Tasks = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """Replace the other processes: `tasks(machine=[check])` returns the list of tasks to come."""

    def install(**checks: list[Check]) -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []

        def run(task: Task, _on_start: OnStart) -> Iterator[Check]:
            seen.append((task.kind, task.device))
            yield from checks.get(task.kind, [])

        monkeypatch.setattr(doctor, "run_task", run)
        return seen

    return install


def all_checks(options: DoctorOptions | None = None) -> list[Check]:
    return list(run_checks(options or DoctorOptions(), on_start=lambda _start: None))


def test_every_accelerator_is_checked_and_then_a_network_trained(
    tasks: Tasks,
) -> None:
    seen = tasks(machine=[TWO_GPUS], device=[PICKED], train=[TRAINED])
    assert all_checks() == [TWO_GPUS, PICKED, PICKED, TRAINED]
    devices = [("device", "cuda:0"), ("device", "cuda:1")]
    assert seen == [("machine", "auto"), *devices, ("train", "auto")]


def test_0_seconds_skip_the_training(tasks: Tasks) -> None:
    seen = tasks(machine=[PICKED])
    assert all_checks(DoctorOptions(train_seconds=0))[-1].status == "skipped"
    assert seen == [("machine", "auto")]


@pytest.mark.parametrize(
    ("obstacle", "fix"),
    [
        (Check("kernels", "cuda:0", "failed", "", facts={"died": True}), "--device cpu"),
        (Check("accelerators", "", "failed", "none"), "--device cpu"),
        # The CPU does not help where PyTorch itself fails.
        (Check("PyTorch", "", "failed", "", fix=INSTALL, facts={"died": True}), INSTALL),
        # Training uses the first GPU only, and `auto` does not pick one with wrong results.
        (Check("kernels", "cuda:1", "failed", "", facts={"died": True}), None),
        (Check("kernels", "cuda:0", "failed", "wrong"), None),
    ],
)
def test_a_training_that_would_hang_is_skipped(
    obstacle: Check, fix: str | None, tasks: Tasks
) -> None:
    tasks(machine=[obstacle], train=[TRAINED])
    last = all_checks()[-1]
    if fix is None:
        assert last == TRAINED
    else:
        assert last.status == "skipped"
        assert obstacle.label in last.finding
        assert fix in last.fix


@pytest.mark.parametrize(
    ("start", "fix"),
    [
        (None, INSTALL),
        (CheckStart("kernels", "cpu"), "reinstall PyTorch"),
        (CheckStart("kernels", "cuda:0"), "--device cpu"),
    ],
)
def test_the_check_during_which_a_process_dies_fails(
    start: CheckStart | None, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iterate(*_args: object, **_limits: float) -> CheckEvents:
        if start:
            yield CheckStart("versions", "")
            yield PICKED
            yield start
        raise ProcessDiedError("the process was killed by SIGSEGV")

    monkeypatch.setattr(doctor, "iterate_isolated", iterate)
    starts: list[CheckStart] = []
    *checks, last = run_task(Task("machine", "auto", DoctorOptions()), starts.append)
    loading = CheckStart("PyTorch", "")
    expected = [loading, CheckStart("versions", ""), start] if start else [loading]
    assert starts == expected
    assert checks == ([PICKED] if start else [])
    assert CheckStart(last.name, last.subject) == starts[-1]
    assert (last.status, last.facts) == ("failed", {"died": True})
    assert "SIGSEGV" in last.finding
    assert fix in last.fix


def test_a_training_may_take_longer_than_other_checks() -> None:
    options = DoctorOptions(train_seconds=3600)
    assert Task("train", "auto", options).check_seconds > 3600
    assert Task("machine", "auto", options).check_seconds < 3600


@pytest.mark.parametrize(
    ("device", "checked"),
    [("auto", ["cpu", "accelerators"]), ("cpu", ["cpu"]), ("cuda", ["accelerators"])],
)
def test_only_the_device_of_the_option_is_checked(
    device: str, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        device_checks, "check_device", lambda name: iter([Check("kernels", name, "ok", "")])
    )
    monkeypatch.setattr(
        system_checks, "check_accelerators", lambda _device: Check("accelerators", "", "ok", "")
    )
    options = DoctorOptions(device, data_dir="data", out=str(Path("out")))
    found = run_task_here(Task("machine", device, options))
    checks = [event for event in found if isinstance(event, Check)]
    labels = [check.label for check in checks[:8]]
    assert labels[:3] == ["versions", "processor", "mnist data"]
    assert labels[-3:] == ["digits data", "data directory", "runs directory"]
    assert [check.subject or check.name for check in checks[8:]] == checked


def test_the_other_tasks_check_a_device_and_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_checks, "check_device", lambda name: iter([CheckStart("", name)]))
    monkeypatch.setattr(device_checks, "check_training", lambda _device, _seconds: TRAINED)
    options = DoctorOptions()
    assert list(run_task_here(Task("device", "cuda:1", options))) == [CheckStart("", "cuda:1")]
    training = [CheckStart("training", ""), TRAINED]
    assert list(run_task_here(Task("train", "auto", options))) == training


@pytest.mark.parametrize(
    ("error", "finding", "fix"),
    [
        (DataError("It is\nbroken.", why="So.", fix="Do this"), "It is broken. So", "Do this"),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied", "Check the path"),
        (AssertionError("Torch not compiled.\nMore"), "Torch not compiled", "Install"),
        (ZeroDivisionError(), "ZeroDivisionError", "Install"),
    ],
)
def test_an_error_in_a_check_is_a_failed_check(error: Exception, finding: str, fix: str) -> None:
    def function() -> Check:
        raise error

    start, check = run_check("kernels", "cuda:0", function)
    assert start == CheckStart("kernels", "cuda:0")
    assert isinstance(check, Check)
    assert (check.label, check.status, check.finding) == ("cuda:0 kernels", "failed", finding)
    assert check.fix.startswith(fix)


def test_a_check_that_is_slow_on_a_cpu_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> Iterator[object]:
        yield CheckStart("float32", "cpu")
        raise ProcessSilentError("no answer within 240 s")

    monkeypatch.setattr(doctor, "iterate_isolated", silent)
    options = DoctorOptions("auto", None, "runs", 1.0)
    [check] = run_task(Task("machine", "auto", options), lambda _: None)
    assert (check.status, check.label) == ("warning", "cpu float32")
    assert "busy" in check.finding
    [check] = run_task(Task("device", "cuda:0", options, on_cpu=False), lambda _: None)
    assert check.status == "failed"


def test_a_slow_training_leaves_the_verdict_to_the_other_checks() -> None:
    slow = Check("training", "", "warning", "no answer within 240 s: the machine is slow or busy")
    verdict = decide_verdict([PICKED, slow])
    assert (verdict.word, verdict.exit_code) == ("warning", 0)
