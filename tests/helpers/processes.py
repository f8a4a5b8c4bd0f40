"""Command lines in processes of their own, which start in milliseconds.

To import torch takes seconds. So a fork server imports it, trains once so that everything else is
loaded too, and is forked for every command line. The forks are real processes: they can be killed,
locked out, and run out of disk or memory. `python -m tests.helpers.processes` is the server; it
answers every line of JSON on its standard input with another one.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers.cli import Result
from tests.helpers.paths import REPOSITORY


class ForkedProcess:
    """A process that runs a command line."""

    def __init__(self, request: Callable[[dict[str, Any]], Any], pid: int) -> None:
        self._request = request
        self.pid = pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. Until `wait` is called no other process can have this process id."""
        os.kill(self.pid, number)

    def wait(self) -> Result:
        """Wait for the process to end."""
        code, stdout, stderr = self._request({"wait": self.pid})
        return Result(128 - code if code < 0 else code, stdout, stderr)


class ForkServer:
    """Starts command lines in forks of one process that has loaded everything."""

    def __init__(self) -> None:
        # Without a GPU: where there is one, PyTorch starts threads, which cannot be forked.
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.processes"],
            cwd=REPOSITORY,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._request({}) == "ready"

    def _request(self, request: dict[str, Any]) -> Any:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self, *args: str | Path, prepare: str = "", environ: Mapping[str, str] = os.environ
    ) -> ForkedProcess:
        """Start `mnist args` in the current directory, after the Python code `prepare`."""
        request = {
            "args": [str(arg) for arg in args],
            "cwd": str(Path.cwd()),
            "environ": {**environ, "CUDA_VISIBLE_DEVICES": ""},
            "prepare": prepare,
        }
        return ForkedProcess(self._request, self._request(request))

    def run(self, *args: str | Path, prepare: str = "") -> Result:
        """Run `mnist args` to its end."""
        return self.start(*args, prepare=prepare).wait()

    def start_distributed(
        self, world_size: int, *args: str | Path, prepare: str = ""
    ) -> list[ForkedProcess]:
        """Start a process group as torchrun does."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        job = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size))
        return [
            self.start(*args, prepare=prepare, environ=os.environ | job | rank) for rank in ranks
        ]

    def run_in_terminal(
        self, *args: str, columns: int, environ: Mapping[str, str], stdout: Path | None = None
    ) -> str:
        """Everything that `mnist args` sends to a pseudo-terminal; stdout may go to a file."""
        ours, theirs = os.openpty()
        termios.tcsetwinsize(ours, (24, columns))
        prepare = (
            "os.setsid()\n"
            f"terminal = os.open({os.ttyname(theirs)!r}, os.O_RDWR)\n"
            "for number in (0, 1, 2): os.dup2(terminal, number)\n"
        )
        if stdout:
            prepare += f"os.dup2(os.open({str(stdout)!r}, os.O_WRONLY | os.O_CREAT), 1)\n"
        process = self.start(*args, prepare=prepare, environ=environ)
        os.close(theirs)
        received = b""
        with contextlib.suppress(OSError):  # how Linux reports the end of a terminal
            while part := os.read(ours, 65_536):
                received += part
        os.close(ours)
        result = process.wait()
        assert result == Result(0, "", ""), (result, received)
        return received.decode()

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()


def kill_at_write(number: int, *, only: str = "", log: str = "") -> None:
    """End this process by SIGKILL just before its `number`-th change to a run's files.

    A change is a file opened for writing, flushed to the disk (half of it is lost then), renamed
    or removed, or a directory made. `only` counts those whose description begins so; `log` is a
    file that receives the descriptions, one a line.
    """
    changes = count(1)
    log_file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log else -1

    def before_change(description: str, handle: int = -1) -> None:
        if not description.startswith(only):
            return
        if log:
            os.write(log_file, f"{description}\n".encode())
        if next(changes) == number:
            if handle >= 0:
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
            event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes and isinstance(args[0], (str, os.PathLike)) and "runs" in Path(args[0]).parts:
            before_change(f"{event} {Path(args[0]).name}")

    flush = os.fsync

    def fsync(handle: int) -> None:
        before_change("fsync", handle)
        flush(handle)

    sys.addaudithook(hook)
    os.fsync = fsync  # type: ignore[assignment]


def _serve() -> None:
    _warm_up()
    streams: dict[int, list[int]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: object = "ready"
        if "wait" in request:
            pid = request["wait"]
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer = (code, *(_read_all(stream) for stream in streams.pop(pid)))
        elif request:
            # Pipes, because a test may limit the size of files. They hold all that a run prints.
            pipes = [os.pipe() for _ in range(3)]
            pid = os.fork() or _run_command(request, *(writing for _, writing in pipes))
            for _, writing in pipes:
                os.close(writing)
            _read_all(pipes[0][0])  # until the command is about to begin
            streams[pid] = [reading for reading, _ in pipes[1:]]
            answer = pid
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _read_all(stream: int) -> str:
    with open(stream, encoding="utf-8", errors="replace") as handle:
        return handle.read()


def _warm_up() -> None:
    """Load everything that training loads."""
    from mnistcli.cli.app import main

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        for recipe in ("mlp-50-50", "cnn-small"):
            arguments = f"train --recipe {recipe} --dataset digits -e 1 --augment -q --out {folder}"
            with contextlib.suppress(SystemExit):
                main(arguments.split())


def _run_command(request: dict[str, Any], beginning: int, stdout: int, stderr: int) -> NoReturn:
    """Run a command line, in the fork; closes `beginning` just before it begins."""
    from mnistcli.cli.app import main

    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    # Fresh streams: Python has remembered whether the old ones can seek.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 (for life)
        for number in (1, 2)
    )
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["cwd"])
    sys.argv = ["mnist", *request["args"]]
    code: Any = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(request["prepare"], {"kill_at_write": kill_at_write, "os": os, "time": time})
        os.close(beginning)
        main(request["args"])
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 (the fork must not go on in the server's loop)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
