"""A guard around every test: no network, no writes outside its own directory."""

import os
import sys
from pathlib import Path
from typing import Any


class Guard:
    """Records connections to other machines and writes outside the allowed directories.

    Python's audit hooks cannot be removed, so there is one, and each test switches it on and off.
    """

    def __init__(self) -> None:
        self.allowed: list[Path] | None = None
        self.violations: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event == "socket.connect":
            address = args[1]
            if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
                self.violations.append(f"connection to {address}")
        elif event == "open":
            path, mode, flags = args
            if isinstance(path, str) and Path(path).is_dir():
                return  # a temporary file without a name, which leaves nothing behind
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if isinstance(path, str | bytes | os.PathLike) and (writes or "w" in (mode or "")):
                self._check(path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            self._check(args[0])
        elif event == "os.rename":
            self._check(args[1])

    def _check(self, path: Any) -> None:
        assert self.allowed is not None
        full = Path(os.fsdecode(path)).absolute()
        if (
            full.is_relative_to("/dev")
            or full == Path("/proc/self/clear_refs")
            or "__pycache__" in full.parts
        ):
            return
        if not any(full.is_relative_to(directory) for directory in self.allowed):
            self.violations.append(f"write to {full}")
