"""Cores, memory and start time of this process."""

import os
import platform
import subprocess
import sys

import pytest

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
    held = [bytes([value]) * (12 << 20) for value in range(4)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the GNU C library")
def test_freed_memory_is_reused() -> None:
    def pages_cleared(before: str) -> int:
        code = ALLOCATE_AGAIN.format(before=before)
        return int(subprocess.check_output([sys.executable, "-c", code]))

    assert pages_cleared("keep_freed_memory()") < pages_cleared("") / 5


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
