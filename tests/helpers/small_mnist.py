"""MNIST's four files with 160 small images, and a mirror on this machine that serves them."""

import gzip
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from mnistcli.data.checksums import DataFile
from mnistcli.data.datasets import DATASETS, Dataset
from mnistcli.data.download import FileState
from mnistcli.system.lock import LOCK_NAME

Array = np.ndarray[Any, np.dtype[np.uint8]]

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES = tuple(
    file.name for file in DATASETS["mnist"].files
)
GZ_NAMES = [f"{name}.gz" for name in NAMES]
NUM_TRAIN, NUM_TEST = 120, 40


@cache
def arrays() -> dict[str, Array]:
    """The content of the four files: handwriting, enlarged to 28x28."""
    bunch = load_digits()
    large = np.kron(bunch.images, np.ones((1, 3, 3))) * (255 / 16)
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    train, test = slice(NUM_TRAIN), slice(NUM_TRAIN, NUM_TRAIN + NUM_TEST)
    return dict(zip(NAMES, (images[train], labels[train], images[test], labels[test]), strict=True))


def idx_header(*sizes: int) -> bytes:
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


def idx(array: Array) -> bytes:
    return idx_header(*array.shape) + array.tobytes()


def unpacked() -> dict[str, bytes]:
    return {name: idx(array) for name, array in arrays().items()}


def packed() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in unpacked().items()}


def small_mnist(raw: Mapping[str, bytes] | None = None, *, with_sha256: bool = True) -> Dataset:
    """MNIST with other files: by default those of `packed()` and `unpacked()`."""
    files = tuple(
        DataFile(
            name,
            hashlib.md5(gzip.compress(content, mtime=0)).hexdigest(),
            hashlib.sha256(content).hexdigest() if with_sha256 else "",
        )
        for name, content in (raw or unpacked()).items()
    )
    return replace(DATASETS["mnist"], files=files)


def put(directory: Path, files: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def put_data(data_dir: Path, files: Mapping[str, bytes]) -> Path:
    """Put `files` where `load_dataset` looks for MNIST's."""
    return put(data_dir / "MNIST" / "raw", files)


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def states_by_name(states: list[FileState]) -> dict[str, str]:
    return {state.name: state.state for state in states}


def names_in(data_dir: Path) -> set[str]:
    """The names of all files under `data_dir`, hidden ones too, except the lock's."""
    return {path.name for path in data_dir.rglob("*") if not path.is_dir()} - {LOCK_NAME}


def contents(folder: Path) -> dict[str, bytes]:
    """The content of everything in `folder`, except the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK_NAME}


def refusing_url() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@dataclass
class Mirror:
    """The files that a loopback mirror serves, its faults, and the names requested so far."""

    files: Mapping[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    faults: dict[str, Iterator[int | str]] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def fail(self, fault: int | str, *, times: int = 99, name: str = "") -> None:
        """Answer so many requests (for `name`, or for each file) with a status or a fault."""
        for file_name in [name] if name else self.files:
            self.faults[file_name] = repeat(fault, times)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        self.asked.append(name)
        fault = next(self.faults.get(name, iter(())), None)
        if isinstance(fault, int) or name not in self.files:
            handler.send_error(fault if isinstance(fault, int) else 404)
        elif fault == "hangs":
            self.closing.wait(20)
        elif fault == "talks nonsense":
            handler.wfile.write(b"nonsense\r\n\r\n")
        elif fault and fault.startswith("redirects to "):
            handler.send_response(302)
            handler.send_header("Location", fault.removeprefix("redirects to "))
            handler.end_headers()
        else:
            self._send(handler, self.files[name], fault)

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, fault: str | None) -> None:
        handler.send_response(200)
        if fault != "hides the length":
            handler.send_header("Content-Length", str(len(content)))
        if fault == "declares an encoding":
            handler.send_header("Content-Encoding", "x-gzip")
        handler.end_headers()
        if fault == "stalls":
            handler.wfile.write(content[: len(content) // 2])
            self.closing.wait(20)
        elif fault == "breaks off":
            handler.wfile.write(content[: len(content) // 2])
        else:
            handler.wfile.write(content[::-1] if fault == "sends other bytes" else content)


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Mirror]:
    """A mirror on this machine that serves `files` as long as the context lasts."""
    mirror = Mirror(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield mirror
        finally:
            mirror.closing.set()
            server.shutdown()
            thread.join()
