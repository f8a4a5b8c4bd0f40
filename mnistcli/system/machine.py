"""What the machine gives to this process."""

import ctypes
import os
import sys
import time
from pathlib import Path

_IMPORTED = time.perf_counter()

# mallopt(3) of the GNU C library. 32 MiB is the highest threshold that it takes on every machine.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _MAPPED_FROM_BYTES = 2**30, 2**25


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory; None on Windows, which has no `sysconf`."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB that it frees, for what it allocates next.

    Every step of a training allocates the same megabytes again. The GNU C
    library hands them back to the system in between, which clears every page
    before it gives it out anew: up to a third of a step's time on a virtual
    machine (`docs/performance.md`). Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


def seconds_since_start() -> float:
    """Wall time since this process was started; on other systems than Linux, since it loaded this.

    That leaves out the start of the interpreter, some 20 ms.
    """
    if sys.platform == "linux":
        # Fields are counted after the name, which may hold spaces: the 22nd is the start in
        # ticks since the machine's own (proc_pid_stat(5)).
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return time.perf_counter() - _IMPORTED
