"""Cores, memory and start time of this process."""

import ctypes
import os
import sys
import time
from pathlib import Path

_IMPORTED = time.perf_counter()

# mallopt(3) of the GNU C library. 32 MiB is the highest threshold that works on every machine.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _MAPPED_FROM_BYTES = 2**30, 2**25


def num_cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory; None on Windows, which has no `sysconf`."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB that it frees, for what it allocates next.

    Every training step allocates the same megabytes. The GNU C library returns them to the system
    in between, which clears every page before reusing it: up to a third of a step's time on a
    virtual machine (`docs/performance.md`). With other C libraries this does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


def seconds_since_start() -> float:
    """Wall time since this process started.

    On other systems than Linux it starts with the import of this module, about 20 ms later.
    """
    if sys.platform == "linux":
        # Counted after the name, which may hold spaces. The 22nd field is the start in clock
        # ticks since boot (proc_pid_stat(5)).
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return time.perf_counter() - _IMPORTED
