"""What the machine gives to this process."""

import os
import platform
import subprocess
import sys
import time

import pytest

from mnistcli.system.machine import num_cores


def test_only_cores_that_the_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert num_cores() == (2 if sys.platform == "linux" else 64)


ALLOCATE_AGAIN = """
import resource
from mnistcli.machine import keep_freed_memory
{before}
for _ in range(50):
    # What is allocated and freed by every step of a training, in bytes.
    held = [bytes([each]) * (12 << 20) for each in range(4)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for the GNU C library")
def test_freed_memory_is_kept_for_what_is_allocated_next() -> None:
    def pages_cleared(before: str) -> int:
        code = ALLOCATE_AGAIN.format(before=before)
        return int(subprocess.check_output([sys.executable, "-c", code]))

    assert pages_cleared("keep_freed_memory()") < pages_cleared("") / 5


def test_a_commands_wall_time_counts_from_the_start_of_its_process() -> None:
    code = "import time; time.sleep(0.3); from mnistcli.machine import command_seconds as s; "
    began = time.perf_counter()
    out = subprocess.check_output([sys.executable, "-c", f"{code}print(s())"], text=True)
    # Linux counts in hundredths of a second; elsewhere the sleep, before the import, is left out.
    least = 0.28 if sys.platform == "linux" else 0
    assert least <= float(out) <= time.perf_counter() - began + 0.02
