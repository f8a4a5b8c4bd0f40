"""A directory of pictures with a label file, as `mnist predict DIR --labels` scores it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mnistcli.data.datasets import DIGITS
from mnistcli.errors import DataError, RunError, SettingsError
from mnistcli.reading.decode import decode_picture, open_image
from mnistcli.system.files import remove_stale_temporaries, write_atomically
from mnistcli.system.lock import LockedError, lock_directory

HEADER = "file,label"
# By Pillow's names of formats; MPO is a JPEG with several pictures.
SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "BMP": ".bmp",
    "GIF": ".gif",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "HEIF": ".heic",
}
MAX_LABEL_LENGTH = 100


@dataclass(frozen=True)
class KeptPictures:
    """The directory, locked: `open_kept` returns it. Labels are made of the names of classes."""

    directory: Path
    classes: Sequence[str] = DIGITS

    @property
    def labels(self) -> Path:
        """The label file."""
        return self.directory / "labels.csv"

    def add(self, data: bytes, label: str) -> str:
        """Write the content of a picture file and its label; returns the new file's name.

        Raises:
            DataError: it is damaged or not a picture.
            SettingsError: the label is not made of classes, or too long.
            OSError: the files cannot be written.
        """
        label = " ".join(label.split())
        is_made_of_classes = label in self.classes or {*label} <= {*self.classes, " "}
        if not label or not is_made_of_classes or len(label) > MAX_LABEL_LENGTH:
            raise SettingsError(
                "The label must be made of the names of classes.",
                why=f"These are {', '.join(self.classes)}.",
                fix="Type the digits from left to right, for example 2026.",
            )
        decode_picture(data, name="the picture")
        with open_image(data, name="the picture") as image:
            suffix = SUFFIXES[str(image.format)]
        name = f"{self._next_number():05d}{suffix}"
        rows = self.read_rows()
        write_atomically(self.directory / name, lambda file: file.write(data))
        content = "\n".join([*rows, f"{name},{label}", ""]).encode()
        write_atomically(self.labels, lambda file: file.write(content))
        return name

    def read_rows(self) -> list[str]:
        """The lines of the label file, the header first.

        Raises:
            DataError: it exists, but this module did not write it.
        """
        if not self.labels.exists():
            return [HEADER]
        try:
            rows = self.labels.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            rows = []
        if not rows or rows[0] != HEADER:
            raise DataError(
                f"Labels cannot be added to '{self.labels}'.",
                why=f"Its first line is not {HEADER}.",
                fix="Name another directory after --keep.",
            )
        return rows

    def _next_number(self) -> int:
        stems = [path.stem for path in self.directory.iterdir()]
        return 1 + max((int(stem) for stem in stems if re.fullmatch("[0-9]+", stem)), default=0)


@contextmanager
def open_kept(directory: Path, classes: Sequence[str] = DIGITS) -> Iterator[KeptPictures]:
    """Create the directory if it is missing, and lock it inside the context.

    Raises:
        RunError: another process keeps pictures in it.
        DataError: its label file was not written by this module.
        OSError: it cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with lock_directory(directory, wait=None):
            remove_stale_temporaries(directory)
            kept = KeptPictures(directory, classes)
            kept.read_rows()
            yield kept
    except LockedError as error:
        raise RunError(
            f"Another process keeps pictures in '{directory}'.",
            why="Both would write its label file.",
            fix="Stop it, or name another directory after --keep.",
        ) from error
