"""What the machine gives to this process."""

import os
import sys
import time
from pathlib import Path

_IMPORTED = time.perf_counter()


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory; None on Windows, which has no `sysconf`."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def command_seconds() -> float:
    """Wall time since this process was started; where only Linux could say, since it loaded this.

    That leaves out the start of the interpreter, some 20 ms.
    """
    if sys.platform == "linux":
        # Fields are counted after the name, which may hold spaces: the 22nd is the start in
        # ticks since the machine's own (proc_pid_stat(5)).
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return time.perf_counter() - _IMPORTED
