"""What works on this machine: one check after another, and the verdict on all. Loads no torch.

Whatever loads PyTorch or touches a driver runs in another process, because a
broken driver hangs or kills its process: that is a finding like any other. The
other process (`serve`) writes a line of JSON when it begins a check and one when
it is done with it.
"""

import json
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal

from mnistcli.config.choices import DeviceName, values
from mnistcli.diagnostics.checks import INSTALL, Check, DoctorOptions, OnStart, Task, count_noun
from mnistcli.diagnostics.processes import last_words, python_command
from mnistcli.errors import DataError, DeviceError, MnistError, unknown_name

# How long a check may take. What takes longest is to load PyTorch from a cold disk.
SILENCE_SECONDS = 60.0
LOADING_SECONDS = 180.0
LOADING = "PyTorch"

# What a failed check is worth as an exit code; all others are about a device.
_EXIT_CODES = {
    "data": DataError.exit_code,
    "directory": MnistError.exit_code,
    "versions": MnistError.exit_code,
    LOADING: MnistError.exit_code,
}


RunTask = Callable[[Task, OnStart], Iterator[Check]]


@dataclass(frozen=True)
class Verdict:
    """All checks in a word, a sentence and an exit code."""

    word: Literal["ok", "warning", "failed"]
    sentence: str
    exit_code: int


def run_checks(
    wanted: DoctorOptions, *, on_start: OnStart, ask: RunTask | None = None
) -> Iterator[Check]:
    """Every check that `wanted` asks for, as it is done; `ask` is for tests.

    Raises:
        SettingsError: there is no such device.
    """
    if wanted.device not in values(DeviceName):
        raise unknown_name("device", wanted.device, values(DeviceName))
    ask = ask or ask_a_process
    done: list[Check] = []
    for check in ask(Task("machine", wanted.device, wanted), on_start):
        done.append(check)
        yield check
    for device in [each["device"] for check in done for each in check.facts.get("devices", ())]:
        for check in ask(Task("device", device, wanted), on_start):
            done.append(check)
            yield check
    reason = _skipped_training(wanted, done)
    if reason:
        yield reason
    else:
        yield from ask(Task("train", wanted.device, wanted), on_start)


def _skipped_training(wanted: DoctorOptions, done: Sequence[Check]) -> Check | None:
    """Why nothing is trained: nobody wants it, or its process would end as another did."""
    if not wanted.train_seconds:
        return Check("training", "", "skipped", "left out (--seconds 0)")
    obstacle = _obstacle(done)
    if not obstacle:
        return None
    elsewhere = obstacle.name == "accelerators" or obstacle.subject not in ("", "cpu")
    fix = "mnist doctor --device cpu" if elsewhere else obstacle.fix
    return Check("training", "", "skipped", f"not tried, because of {obstacle.label}", fix=fix)


def _obstacle(checks: Sequence[Check]) -> Check | None:
    """The check for whose sake a training would not begin, or not end."""
    for check in checks:
        missing = check.name == "accelerators" and check.status == "failed"
        # Training uses the first GPU only.
        died = check.facts.get("died") and check.subject in ("", "cpu", "cuda:0", "mps")
        if missing or died:
            return check
    return None


def summarize_checks(checks: Sequence[Check]) -> Verdict:
    """The verdict on all checks.

    Exit code 4 where a device or a number format fails, else 3 where data are
    damaged, else 1 where anything else fails, else 0: warnings do not count.
    """
    failed = [check for check in checks if check.status == "failed"]
    codes = [_EXIT_CODES.get(check.name, DeviceError.exit_code) for check in failed]
    able = _describe_ability(checks)
    if not able:
        # Neither damaged data nor a full disk is why.
        causes = [check for check in failed if check.name not in ("data", "directory")] or failed
        why = f"{causes[0].label}: {causes[0].finding}" if causes else "nothing was tried"
        sentence = f"This machine cannot train: {why}."
        return Verdict("failed", sentence, max(codes, default=MnistError.exit_code))
    sentence = f"This machine can train: {able}"
    if failed:
        names = ", ".join(check.label for check in failed)
        but = f"{sentence}, but {count_noun(len(failed), 'check')} failed: {names}."
        return Verdict("failed", but, max(codes))
    num_warnings = sum(check.status == "warning" for check in checks)
    if num_warnings:
        return Verdict("warning", f"{sentence}, with {count_noun(num_warnings, 'warning')}.", 0)
    return Verdict("ok", f"{sentence}.", 0)


def _describe_ability(checks: Sequence[Check]) -> str:
    """On what this machine trains and how fast: "cpu, bfloat16, 6,400 images/s"; or nothing."""
    for check in checks:
        if check.name == "training" and check.status in ("ok", "warning"):
            speed = f"{check.facts['images_per_second']:,.0f} images/s"
            return f"{check.facts['device']}, {check.facts['precision']}, {speed}"
        if check.name == "training" and check.status == "failed":
            return ""
    if _obstacle(checks):
        return ""
    # Not trained: what auto would pick, an accelerator before the processor.
    picked = [check for check in checks if check.facts.get("auto") and check.status == "ok"]
    picked.sort(key=lambda check: check.subject == "cpu")
    return f"{picked[0].subject}, {picked[0].name}" if picked else ""


def ask_a_process(task: Task, on_start: OnStart) -> Iterator[Check]:
    """The checks of a task, carried out by another process."""
    code = "from mnistcli import doctor; doctor.serve(sys.argv[2])"
    command = python_command(code, asdict(task))
    return follow(command, on_start, silence_seconds=task.silence_seconds)


def serve(task_json: str) -> None:
    """In the other process: carry out a task, and tell it on standard output."""
    # What anything else prints there goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)

        def tell(message: Mapping[str, Any]) -> None:
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        def begin(name: str, subject: str) -> None:
            tell({"begins": [name, subject]})

        begin(LOADING, "")
        record = json.loads(task_json)
        task = Task(record["stage"], record["device"], DoctorOptions(**record["wanted"]))

        from mnistcli.diagnostics.device_checks import run_task

        for check in run_task(task, begin):
            tell({"check": asdict(check)})


def follow(
    command: Sequence[str],
    on_start: OnStart,
    *,
    silence_seconds: float = SILENCE_SECONDS,
    loading_seconds: float = LOADING_SECONDS,
) -> Iterator[Check]:
    """The checks that a process tells; one that hangs or dies is a failed check."""
    process = subprocess.Popen(  # noqa: S603 (this very program)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout
    assert process.stderr
    lines: queue.Queue[str | None] = queue.Queue()
    complaints: deque[str] = deque(maxlen=20)
    _read(process.stdout, lines.put, at_end=lambda: lines.put(None))
    complaining = _read(process.stderr, complaints.append)
    under_way = [LOADING, ""]
    try:
        while True:
            limit = loading_seconds if under_way[0] == LOADING else silence_seconds
            try:
                line = lines.get(timeout=limit)
            except queue.Empty:
                yield _dead(under_way, f"no answer within {limit:,.0f} s")
                return
            if line is None:
                break
            try:
                message = json.loads(line)
            except ValueError:  # cut off, or another's word
                complaints.append(line)
                continue
            if "begins" in message:
                under_way = message["begins"]
                on_start(*under_way)
            else:
                yield Check(**message["check"])
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            yield _dead(under_way, "the process does not end")
            return
        if process.returncode:
            complaining.join(timeout=1)
            yield _dead(under_way, last_words(process.returncode, complaints))
    finally:
        process.kill()
        # A process that waits in a driver does not die of it, and is left to itself.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)


def _read(
    stream: IO[str], take: Callable[[str], object], at_end: Callable[[], object] = lambda: None
) -> threading.Thread:
    """Give the lines of a stream to `take` as they come, in a thread that nobody waits for."""

    def read() -> None:
        with stream:
            for line in stream:
                if line.strip():
                    take(line.strip())
        at_end()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _dead(under_way: Sequence[str], finding: str) -> Check:
    """The check that was under way when its process died."""
    name, subject = under_way
    fix = "Try mnist doctor --device cpu; update the driver, or restart the machine"
    if name == LOADING:
        fix = INSTALL
    elif subject in ("", "cpu"):
        fix = "Run it again; if it ends so again, install PyTorch anew"
    return Check(name, subject, "failed", finding, fix=fix, facts={"died": True})
