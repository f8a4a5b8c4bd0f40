"""Functions of this program that another process carries out, because they may end it.

What is given to a function and what it gives back are plain JSON types. Loads no torch.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from mnistcli import errors
from mnistcli.errors import MnistError, RunError


def python_command(code: str, argument: object) -> list[str]:
    """The command that runs `code` in another process, with `argument` as JSON in sys.argv[2]."""
    # Its modules are found where this process finds them, and not in the current directory.
    begin = "import json, sys; sys.path[:] = json.loads(sys.argv[1])"
    return [
        sys.executable,
        "-P",
        "-c",
        f"{begin}; {code}",
        json.dumps(sys.path),
        json.dumps(argument),
    ]


def call_in_process(function: str, argument: object) -> Any:
    """What the function "module:name" makes of `argument` in another process.

    Raises:
        MnistError: the one that the function raised.
        RunError: the process ended before it had a result.
    """
    code = f"from mnistcli import processes; processes.serve({function!r}, sys.argv[2])"
    done = subprocess.run(  # noqa: S603 (this very program)
        python_command(code, argument),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:  # nothing, or cut off
        words = last_words(done.returncode, done.stderr.split("\n"))
        raise RunError(
            f"A process that was to work on its own gave no result: {words}.",
            why="The memory may have run out, or a driver has failed.",
            fix="Look at the machine: mnist doctor",
        ) from error
    if "error" in answer:
        kind, what, why, fix = answer["error"]
        raise getattr(errors, kind)(what, why=why, fix=fix)
    return answer["result"]


def serve(function: str, argument_json: str) -> None:
    """In the other process: carry out a function, and tell what came of it."""
    module_name, name = function.split(":")
    # What anything else prints goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        answer: dict[str, Any]
        try:
            answer = {
                "result": getattr(import_module(module_name), name)(json.loads(argument_json))
            }
        except MnistError as error:
            answer = {"error": [type(error).__name__, error.what, error.why, error.fix]}
        channel.write(json.dumps(answer))


def last_words(returncode: int, complaints: Sequence[str]) -> str:
    """How a process ended, in a line: by its exit code, and what it last said if it said any."""
    if returncode < 0:
        with suppress(ValueError):
            return f"the process was ended by {signal.Signals(-returncode).name}"
        return f"the process was ended by signal {-returncode}"
    said = [line.strip() for line in complaints if line.strip()]
    return said[-1] if said else f"the process ended with exit code {returncode}"
