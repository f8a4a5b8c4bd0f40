"""Cores, memory and start time of this process."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mnistcli.system import machine
from mnistcli.system.machine import num_cores


def test_only_cores_that_the_process_may_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert num_cores() == (2 if sys.platform == "linux" else 64)


ALLOCATE_AGAIN = """
import resource
from mnistcli.system.machine import keep_freed_memory
{before}
for _ in range(50):
    # What every training step allocates and frees, in bytes.
    held = [bytes([value]) * (size << 20) for value, size in enumerate((12, 12, 40))]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the GNU C library")
def test_freed_memory_is_reused() -> None:
    def pages_cleared(before: str) -> int:
        code = ALLOCATE_AGAIN.format(before=before)
        return int(subprocess.check_output([sys.executable, "-c", code]))

    assert pages_cleared("keep_freed_memory()") < pages_cleared("") / 5


@pytest.mark.skipif(sys.platform != "linux", reason="for Linux")
@pytest.mark.parametrize(
    ("runnable", "given", "policy"),
    [
        pytest.param([1] * 5, None, None, id="this thread only"),
        pytest.param([3, 2, 3, 2, 2], None, "passive", id="another program"),
        pytest.param([3, 2, 1, 2, 2], None, None, id="others in passing"),
        pytest.param([3] * 5, "active", "active", id="set by the user"),
    ],
)
def test_threads_sleep_while_they_wait_if_cores_are_busy(
    runnable: list[int],
    given: str | None,
    policy: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = iter(runnable)
    monkeypatch.setattr(machine, "_num_runnable_threads", samples.__next__)
    monkeypatch.setattr(machine, "num_cores", os.cpu_count)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")  # so that it is restored
    if not given:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    machine.spare_busy_cores()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_an_unknown_load_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LOAD_FILE", tmp_path / "missing")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    machine.spare_busy_cores()
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="for Linux")
def test_a_busy_program_is_noticed() -> None:
    code = (
        "import os; from mnistcli.system.machine import spare_busy_cores\n"
        "spare_busy_cores(); print(os.environ.get('OMP_WAIT_POLICY'))"
    )
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    environ = {name: os.environ[name] for name in os.environ.keys() - {"OMP_WAIT_POLICY"}}
    try:
        out = subprocess.check_output([sys.executable, "-c", code], text=True, env=environ)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert out == "passive\n"


def test_the_time_since_the_start_includes_imports() -> None:
    code = (
        "import time; began = time.perf_counter(); time.sleep(0.1)\n"
        "from mnistcli.system.machine import seconds_since_start\n"
        "print(seconds_since_start(), time.perf_counter() - began)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    since_start, since_code = map(float, out.split())
    # Linux counts in hundredths of a second; other systems start at the import.
    assert since_start >= (since_code - 0.02 if sys.platform == "linux" else 0)
