"""Read pictures against their labels.

A label file is CSV with the columns `file`, relative to the label file's directory, and
`label`: the digits from left to right. Other columns are ignored; where there are no others, the
header may be missing.
"""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnistcli.data.csv_table import listed_file, read_label_rows, whole_number
from mnistcli.errors import DataError, shorten
from mnistcli.evaluation.metrics import wilson_interval

# Pictures up to MNIST's own size are scored apart from larger ones.
SMALL_PX = 28


@dataclass(frozen=True)
class LabeledPicture:
    """A picture file, its true digits, and those that were read; `read` is None if it failed."""

    file: str
    label: str
    read: str | None
    width_px: int
    height_px: int

    @property
    def is_correct(self) -> bool:
        """Whether the digits that were read are those of the label, on any number of lines."""
        return self.read is not None and _strip_spaces(self.read) == _strip_spaces(self.label)

    @property
    def kind(self) -> str:
        """The group that it is scored in."""
        if len(_strip_spaces(self.label)) > 1:
            return "several digits"
        if self.width_px == 0:
            return "unreadable"
        small = max(self.width_px, self.height_px) <= SMALL_PX
        return f"one digit, up to {SMALL_PX}x{SMALL_PX}" if small else "one digit, larger"


@dataclass(frozen=True)
class Tally:
    """How many of `num` pictures were read correctly."""

    num: int
    num_correct: int

    @property
    def share(self) -> float:
        """The share of correct ones, 0..1."""
        return self.num_correct / self.num

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the share, 0..1."""
        return wilson_interval(self.num_correct, self.num)


@dataclass
class PictureScores:
    """The labeled pictures that were read, and the number of those without a label.

    `labels` are as `labels_as_classes` returns them.
    """

    labels: Mapping[Path, str]
    pictures: list[LabeledPicture] = field(default_factory=list)
    num_unlabeled: int = 0

    def add(self, name: str, read: str | None, size: tuple[int, int]) -> LabeledPicture | None:
        """Count a picture file of this width and height in pixels; None if it has no label."""
        label = self.labels.get(resolve_path(Path(name)))
        if label is None:
            self.num_unlabeled += 1
            return None
        labeled = LabeledPicture(name, label, read, *size)
        self.pictures.append(labeled)
        return labeled

    def tallies(self) -> dict[str, Tally]:
        """The tally of all pictures ("all"), of which there is at least one, then by kind."""
        groups = {"all": self.pictures}
        for kind in sorted({picture.kind for picture in self.pictures}):
            groups[kind] = [picture for picture in self.pictures if picture.kind == kind]
        return {
            kind: Tally(len(group), sum(picture.is_correct for picture in group))
            for kind, group in groups.items()
        }

    @property
    def misread(self) -> list[LabeledPicture]:
        """Those that were not read correctly."""
        return [picture for picture in self.pictures if not picture.is_correct]


@dataclass(frozen=True)
class Label:
    """A label as it stands in a label file, and the number of its line."""

    text: str
    line: int


def read_labels(path: Path) -> dict[Path, Label]:
    """The labels in a label file by the `resolve_path` of the pictures.

    Raises:
        DataError: as for `read_label_rows`.
    """
    return {
        resolve_path(listed_file(path.parent, row["file"])): Label(row["label"], line)
        for line, row in read_label_rows(path)
        if row["file"] and row["label"]
    }


def labels_as_classes(
    labels: Mapping[Path, Label], classes: Sequence[str], path: Path
) -> dict[Path, str]:
    """The labels in `path`, each made of the names of classes.

    Numbers may end in ".0", as pandas writes them, and have digits of other scripts, such as the
    full-width ones of Japanese keyboards.

    Raises:
        DataError: a label is not made of them.
    """
    texts = {}
    for picture, label in labels.items():
        usual = "".join(str(unicodedata.decimal(each, each)) for each in label.text)
        forms = (label.text, usual, whole_number(usual))
        text = next((form for form in forms if _is_made_of(form, classes)), None)
        if text is None:
            raise DataError(
                f"'{path}' has the label '{shorten(label.text)}' in line {label.line}.",
                why=f"It is not made of the classes {', '.join(classes)}.",
                fix="Correct it, or leave it empty, so that the picture does not count.",
            )
        texts[picture] = text
    return texts


def _is_made_of(label: str, classes: Sequence[str]) -> bool:
    return label in classes or set(_strip_spaces(label)) <= set(classes)


def require_labeled(labels: Mapping[Path, object], pictures: Iterable[str]) -> None:
    """Raise DataError if none of the picture files has a label."""
    if not any(resolve_path(Path(picture)) in labels for picture in pictures):
        raise DataError(
            "None of the pictures has a label.",
            why="The label file names other files; its names are relative to its directory.",
            fix="Check the column 'file', or name the pictures that the labels are for.",
        )


def resolve_path(path: Path) -> Path:
    """The absolute path without links, its letters in one form of Unicode.

    macOS writes an "ö" in a file's name as two characters, and most programs as one. Unlike
    `Path.resolve`, it does not fail for a loop of links.
    """
    return Path(unicodedata.normalize("NFC", os.path.realpath(path)))


def _strip_spaces(text: str) -> str:
    return "".join(text.split())
