"""Cores, memory and start time of this process."""

import ctypes
import os
import sys
import time
from pathlib import Path

_IMPORTED = time.perf_counter()

# mallopt(3) of the GNU C library. Without mappings every block comes from the heap. A mapped block
# returns to the system when it is freed, and blocks above 32 MiB, less than a large map of
# activations, would be mapped whatever the threshold.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEPT_BYTES, _NO_MAPPINGS = 2**30, 0

_LOAD_FILE = Path("/proc/loadavg")
_NUM_LOAD_SAMPLES, _LOAD_SAMPLE_SECONDS = 5, 0.001


def num_cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory; None on Windows, which has no `sysconf`."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next.

    Only what is free at the end of the heap returns to the system, above 1 GiB.

    Every training step allocates the same megabytes. The GNU C library returns them to the system
    in between, which clears every page before reusing it: up to a third of a step's time on a
    virtual machine (`docs/performance.md`). With other C libraries this does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_MAX, _NO_MAPPINGS)


def spare_busy_cores() -> None:
    """Let the threads of this process sleep while they wait, if other programs keep cores busy.

    By default OpenMP's threads, which PyTorch computes with, wait in a loop for the next operation.
    On idle cores that is fastest. On a shared core it uses up the thread's time slice before the
    work arrives: a step takes more than twice as long (`docs/performance.md`). OpenMP reads the
    variable when PyTorch is loaded, so later this does nothing, nor on other systems than Linux.
    A value that is set already stays.
    """
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ or sys.platform != "linux":
        return
    if num_cores() > _num_idle_cores():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def _num_idle_cores() -> int:
    """The cores that no other program uses now; all of them if that cannot be told."""
    try:
        samples = [_num_runnable_threads() for _ in range(_NUM_LOAD_SAMPLES)]
    except (OSError, ValueError):
        return os.cpu_count() or 1
    # The lowest sample, since most of what runs is over in a moment; this thread is one of them.
    return (os.cpu_count() or 1) - (min(samples) - 1)


def _num_runnable_threads() -> int:
    """How many threads of the whole system are running or could run (proc_loadavg(5))."""
    time.sleep(_LOAD_SAMPLE_SECONDS)
    return int(_LOAD_FILE.read_text().split()[3].partition("/")[0])


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
