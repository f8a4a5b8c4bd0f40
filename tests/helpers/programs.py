"""Python programs in processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(program: str, argument: Path, line: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs a Python program and has printed `line`; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{line}\n"
        yield process
        process.kill()


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process and wait for its end."""
    process.kill()
    assert process.wait(timeout=20) == -signal.SIGKILL
