"""The verdict on all checks, processes that hang or die, and what a person sees of it."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mnistcli.diagnostics import doctor
from mnistcli.diagnostics.checks import INSTALL, Check, DoctorOptions, OnStart, Status, Task
from mnistcli.diagnostics.doctor import (
    Verdict,
    ask_a_process,
    follow,
    run_checks,
    summarize_checks,
)
from mnistcli.errors import SettingsError
from mnistcli.views.doctor import STATUS_STYLES
from tests.helpers.cli import Mnist

OK: Status = "ok"
TRAINED = Check(
    "training",
    "",
    "ok",
    "99 % right",
    facts={"device": "cpu", "precision": "bfloat16", "images_per_second": 6400.4},
)
PICKED = Check("bfloat16", "cpu", "ok", "loss 2.30 to 0.67", facts={"auto": True})
DAMAGED = Check("data", "mnist", "failed", "damaged: x", fix="mnist download")
UNWRITABLE = Check("directory", "runs", "failed", "cannot be written")
BROKEN_GPU = Check("kernels", "cuda:0", "failed", "no kernel image is available")
NO_DATA = Check("data", "mnist", "warning", "not here", fix="mnist download")
ABLE = "can train: cpu, bfloat16, 6,400 images/s"
LEFT_OUT = Check("training", "", "skipped", "left out (--seconds 0)")


@pytest.mark.parametrize(
    ("checks", "word", "code", "sentence"),
    [
        ([TRAINED], "ok", 0, ABLE + "."),
        (
            [NO_DATA, TRAINED],
            "warning",
            0,
            ABLE + ", with 1 warning.",
        ),
        (
            [NO_DATA, NO_DATA, PICKED, LEFT_OUT],
            "warning",
            0,
            "can train: cpu, bfloat16, with 2 warnings.",
        ),
        ([PICKED, LEFT_OUT], "ok", 0, "can train: cpu, bfloat16."),
        (
            [DAMAGED, NO_DATA, TRAINED],
            "failed",
            3,
            ABLE + ", but 1 check failed: mnist data.",
        ),
        (
            [UNWRITABLE, TRAINED],
            "failed",
            1,
            ABLE + ", but 1 check failed: runs directory.",
        ),
        (
            [DAMAGED, BROKEN_GPU, TRAINED],
            "failed",
            4,
            ABLE + ", but 2 checks failed: mnist data, cuda:0 kernels.",
        ),
        (
            [DAMAGED, Check("training", "", "failed", "12.0 % right")],
            "failed",
            4,
            "cannot train: training: 12.0 % right.",
        ),
        (
            [Check("PyTorch", "", "failed", "libcudnn.so.9 is missing", facts={"died": True})],
            "failed",
            1,
            "cannot train: PyTorch: libcudnn.so.9 is missing.",
        ),
        (
            [PICKED, Check("kernels", "cuda:0", "failed", "no answer", facts={"died": True})],
            "failed",
            4,
            "cannot train: cuda:0 kernels: no answer.",
        ),
        ([DAMAGED, LEFT_OUT], "failed", 3, "cannot train: mnist data: damaged: x."),
        ([], "failed", 1, "cannot train: nothing was tried."),
    ],
)
def test_the_verdict(checks: list[Check], word: str, code: int, sentence: str) -> None:
    assert summarize_checks(checks) == Verdict(word, f"This machine {sentence}", code)  # type: ignore[arg-type]


def test_without_a_training_an_accelerator_comes_before_the_processor() -> None:
    gpu = Check("float16", "cuda:0", "ok", "", facts={"auto": True})
    assert (
        summarize_checks([PICKED, gpu, LEFT_OUT]).sentence
        == "This machine can train: cuda:0, float16."
    )


class Asked:
    """Plays the other process: answers with prepared checks, and notes what it is asked."""

    def __init__(self, **answers: list[Check]) -> None:
        self.answers = answers
        self.tasks: list[tuple[str, str]] = []

    def __call__(self, task: Task, on_start: OnStart) -> Iterator[Check]:
        self.tasks.append((task.stage, task.device))
        on_start(task.stage, task.device)
        yield from self.answers.get(task.stage, [])


def quietly(_name: str, _subject: str) -> None:
    pass


def two_gpus() -> Check:
    devices = [{"device": "cuda:0"}, {"device": "cuda:1"}]
    return Check("accelerators", "", "ok", "", facts={"devices": devices})


def test_every_accelerator_is_asked_and_then_a_network_trained() -> None:
    ask = Asked(machine=[PICKED, two_gpus()], device=[PICKED], train=[TRAINED])
    begun: list[tuple[str, str]] = []
    checks = list(run_checks(DoctorOptions(), on_start=lambda *each: begun.append(each), ask=ask))
    asked = [("machine", "auto"), ("device", "cuda:0"), ("device", "cuda:1"), ("train", "auto")]
    assert ask.tasks == begun == asked
    assert checks == [PICKED, two_gpus(), PICKED, PICKED, TRAINED]


def test_nothing_is_trained_in_no_seconds() -> None:
    ask = Asked(machine=[PICKED])
    checks = list(run_checks(DoctorOptions(train_seconds=0), on_start=quietly, ask=ask))
    assert checks == [PICKED, LEFT_OUT]
    assert ask.tasks == [("machine", "auto")]


@pytest.mark.parametrize(
    ("obstacle", "trained"),
    [
        (Check("kernels", "cuda:0", "failed", "", facts={"died": True}), False),
        (Check("accelerators", "", "failed", "none"), False),
        (Check("PyTorch", "", "failed", "", fix=INSTALL, facts={"died": True}), False),
        # Training uses the first device only, and `auto` leaves alone what answers wrongly.
        (Check("kernels", "cuda:1", "failed", "", facts={"died": True}), True),
        (Check("kernels", "cuda:0", "failed", "wrong"), True),
    ],
)
def test_a_training_that_would_hang_is_not_begun(obstacle: Check, trained: bool) -> None:
    ask = Asked(machine=[obstacle], train=[TRAINED])
    last = list(run_checks(DoctorOptions(), on_start=quietly, ask=ask))[-1]
    assert (last == TRAINED) is trained
    if not trained:
        assert last.status == "skipped"
        assert obstacle.label in last.finding
        # The processor is no way out where PyTorch itself fails.
        assert last.fix == (obstacle.fix or "mnist doctor --device cpu")


def test_an_unknown_device_is_a_wrong_setting(mnist: Mnist) -> None:
    with pytest.raises(SettingsError):
        list(run_checks(DoctorOptions(device="tpu"), on_start=quietly, ask=Asked()))
    assert mnist("doctor", "--device", "tpu").exit_code == 2


def told(code: str, *, seconds: float = 20) -> tuple[list[Check], list[tuple[str, str]]]:
    """What is found, and what is begun, when Python runs `code` as the other process."""
    begun: list[tuple[str, str]] = []
    command = [sys.executable, "-c", f"import os, signal, sys, time\n{code}"]
    found = follow(
        command,
        lambda *each: begun.append(each),
        silence_seconds=seconds,
        loading_seconds=seconds,
    )
    return list(found), begun


BEGINS = """print('{"begins": ["kernels", "cuda:0"]}', flush=True)\n"""
CHECK = (
    """print('{"check": {"name": "a", "subject": "b", "status": "ok", "finding": "c"}}', """
    "flush=True)\n"
)


def test_what_a_process_tells_is_passed_on() -> None:
    assert told(BEGINS + CHECK) == ([Check("a", "b", "ok", "c")], [("kernels", "cuda:0")])


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGKILL"])
def test_a_process_that_crashes_is_a_failed_check(name: str) -> None:
    found, _ = told(f"{CHECK}{BEGINS}os.kill(os.getpid(), signal.{name})")
    assert found[0] == Check("a", "b", "ok", "c")
    assert found[1].label == "cuda:0 kernels"
    assert found[1].status == "failed"
    assert found[1].finding == f"the process was ended by {name}"
    assert "--device cpu" in found[1].fix
    assert summarize_checks(found).exit_code == 4


def test_a_process_that_hangs_is_a_failed_check() -> None:
    started = time.monotonic()
    found, _ = told(BEGINS + "time.sleep(60)", seconds=1.5)
    assert time.monotonic() - started < 20
    assert [(each.label, each.finding) for each in found] == [
        ("cuda:0 kernels", "no answer within 2 s")
    ]
    assert found[0].facts["died"]


def test_a_process_that_does_not_end_is_a_failure() -> None:
    """So would a training not end that has done its work."""
    found, _ = told(CHECK + "os.close(1); os.close(2); time.sleep(60)")
    assert found[0] == Check("a", "b", "ok", "c")
    assert [each.finding for each in found[1:]] == ["the process does not end"]


def test_a_line_that_is_no_message_is_no_check() -> None:
    found, _ = told("print('a driver says hello');" + CHECK + 'print(\'{"check": {"na\')')
    assert found == [Check("a", "b", "ok", "c")]


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("raise OSError('libcudnn.so.9: cannot open')", "OSError: libcudnn.so.9: cannot open"),
        ("os._exit(3)", "the process ended with exit code 3"),
    ],
)
def test_pytorch_that_cannot_be_loaded_is_a_failed_check(code: str, finding: str) -> None:
    found, _ = told(code)
    assert [(each.label, each.finding) for each in found] == [("PyTorch", finding)]
    assert found[0].fix.startswith("Install PyTorch")
    assert summarize_checks(found).exit_code == 1


def test_a_crash_of_the_processor_is_no_matter_of_the_driver() -> None:
    found, _ = told(BEGINS.replace("cuda:0", "cpu") + "os._exit(9)")
    assert "driver" not in found[0].fix


def test_a_follower_that_goes_away_ends_the_process() -> None:
    begun: list[str] = []
    code = (
        "import json, os, time\n"
        "print(json.dumps({'begins': [str(os.getpid()), '']}), flush=True)\n"
        f"{CHECK}time.sleep(60)"
    )
    found = follow([sys.executable, "-c", code], lambda name, _subject: begun.append(name))
    next(found)
    found.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun[0]), 0)


def test_the_other_process_ignores_what_lies_in_the_current_directory(tmp_path: Path) -> None:
    for name in ("json.py", "torch.py", "mnistcli.py"):
        Path(name).write_text("raise SystemExit('the wrong module')\n")
    task = Task("nothing", "", DoctorOptions(train_seconds=0))  # type: ignore[arg-type]
    first = next(iter(ask_a_process(task, quietly)))
    assert first.name == "versions"


SHORT = ("doctor", "--device", "cpu", "--seconds", "0", "--data-dir", "data")


def test_a_machine_is_looked_at_and_nothing_left_behind(mnist: Mnist) -> None:
    result = mnist("doctor", "--seconds", "2", "--data-dir", "data", "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0, result.stdout
    assert not result.stderr
    assert record["schema_version"] == 1
    assert record["verdict"]["word"] == "warning"
    checks = {(each["subject"], each["name"]): each for each in record["checks"]}
    for name in ("kernels", "float32", "bfloat16", "repeatable"):
        assert checks["cpu", name]["status"] == "ok"
    assert checks["cpu", "float16"]["status"] == "skipped"
    assert checks["mnist", "data"]["fix"] == "mnist download"
    assert checks["", "versions"]["facts"]["python"] == ".".join(map(str, sys.version_info[:3]))
    training = checks["", "training"]["facts"]
    assert training["images_per_second"] > 0
    assert 0 <= training["val_accuracy"] <= 1
    assert training["seconds"] < 60
    assert list(Path().iterdir()) == []


def prepared(checks: Sequence[Check], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the other process find these."""

    def ask(task: Task, on_start: OnStart) -> Iterator[Check]:
        on_start("PyTorch", "")
        yield from checks if task.stage == "machine" else ()

    monkeypatch.setattr(doctor, "ask_a_process", ask)


@pytest.mark.parametrize(
    ("check", "code"), [(TRAINED, 0), (DAMAGED, 3), (BROKEN_GPU, 4), (UNWRITABLE, 1)]
)
def test_the_exit_code_is_the_verdicts(
    check: Check, code: int, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared([PICKED, check], monkeypatch)
    for style in ([], ["--json"], ["-q"]):
        assert mnist("doctor", *style).exit_code == code


@pytest.mark.parametrize(
    ("checks", "word"),
    [([TRAINED], "ok"), ([NO_DATA, TRAINED], "warning"), ([DAMAGED, TRAINED], "failed")],
)
def test_quiet_prints_the_word_of_the_verdict(
    checks: list[Check], word: str, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(checks, monkeypatch)
    result = mnist("doctor", "-q")
    assert (result.stdout, result.stderr) == (f"{word}\n", "")


def test_a_finding_comes_with_its_way_out(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = Check("kernels", "cuda:0", "failed", "[bold]no\x1b[2J kernel " * 9, fix="do this")
    prepared([NO_DATA, long, TRAINED], monkeypatch)
    result = mnist("doctor")
    assert re.search(r"mnist data +warning +not here\s+> mnist download\s", result.stdout)
    assert "[bold]no" in result.stdout
    assert "\x1b" not in result.stdout
    *table, verdict = result.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert verdict.startswith("This machine can train: cpu, bfloat16, 6,400 images/s, but 1 check")
    assert result.stderr.splitlines() == ["loading PyTorch"] * 2


def environment(**changes: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {
        **kept,
        "HOME": str(Path.cwd()),
        "OMP_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        **changes,
    }


def test_a_terminal_gets_a_line_that_changes_and_a_table_of_80_columns() -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "mnistcli", *SHORT],
        env=environment(NO_COLOR="1"),
        dimensions=(40, 80),
        timeout=120,
        encoding="utf-8",
    )
    started = time.monotonic()
    child.expect("loading PyTorch")
    assert time.monotonic() - started < 3
    # What is over in a moment may never be drawn.
    child.expect("checking cpu ")
    output: Any = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "This machine can train: cpu, " in output
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", output)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).splitlines()
    # What is redrawn in place is parted by carriage returns.
    assert max(len(part) for line in lines for part in line.split("\r")) <= 80


def test_every_status_has_its_color() -> None:
    assert set(STATUS_STYLES) == {"ok", "warning", "failed", "skipped"}
