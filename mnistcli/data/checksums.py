"""One file of a data set: finding it, reading it, verifying its published checksum."""

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mnistcli.errors import DataError

# No published file is larger: KMNIST's training images have 18 MB, 47 MB unpacked.
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class DataFile:
    """An IDX file: the published MD5 of its `.gz`, and the SHA-256 of its content if known."""

    name: str
    gz_md5: str
    sha256: str = ""

    @property
    def gz_name(self) -> str:
        """The name it is published under."""
        return f"{self.name}.gz"


@dataclass(frozen=True)
class SoundFile:
    """A file whose checksum was verified: what it contains as it is, and unpacked."""

    path: Path
    content: bytes
    unpacked: bytes


def find_named(file: DataFile, folder: Path) -> list[Path]:
    """The files in `folder` with a usual name, or in a directory of that name.

    Usual are `train-images.idx3-ubyte`, `... (1).gz` and the like. The published name comes first,
    and `.gz` before unpacked files.
    """
    paths = [
        path
        for place in _named_as(file, folder)
        for path in (_named_as(file, place) if place.is_dir() else [place])
    ]
    published = (folder / file.gz_name, folder / file.name)
    return sorted(
        filter(Path.is_file, paths), key=lambda path: (path not in published, path.suffix != ".gz")
    )


def _named_as(file: DataFile, folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if re.sub("[._ ]", "-", path.name.lower()).startswith(file.name)
    )


def find_files(file: DataFile, folder: Path) -> list[Path]:
    """Those of `find_named` that can be verified: unpacked ones if their checksum is known."""
    return [path for path in find_named(file, folder) if file.sha256 or path.suffix == ".gz"]


def find_sound(file: DataFile, paths: Iterable[Path]) -> SoundFile | None:
    """The first of `paths` that is the published file, whatever its name is.

    Raises:
        DataError: none is, and one cannot be read.
    """
    unreadable: DataError | None = None
    for path in paths:
        try:
            content = read_file(path)
        except DataError as error:
            unreadable = unreadable or error
            continue
        unpacked = _unpack_verified(content, file)
        if unpacked is not None:
            return SoundFile(path, content, unpacked)
    if unreadable:
        raise unreadable
    return None


def read_file(path: Path) -> bytes:
    """The content of a file, at most one byte more than `MAX_FILE_BYTES`."""
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"Cannot read {path}.",
            why=f"{error.strerror}.",
            fix="Check the file and its permissions.",
        ) from error


def is_published_gz(content: bytes, file: DataFile) -> bool:
    """Whether `content` is the `.gz` as it was published, not packed again."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == file.gz_md5


def is_gz(content: bytes) -> bool:
    """Whether `content` begins as a `.gz` does."""
    return content[:2] == b"\x1f\x8b"


def _unpack_verified(content: bytes, file: DataFile) -> bytes | None:
    """The unpacked content if it is the published one, packed by anyone or not at all."""
    if is_gz(content) and is_published_gz(content, file):
        return gzip.decompress(content)
    if not file.sha256 or len(content) > MAX_FILE_BYTES:
        return None
    if is_gz(content):
        try:
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(MAX_FILE_BYTES + 1)
        except (OSError, EOFError, zlib.error):
            return None
    return content if hashlib.sha256(content).hexdigest() == file.sha256 else None
