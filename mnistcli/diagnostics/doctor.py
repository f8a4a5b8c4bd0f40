"""The checks of `mnist doctor`, one after another. Loads no torch.

A broken driver can hang or kill its process, so that all checks run in other
processes: one for the machine and its CPU, one for every accelerator, one for a
training.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from mnistcli.config.choices import DeviceName, values
from mnistcli.diagnostics.checks import (
    INSTALL,
    LOADING,
    Check,
    CheckEvents,
    CheckStart,
    DoctorOptions,
    run_check,
)
from mnistcli.diagnostics.isolated import ProcessDiedError, ProcessSilentError, iterate_isolated
from mnistcli.diagnostics.verdict import find_training_obstacle
from mnistcli.errors import require_known

# The most that a check may take, and PyTorch to be loaded from a cold disk.
CHECK_SECONDS = 240.0
LOADING_SECONDS = 180.0

# Called when a check begins.
OnStart = Callable[[CheckStart], None]


@dataclass(frozen=True)
class Task:
    """The checks that one process carries out: those of the machine, of a device, or a training."""

    kind: Literal["machine", "device", "train"]
    device: str
    options: DoctorOptions
    # Whether it uses the CPU only, which can be busy but does not hang.
    on_cpu: bool = True

    @property
    def check_seconds(self) -> float:
        """The most that one of its checks may take."""
        return CHECK_SECONDS + (self.options.train_seconds if self.kind == "train" else 0)


def run_checks(options: DoctorOptions, *, on_start: OnStart) -> Iterator[Check]:
    """Carry out every check.

    Raises:
        SettingsError: the device is unknown.
    """
    options = replace(options, device=require_known("device", options.device, values(DeviceName)))
    checks: list[Check] = []
    for check in run_task(Task("machine", options.device, options), on_start):
        checks.append(check)
        yield check
    accelerators = [each["device"] for check in checks for each in check.facts.get("devices", ())]
    for device in accelerators:
        for check in run_task(Task("device", device, options, on_cpu=False), on_start):
            checks.append(check)
            yield check
    skipped = _skip_training(options, checks)
    if skipped:
        yield skipped
    else:
        task = Task("train", options.device, options, on_cpu=not accelerators)
        yield from run_task(task, on_start)


def _skip_training(options: DoctorOptions, checks: Sequence[Check]) -> Check | None:
    """The skipped check, if training is turned off or something prevents it."""
    if not options.train_seconds:
        return Check("training", "", "skipped", "turned off (--seconds 0)")
    obstacle = find_training_obstacle(checks)
    if not obstacle:
        return None
    works_on_cpu = obstacle.name == "accelerators" or obstacle.subject not in ("", "cpu")
    fix = "mnist doctor --device cpu" if works_on_cpu else obstacle.fix
    return Check("training", "", "skipped", f"not tried because of {obstacle.label}", fix=fix)


def run_task(task: Task, on_start: OnStart) -> Iterator[Check]:
    """The checks of a task, in a process of its own; if it hangs or dies, its check fails."""
    current = CheckStart(LOADING, "")
    on_start(current)
    try:
        for event in iterate_isolated(
            run_task_here,
            task,
            start_seconds=LOADING_SECONDS,
            silence_seconds=task.check_seconds,
        ):
            if isinstance(event, CheckStart):
                current = event
                on_start(current)
            else:
                yield event
    except ProcessSilentError as error:
        is_slow = task.on_cpu and current.name not in (LOADING, "accelerators")
        yield _slow(current, error.reason) if is_slow else _died(current, error.reason)
    except ProcessDiedError as error:
        yield _died(current, error.reason)


def run_task_here(task: Task) -> CheckEvents:
    """The checks of a task, in this process, each announced."""
    from mnistcli.diagnostics.device_checks import check_device, check_training
    from mnistcli.diagnostics.system_checks import check_accelerators, check_machine

    if task.kind == "device":
        yield from check_device(task.device)
    elif task.kind == "train":
        train = partial(check_training, task.device, task.options.train_seconds)
        yield from run_check("training", "", train)
    else:
        yield from check_machine(task.options)
        if task.device in ("auto", "cpu"):
            yield from check_device("cpu")
        if task.device != "cpu":
            # The last, because it asks the driver.
            yield from run_check("accelerators", "", partial(check_accelerators, task.device))


def _slow(current: CheckStart, reason: str) -> Check:
    """The warning for a check that was stopped on a CPU."""
    fix = "Run it again when fewer other programs are running"
    finding = f"{reason}: the machine is slow or busy"
    return Check(current.name, current.subject, "warning", finding, fix=fix)


def _died(current: CheckStart, reason: str) -> Check:
    """The failed check during which a process died."""
    if current.name == LOADING:
        fix = INSTALL
    elif current.subject in ("", "cpu"):
        fix = "Run it again; if it fails again, reinstall PyTorch"
    else:
        fix = "Try mnist doctor --device cpu; update the driver, or restart the machine"
    facts = {"died": True}
    return Check(current.name, current.subject, "failed", reason, fix=fix, facts=facts)
