"""Fails if code that reads a file does anything else: other files, programs, the network."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.paths import REPOSITORY

# Where Python and its libraries are, which load parts of themselves when first needed.
LIBRARIES = (
    *{sys.prefix, sys.base_prefix, *(str(Path(entry).resolve()) for entry in sys.path if entry)},
    *("/proc", "/sys", "/dev/null", str(REPOSITORY / "mnistcli")),
)
FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.putenv", "subprocess.Popen", "pty.spawn", "webbrowser.open"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "shutil.move"),
    # Python's unpickler runs code. PyTorch's for weights looks nothing up this way.
    *("pickle.find_class", "code.__new__", "ctypes.dlopen", "tempfile.mkstemp"),
)


class _Watch:
    """The one audit hook of the process, which Python cannot remove again."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {args}"[:200])
        elif event == "open" and isinstance(args[0], str | bytes):
            path, mode, flags = os.path.abspath(os.fsdecode(args[0])), args[1], args[2]  # noqa: PTH100
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or "w" in (mode or "")
            is_input = Path(path).is_relative_to(self.allowed) and not writes
            is_library = path.startswith(LIBRARIES) and (not writes or path == "/dev/null")
            if not (is_input or is_library or "__pycache__" in path):
                self.seen.append(f"open {path} {mode}")


_WATCH = _Watch()


@contextmanager
def touches_only(path: Path) -> Iterator[None]:
    """Fail if the code inside does anything but read the file, or the directory, at `path`."""
    _WATCH.seen.clear()
    _WATCH.allowed = path.absolute()
    try:
        yield
    finally:
        _WATCH.allowed = None
        assert not _WATCH.seen, f"not only its file: {_WATCH.seen[:3]}"
