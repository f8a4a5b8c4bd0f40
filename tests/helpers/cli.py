"""Types and environments for tests that run command lines."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Result:
    """The outcome of a command line; the exit code is a shell's (137: killed)."""

    exit_code: int
    stdout: str
    stderr: str


# Runs a command line in this process: `mnist("eval", "last")`.
Mnist = Callable[..., Result]


class Terminal(Protocol):
    """Runs a command line in a pseudo-terminal and returns everything the terminal received."""

    def __call__(self, arguments: str, *, columns: int = 80, **changes: str) -> str: ...


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that a person starts in a terminal with colors."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", **changes}


def shell_code(returncode: int) -> int:
    """The exit code as a shell reports it: 128 + n for a process that was ended by signal n.

    Python ends itself by SIGINT at the very end, whatever its exit code was to be, if Ctrl-C came
    while it ran code from a string, as dataclasses do when a module is imported.
    """
    return 128 - returncode if returncode < 0 else returncode
