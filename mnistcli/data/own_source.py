"""What is at the path of a user's own data set: its form and its files.

| form | what it is |
| --- | --- |
| table | a CSV file with an image in every row |
| npz | arrays of NumPy, such as Keras' mnist.npz |
| idx | IDX files, as MNIST and EMNIST are published |
| pictures | picture files in a directory for every class, or with a CSV file of their labels |
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnistcli.config.choices import DataSplit
from mnistcli.config.dataset_names import data_path, is_raw
from mnistcli.data.csv_table import is_label_row, listed_file, read_label_rows, whole_number
from mnistcli.data.image_table import first_cells
from mnistcli.errors import DataError, SettingsError

Form = Literal["table", "npz", "idx", "pictures"]
# How the files and directories of a part are named; MNIST's test files are t10k.
_PART_NAMES: dict[str, DataSplit] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
_LABEL_FILE = "labels.csv"
FORMS = (
    "Known are a CSV file with an image in every row, .npz, IDX files (train-images-idx3-ubyte "
    "with train-labels-idx1-ubyte), a directory with a directory of pictures for every class, and "
    "pictures with a labels.csv (file,label)."
)


@dataclass(frozen=True)
class PictureFile:
    """A picture file with the name of its class."""

    path: Path
    label: str
    part: DataSplit = "train"


@dataclass(frozen=True)
class OwnSource:
    """The form and the files of a user's own data set.

    `files` are those that decide what is in it: of IDX files the images and labels of the training
    part, then of the test part.
    """

    form: Form
    files: tuple[Path, ...] = ()
    pictures: tuple[PictureFile, ...] = ()


def find_source(name: str) -> OwnSource:
    """The form and the files of the data set with this name, an absolute path.

    Raises:
        DataError: nothing is there, or something else.
        SettingsError: `raw:` is asked for what are no pictures.
    """
    path = data_path(name)
    source = _source_in(path) if path.is_dir() else _source_of_file(path)
    if is_raw(name) and source.form != "pictures":
        raise SettingsError(
            f"--raw cannot be used with '{path}'.",
            why="It is for pictures; arrays of images are always taken as they are.",
            fix="Leave --raw out.",
        )
    return source


def _source_of_file(path: Path) -> OwnSource:
    if not path.exists():
        raise DataError(
            f"There is no data set at '{path}'.",
            why="The file or directory does not exist, or has been moved.",
            fix="Name where it is: --dataset PATH",
        )
    name = path.name.lower()
    if name.endswith(".npz"):
        return OwnSource("npz", (path,))
    if name.endswith((".csv", ".csv.gz", ".txt", ".tsv")):
        _, cells = first_cells(path)
        names = {cell.strip().lower() for cell in cells}
        if {"file", "label"} <= names or is_label_row(path.parent, cells):
            return OwnSource("pictures", (path,), tuple(_labeled_pictures(path)))
        return OwnSource("table", (path,))
    if _is_idx(path, "images"):
        return OwnSource("idx", _idx_files(path))
    raise _unknown_form(path, "Its name does not tell what it is.")


def _source_in(directory: Path) -> OwnSource:
    if (directory / _LABEL_FILE).is_file():
        file = directory / _LABEL_FILE
        return OwnSource("pictures", (file,), tuple(_labeled_pictures(file)))
    entries = _visible_entries(directory)
    images = [path for path in entries if path.is_file() and _is_idx(path, "images")]
    training = [path for path in images if _PART_NAMES.get(_idx_part(path), "train") == "train"]
    if len({_unpacked(path) for path in training}) > 1:
        names = ", ".join(path.name for path in training[:3])
        raise _unknown_form(directory, f"It holds several data sets: {names}.", "Name one of them.")
    if training:
        return OwnSource("idx", _idx_files(training[0]))
    pictures = tuple(_pictures_by_class(entries))
    if not pictures:
        tables = [path.name for path in entries if path.name.endswith((".csv", ".npz", ".csv.gz"))]
        fix = f"Name a file in it: {directory / tables[0]}" if tables else ""
        raise _unknown_form(directory, "It holds no directories of pictures.", fix)
    return OwnSource("pictures", pictures=pictures)


def _pictures_by_class(entries: list[Path]) -> Iterator[PictureFile]:
    """The files in directories named by their classes, below `train` and `test` if these exist."""
    folders = [entry for entry in entries if entry.is_dir()]
    names = {entry.name.lower() for entry in folders}
    if names and names <= _PART_NAMES.keys():
        for folder in folders:
            classes = [entry for entry in _visible_entries(folder) if entry.is_dir()]
            yield from _files_of(classes, _PART_NAMES[folder.name.lower()])
    else:
        yield from _files_of(folders, "train")


def _files_of(folders: list[Path], part: DataSplit) -> Iterator[PictureFile]:
    for folder in folders:
        for path in _visible_entries(folder):
            if path.is_file():
                yield PictureFile(path, folder.name, part)


def _visible_entries(directory: Path) -> list[Path]:
    """What is in a directory, in order, without hidden entries such as macOS's ._1.png."""
    return sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))


def _labeled_pictures(file: Path) -> Iterator[PictureFile]:
    """The pictures that a label file lists, relative to it."""
    for _, row in read_label_rows(file):
        if row["file"] and row["label"]:
            yield PictureFile(listed_file(file.parent, row["file"]), whole_number(row["label"]))


def _is_idx(path: Path, kind: Literal["images", "labels"]) -> bool:
    """Whether a file has a usual name of an IDX file with images or labels."""
    name = path.name.lower()
    return bool(re.search(r"idx\d|ubyte", name)) and kind[:-1] in name


def _idx_part(path: Path) -> str:
    found = re.search("|".join(sorted(_PART_NAMES, key=len, reverse=True)), path.name.lower())
    return found[0] if found else ""


def _unpacked(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _idx_files(images: Path) -> tuple[Path, ...]:
    """The images file, its labels and, if they are there, those of the test part."""
    files = [images, _labels_beside(images)]
    if _PART_NAMES.get(_idx_part(images)) == "train":
        for candidate in sorted(images.parent.iterdir()):
            part = _idx_part(candidate)
            if _PART_NAMES.get(part) != "test" or not _is_idx(candidate, "images"):
                continue
            if _unpacked(candidate).replace(part, _idx_part(images)) == _unpacked(images):
                return (*files, candidate, _labels_beside(candidate))
    return tuple(files)


def _labels_beside(images: Path) -> Path:
    """The file with the labels of a file of images; both may be packed or not."""
    wanted = _unpacked(images).lower().replace("image", "label").replace("idx3", "idx1")
    for path in sorted(images.parent.iterdir()):
        if _unpacked(path).lower() == wanted:
            return path
    raise DataError(
        f"The labels of '{images}' are missing.",
        why=f"There is no {wanted} or {wanted}.gz beside it.",
        fix="Put the file with the labels into the same directory.",
    )


def _unknown_form(path: Path, why: str, fix: str = "") -> DataError:
    return DataError(f"'{path}' is not a data set.", why=why, fix=fix or FORMS)
