"""Notes what a reader does beside reading its file: other files, other programs, the network."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
# Where Python and its libraries lie, which load parts of themselves when they are first needed.
LIBRARIES = (
    *{sys.prefix, sys.base_prefix, *(str(Path(each).resolve()) for each in sys.path if each)},
    *("/proc", "/sys", "/dev/null", str(REPOSITORY / "mnistcli")),
)
FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.putenv", "subprocess.Popen", "pty.spawn", "webbrowser.open"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "shutil.move"),
    # Python's unpickler runs code. PyTorch's own for weights looks nothing up this way.
    *("pickle.find_class", "code.__new__", "ctypes.dlopen", "tempfile.mkstemp"),
)


class Watch:
    """One audit hook for the process, which Python cannot take off again."""

    def __init__(self) -> None:
        self.allowed: Path | None = None
        self.seen: list[str] = []
        self._is_installed = False

    def install(self) -> None:
        if not self._is_installed:
            sys.addaudithook(self._hook)
            self._is_installed = True

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {args}"[:200])
        elif event == "import" and args[0] in ("this", "antigravity"):
            self.seen.append(f"import {args[0]}")
        elif event == "open" and isinstance(args[0], str | bytes):
            path, mode, flags = os.path.abspath(os.fsdecode(args[0])), args[1], args[2]  # noqa: PTH100
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or "w" in (mode or "")
            mine = Path(path).is_relative_to(self.allowed) and not writes
            library = path.startswith(LIBRARIES) and (not writes or path == "/dev/null")
            if not (mine or library or "__pycache__" in path):
                self.seen.append(f"open {path} {mode}")


WATCH = Watch()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Fail if what is inside touches anything but the file, or the directory, at `path`."""
    WATCH.install()
    WATCH.seen.clear()
    WATCH.allowed = path.absolute()
    try:
        yield
    finally:
        WATCH.allowed = None
        assert not WATCH.seen, f"beside its file it did: {WATCH.seen[:3]}"
