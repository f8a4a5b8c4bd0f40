"""Command lines in processes of their own, which start in milliseconds.

To import torch takes seconds. So one process imports it, trains once so that everything else is
loaded too, and is forked for every command line: what comes out is a real process, which can be
killed, starved and locked out. `python -m tests.helpers.processes` is that process; it takes a line of
JSON for what it is to do and answers each with one.
"""

import contextlib
import functools
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
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code as a shell gives it (137: killed), what it wrote."""

    exit_code: int
    stdout: str
    stderr: str


class Child:
    """A process that carries out a command line."""

    def __init__(self, ask: Callable[[dict[str, Any]], Any], pid: int) -> None:
        self._ask = ask
        self.pid = pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. Until `ended` is called the process id stays this child's."""
        os.kill(self.pid, number)

    def ended(self) -> Ended:
        """Wait for the end."""
        code, stdout, stderr = self._ask({"wait": self.pid})
        return Ended(128 - code if code < 0 else code, stdout, stderr)


class Children:
    """Starts processes; `close` ends the one that they are forked from."""

    def __init__(self) -> None:
        # Without a GPU: where there is one, PyTorch starts threads, which cannot be forked.
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.processes"],
            cwd=REPOSITORY,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._ask({}) == "ready"

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())

    def start(
        self, *args: str | Path, prepare: str = "", environ: Mapping[str, str] = os.environ
    ) -> Child:
        """Begin `mnist args` in the current directory, after the Python code `prepare`."""
        request = {
            "args": [str(arg) for arg in args],
            "cwd": str(Path.cwd()),
            "environ": {**environ, "CUDA_VISIBLE_DEVICES": ""},
            "prepare": prepare,
        }
        return Child(self._ask, self._ask(request))

    def run(self, *args: str | Path, prepare: str = "") -> Ended:
        """Begin `mnist args` and wait for its end."""
        return self.start(*args, prepare=prepare).ended()

    def together(self, num: int, *args: str | Path, prepare: str = "") -> list[Child]:
        """Begin `num` processes that train together, with the environment torchrun gives them."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        job = {"WORLD_SIZE": str(num), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        places = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num))
        return [
            self.start(*args, prepare=prepare, environ=os.environ | job | place) for place in places
        ]

    def in_a_terminal(
        self, *args: str, columns: int, environ: Mapping[str, str], stdout: Path | None = None
    ) -> str:
        """All that `mnist args` sends to a terminal of its own; its output may go to a file."""
        ours, theirs = os.openpty()
        termios.tcsetwinsize(ours, (24, columns))
        prepare = (
            "os.setsid()\n"
            f"terminal = os.open({os.ttyname(theirs)!r}, os.O_RDWR)\n"
            "for number in (0, 1, 2): os.dup2(terminal, number)\n"
        )
        if stdout:
            prepare += f"os.dup2(os.open({str(stdout)!r}, os.O_WRONLY | os.O_CREAT), 1)\n"
        child = self.start(*args, prepare=prepare, environ=environ)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's word for the end of a terminal
            while part := os.read(ours, 65_536):
                shown += part
        os.close(ours)
        ended = child.ended()
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", ""), (ended, shown)
        return shown.decode()

    def close(self) -> None:
        """End the process that the others are forked from."""
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.close()
        self._parent.wait(timeout=60)
        self._parent.stdout.close()


def die_at(number: int, *, only: str = "", note: str = "") -> None:
    """End this process by SIGKILL at the `number`-th moment at which it touches a run's files.

    A moment is just before a file is opened to be written, flushed to the disk (half of it is
    lost then), renamed or removed, or a directory made. With `only`, none but those whose name
    begins so count; with `note`, they are written into that file, a line each.
    """
    passed = count(1)
    noted = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if note else -1

    def moment(what: str, handle: int = -1) -> None:
        if not what.startswith(only):
            return
        if note:
            os.write(noted, f"{what}\n".encode())
        if next(passed) == number:
            if handle >= 0:
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
            event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes and isinstance(args[0], (str, os.PathLike)) and "runs" in Path(args[0]).parts:
            moment(f"{event} {Path(args[0]).name}")

    flush = os.fsync

    def fsync(handle: int) -> None:
        moment("before fsync", handle)
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
            # Pipes, which no limit on the size of files stops. They hold what a run says.
            pipes = [os.pipe() for _ in range(3)]
            pid = os.fork() or _live(request, *(writing for _, writing in pipes))
            for _, writing in pipes:
                os.close(writing)
            _read_all(pipes[0][0])  # until it is about to begin
            streams[pid] = [reading for reading, _ in pipes[1:]]
            answer = pid
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _read_all(stream: int) -> str:
    with open(stream, encoding="utf-8", errors="replace") as handle:
        return handle.read()


def _warm_up() -> None:
    """Load whatever a training loads, the data too."""
    from mnistcli.cli.app import main
    from mnistcli.data.datasets import load_dataset

    load_dataset = functools.cache(load_dataset)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        for recipe in ("mlp-50-50", "cnn-small"):
            arguments = f"train --recipe {recipe} --dataset digits -e 1 --augment -q --out {folder}"
            with contextlib.suppress(SystemExit):
                main(arguments.split())


def _live(request: dict[str, Any], beginning: int, stdout: int, stderr: int) -> NoReturn:
    """Be the process of a command line, in the forked child."""
    from mnistcli.cli.app import main

    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    # New ones: Python has found out of the old ones whether they can be wound back.
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
        exec(request["prepare"], {"die_at": die_at, "os": os, "time": time})
        os.close(beginning)
        main(request["args"])
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 (nothing may go on in the parent's loop)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
