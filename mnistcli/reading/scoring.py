"""What pictures really show, and how many were read right.

A label file is CSV with the columns `file`, relative to the label file's directory, and
`label`: the digits from left to right. Other columns are ignored.
"""

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mnistcli.data.csv_table import read_csv_rows
from mnistcli.errors import DataError
from mnistcli.evaluation.metrics import wilson_interval

# The sizes that the scores tell apart: MNIST's own, and all that had to be shrunk.
SMALL_PX = 28


@dataclass(frozen=True)
class LabeledPicture:
    """A picture file with what it shows and what was read in it, None where nothing could be."""

    file: str
    label: str
    read: str | None
    width_px: int
    height_px: int

    @property
    def right(self) -> bool:
        """Whether every digit was read, and no other."""
        return self.read is not None and is_same_number(self.read, self.label)

    @property
    def kind(self) -> str:
        """The group that the scores count it in."""
        if len(strip_spaces(self.label)) > 1:
            return "several digits"
        if self.width_px == 0:
            return "unreadable"
        small = max(self.width_px, self.height_px) <= SMALL_PX
        return f"one digit, up to {SMALL_PX}x{SMALL_PX}" if small else "one digit, larger"


@dataclass(frozen=True)
class Tally:
    """How many of some pictures were read right, with the 95 % Wilson interval (0..1)."""

    num: int
    num_correct: int

    @property
    def share(self) -> float:
        """The share of right readings, 0..1."""
        return self.num_correct / self.num

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of right readings lies, with 95 % confidence."""
        return wilson_interval(self.num_correct, self.num)


@dataclass
class PictureScores:
    """The readings of labelled pictures; `num_unlabelled` others were read."""

    readings: list[LabeledPicture] = field(default_factory=list)
    num_unlabelled: int = 0

    def tallies(self) -> dict[str, Tally]:
        """All pictures, and each kind of them."""
        kinds = sorted({reading.kind for reading in self.readings})
        groups = {"all": self.readings}
        groups |= {kind: [each for each in self.readings if each.kind == kind] for kind in kinds}
        return {
            kind: Tally(len(group), sum(each.right for each in group))
            for kind, group in groups.items()
        }

    @property
    def misread(self) -> list[LabeledPicture]:
        """What was not read right."""
        return [reading for reading in self.readings if not reading.right]


def strip_spaces(text: str) -> str:
    """A text without its white space."""
    return "".join(text.split())


def is_same_number(read: str, label: str) -> bool:
    """Whether a reading has the label's digits, however they are spread over lines."""
    return strip_spaces(read) == strip_spaces(label)


def read_labels(path: Path) -> dict[Path, str]:
    """The label of every file, by its absolute path.

    Raises:
        DataError: the file cannot be read, or has not both columns.
    """
    rows = read_csv_rows(path, ("file", "label"), refuse=partial(_invalid_label_file, path))
    try:
        return {
            resolve_path(path.parent / row["file"]): row["label"]
            for row in rows
            if row["file"] and row["label"]
        }
    except ValueError as error:
        raise _invalid_label_file(path, f"One of its names is none: {error}.") from error


def resolve_path(path: Path) -> Path:
    """The file that a name stands for; unlike `Path.resolve`, any name for a ring of links."""
    return Path(os.path.realpath(path))


def _invalid_label_file(path: Path, why: str) -> DataError:
    return DataError(
        f"'{path}' is no label file.",
        why=why,
        fix="Write a CSV file whose first line is file,label and whose others are like digit.png,7",
    )
