"""Functions that run in a process of their own, which may crash or hang. Loads no torch."""

import multiprocessing.process
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mnistcli.errors import MnistError, RunError

_SPAWN = get_context("spawn")
# How long a process may take to exit after its last result, and after it was killed.
EXIT_SECONDS = 60.0
KILL_SECONDS = 1.0

Result = TypeVar("Result")


class ProcessDiedError(RunError):
    """A process crashed or had to be killed before it was done; `reason` says how in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"A worker process did not finish: {reason}.",
            why="Memory may have run out, or a driver may have failed.",
            fix="Check this machine: mnist doctor",
        )
        self.reason = reason


class ProcessSilentError(ProcessDiedError):
    """A process had to be killed: it hangs, or the machine is too busy for it to answer or exit."""


def iterate_isolated(
    function: Callable[..., Iterable[Result]],
    *args: object,
    start_seconds: float | None = None,
    silence_seconds: float | None = None,
) -> Iterator[Result]:
    """Yield what `function(*args)` yields in a new process.

    Function, arguments and results are pickled, so they must not refer to torch, which this
    process has not loaded. What the process prints is not shown. It is killed when the
    generator is closed.

    Args:
        function: A module-level function.
        args: Its arguments.
        start_seconds: How long to wait for the first result; None: forever.
        silence_seconds: How long to wait for every other.

    Raises:
        MnistError: the one that the function raised.
        ProcessDiedError: the process crashed, raised anything else, or exceeded a limit.
    """
    receiver, sender = _SPAWN.Pipe(duplex=False)
    # A process that cannot be killed keeps its output open, which Windows does not delete.
    with receiver, sender, TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder, "output.txt")
        process = _SPAWN.Process(target=_send_results, args=(sender, output, function, args))
        try:
            with _inherited_conditions():
                process.start()
            sender.close()  # only the process holds the other end, so that its death ends `recv`
            limit = start_seconds
            while True:
                try:
                    if not receiver.poll(limit):
                        raise ProcessSilentError(f"no answer within {limit:,.0f} s")
                    result = receiver.recv()
                except (EOFError, OSError):  # OSError: cut off within a result
                    break
                if isinstance(result, MnistError):
                    raise result
                yield result
                limit = silence_seconds
            process.join(EXIT_SECONDS)
            if process.exitcode is None:
                raise ProcessSilentError("the process does not exit")
            if process.exitcode != 0:
                raise ProcessDiedError(_describe_exit(process.exitcode, output))
        finally:
            _kill(process)


def call_isolated(function: Callable[..., Result], *args: object) -> Result:
    """What `function(*args)` returns in a new process; else as `iterate_isolated`."""
    results: Iterator[Result] = iterate_isolated(_call, function, args)
    for result in results:
        return result
    raise ProcessDiedError("no result")


def _call(function: Callable[..., Result], args: tuple[object, ...]) -> Iterator[Result]:
    yield function(*args)


def _send_results(
    sender: Connection,
    output: Path,
    function: Callable[..., Iterable[object]],
    args: tuple[object, ...],
) -> None:
    """In the new process: send what the function yields or the MnistError it raises."""
    with output.open("wb") as file:
        for standard in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), standard.fileno())
    with sender:
        try:
            for result in function(*args):
                sender.send(result)
        except MnistError as error:
            sender.send(error)


@contextmanager
def _inherited_conditions() -> Iterator[None]:
    """What a process that starts now inherits: no current directory in its path, no Ctrl-C.

    A Ctrl-C in the terminal reaches both processes. This one gets it at the end and
    kills the other, which would print a traceback.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        if sys.platform == "win32":
            yield
            return
        # Before the signal is blocked, because to start the tracker unblocks it.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _describe_exit(exit_code: int, output: Path) -> str:
    """How a process ended: by a signal, with a last line of output, with an exit code."""
    if exit_code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"the process was killed by {known.get(-exit_code, f'signal {-exit_code}')}"
    lines = output.read_text(errors="replace").split("\n") if output.exists() else []
    lines = [line.strip() for line in lines if line.strip()]
    return lines[-1] if lines else f"the process exited with code {exit_code}"


def _kill(process: Any) -> None:
    if process.pid is None:  # it did not start
        return
    process.kill()
    process.join(KILL_SECONDS)
    if process.is_alive():
        # It is stuck in a driver. Python would wait for it at exit.
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined] # noqa: SLF001
