"""One file of a data set: finding it, reading it, verifying its published checksum."""

import hashlib
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


def find_file(file: DataFile, folder: Path) -> Path | None:
    """The file as `.gz`, else unpacked where its checksum is known; None if neither is there."""
    packed, unpacked = folder / file.gz_name, folder / file.name
    if packed.is_file():
        return packed
    return unpacked if file.sha256 and unpacked.is_file() else None


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


def checksum_matches(path: Path, content: bytes, file: DataFile) -> bool:
    """Whether `content`, which was read from `path`, is the published file."""
    if path.suffix == ".gz":
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == file.gz_md5
    return bool(file.sha256) and hashlib.sha256(content).hexdigest() == file.sha256
