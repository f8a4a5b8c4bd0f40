"""`mnist doctor` at the terminal: table, JSON, exit codes, real processes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnistcli.diagnostics import doctor
from mnistcli.diagnostics.checks import Check, CheckStart
from mnistcli.diagnostics.doctor import OnStart, Task
from mnistcli.system import machine
from tests.helpers.cli import Mnist, Terminal

SHORT = ("doctor", "--device", "cpu", "--seconds", "0", "--data-dir", "data")
TRAINED = Check(
    "training",
    "",
    "ok",
    "fine",
    facts={"device": "cpu", "precision": "bfloat16", "images_per_second": 6400.4},
)
NO_DATA = Check("data", "mnist", "warning", "not here", fix="mnist download")
DAMAGED = Check("data", "mnist", "failed", "damaged: x", fix="mnist download")
BROKEN_GPU = Check("kernels", "cuda:0", "failed", "no kernel image is available")
UNWRITABLE = Check("directory", "runs", "failed", "cannot be written")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the checks have these results: `finds(TRAINED, DAMAGED)`."""

    def install(*checks: Check) -> None:
        def run(task: Task, on_start: OnStart) -> Iterator[Check]:
            on_start(CheckStart("PyTorch", ""))
            yield from checks if task.kind == "machine" else ()

        monkeypatch.setattr(doctor, "run_task", run)

    return install


@pytest.mark.parametrize(
    ("checks", "word", "code"),
    [
        ([TRAINED], "ok", 0),
        ([NO_DATA, TRAINED], "warning", 0),
        ([DAMAGED, TRAINED], "failed", 3),
        ([BROKEN_GPU, TRAINED], "failed", 4),
        ([UNWRITABLE, TRAINED], "failed", 1),
    ],
)
def test_every_form_of_the_verdict(
    checks: list[Check], word: str, code: int, mnist: Mnist, finds: Callable[..., None]
) -> None:
    finds(*checks)
    table = mnist("doctor")
    assert table.exit_code == code
    assert table.stdout.splitlines()[-1].startswith("This machine can train: cpu, bfloat16")
    assert table.stderr.splitlines() == ["loading PyTorch"] * 2
    quiet = mnist("doctor", "-q")
    assert (quiet.exit_code, quiet.stdout) == (code, f"{word}\n")
    assert quiet.stderr.startswith("This machine can train" if word == "failed" else "")
    assert bool(quiet.stderr) is (word == "failed")
    for check in checks:
        if check.status == "failed":
            assert f"{check.label}: {check.finding}" in quiet.stderr
    as_json = mnist("doctor", "--json")
    assert (as_json.exit_code, as_json.stderr) == (code, "")
    record = json.loads(as_json.stdout)
    assert record["verdict"]["word"] == word
    assert record["verdict"]["exit_code"] == code
    assert [check["name"] for check in record["checks"]] == [check.name for check in checks]


def test_the_checks_leave_busy_cores_to_other_programs(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, finds: Callable[..., None]
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(machine, "spare_busy_cores", lambda: steps.append("spared"))
    finds(TRAINED)
    find = doctor.run_task

    def run(task: Task, on_start: OnStart) -> Iterator[Check]:
        steps.append(task.kind)
        return find(task, on_start)

    monkeypatch.setattr(doctor, "run_task", run)
    assert mnist("doctor", "-q").exit_code == 0
    assert steps == ["spared", "machine", "train"]


def test_an_unknown_device_is_a_wrong_setting(mnist: Mnist) -> None:
    result = mnist("doctor", "--device", "tpu")
    assert result.exit_code == 2
    assert "tpu" in result.stderr


def test_a_finding_is_escaped_wrapped_and_followed_by_its_fix(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, finds: Callable[..., None]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = Check("kernels", "cuda:0", "failed", "[bold]no\x1b[2J kernel " * 9, fix="do this")
    finds(NO_DATA, long, TRAINED)
    result = mnist("doctor")
    assert re.search(r"mnist data +warning +not here\s+> mnist download\s", result.stdout)
    assert "[bold]no" in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80


def test_the_record_of_this_machine(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, without a training."""

    def run_here(function: Callable[..., Any], *args: Any, **_limits: float) -> Any:
        return function(*args)

    monkeypatch.setattr(doctor, "iterate_isolated", run_here)
    result = mnist(*SHORT, "--json")
    assert result.exit_code == 0, result.stdout
    record = json.loads(result.stdout)
    assert record["schema_version"] == 1
    assert set(record["verdict"]) == {"word", "sentence", "exit_code"}
    checks = {(check["subject"], check["name"]): check for check in record["checks"]}
    assert all(
        set(check) == {"name", "subject", "status", "finding", "fix", "facts"}
        for check in checks.values()
    )
    for name in ("kernels", "float32", "bfloat16", "repeatable"):
        assert checks["cpu", name]["status"] == "ok"
    assert checks["cpu", "float16"]["status"] == "skipped"
    assert checks["mnist", "data"]["fix"] == "mnist download --data-dir data"
    assert checks["", "versions"]["facts"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_the_command_loads_no_torch_and_trains_in_another_process() -> None:
    code = (
        "import sys\n"
        "from mnistcli.cli.app import main\n"
        "try: main(['doctor', '--device', 'cpu', '--seconds', '2', '--json'])\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    training = json.loads(done.stdout)["checks"][-1]
    assert training["name"] == "training"
    assert training["facts"]["images_per_second"] > 0
    assert training["facts"]["num_epochs"] >= 1
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_a_terminal_gets_a_line_that_changes_and_a_table_of_80_columns(terminal: Terminal) -> None:
    output = terminal(" ".join(SHORT), NO_COLOR="1")
    assert "loading PyTorch" in output
    # A check that takes no time may never be drawn.
    assert "checking cpu " in output
    assert "This machine can train: cpu, " in output
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", output)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).splitlines()
    # A line that is redrawn in place has carriage returns.
    assert max(len(part) for line in lines for part in line.split("\r")) <= 80
