"""Pictures with labels -> a data set: each picture becomes one image, as `mnist predict` sees it.

Shapes: N images, H rows, W columns.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.dataset_names import data_path, is_own_data, is_raw
from mnistcli.data.arrays import IMAGE_PX
from mnistcli.data.datasets import resolve_data_dir
from mnistcli.data.own_data import OwnImages, Part, make_own_images, read_cache, write_cache
from mnistcli.data.own_source import OwnSource, PictureFile, find_source
from mnistcli.errors import DataError, shorten
from mnistcli.models.ink_finder import InkFinder
from mnistcli.reading.batch import (
    PictureResult,
    decode_files,
    no_digit_error,
    read_file,
    without_traceback,
)
from mnistcli.reading.decode import SUFFIXES, decode_picture
from mnistcli.reading.picture_ink import find_picture_ink
from mnistcli.reading.pipeline import segment_ink
from mnistcli.runs.finder_file import load_finder

if TYPE_CHECKING:
    from mnistcli.config.choices import DataSplit

# Called with the number of pictures that have been read, and with that of all.
OnPicture = Callable[[int, int], None]
Pixels = NDArray[np.uint8]


def read_picture_data(name: str, *, on_picture: OnPicture | None = None) -> tuple[str, ...]:
    """Read the pictures of a data set and cache them, unless that has been done; its notes.

    Data sets of other forms, and those that are not a user's own, are left alone.

    Raises:
        DataError: nothing is there, or none of its pictures can be read.
        SettingsError: `raw:` is asked for what are no pictures.
    """
    if not is_own_data(name):
        return ()
    source, data_dir = find_source(name), resolve_data_dir(None, os.environ)
    if source.form != "pictures":
        return ()
    images = read_cache(name, source, data_dir)
    if images is None:
        images = _read_pictures(name, source, on_picture or (lambda _num, _all: None))
        write_cache(name, source, images, data_dir)
    return images.notes


def _read_pictures(name: str, source: OwnSource, on_picture: OnPicture) -> OwnImages:
    path = data_path(name)
    files = [each for each in source.pictures if each.path.suffix.lower() in SUFFIXES]
    # In a label file, as for `mnist predict --labels`, they are the digits from left to right.
    single = [each for each in files if not (source.files and _has_several_digits(each))]
    images: dict[DataSplit, list[Pixels]] = {"train": [], "test": []}
    labels: dict[DataSplit, list[str]] = {"train": [], "test": []}
    problems: list[DataError] = []
    for number, (file, pixels_HW) in enumerate(_images(single, raw=is_raw(name)), start=1):
        on_picture(number, len(single))
        if isinstance(pixels_HW, DataError):
            problems.append(pixels_HW)
        else:
            images[file.part].append(pixels_HW)
            labels[file.part].append(file.label)
    if not images["train"]:
        why = f"{problems[0].what} {problems[0].why}" if problems else "It has no pictures."
        raise DataError(
            f"'{path}' cannot be used as a data set.",
            why=f"None of its {len(source.pictures):,} files is a picture of a digit. {why}",
            fix="Check one: mnist predict FILE --single --show",
        )
    parts: dict[DataSplit, Part] = {
        part: (np.stack(pixels), labels[part]) for part, pixels in images.items() if pixels
    }
    lost = {each.label for each in single} - {*labels["train"], *labels["test"]}
    notes = _notes(len(source.pictures), len(files), len(single), problems)
    if lost:
        names = shorten(", ".join(sorted(lost)))
        notes.append(f"Classes without a usable picture, left out: {names}.")
    return make_own_images(path, parts, notes=notes)


def _notes(
    num_files: int, num_pictures: int, num_single: int, problems: Sequence[DataError]
) -> list[str]:
    """What is left out: files that are not pictures, pictures of several digits, `problems`."""
    notes = []
    if num_files > num_pictures:
        notes.append(f"Files that are not pictures, left out: {num_files - num_pictures:,}.")
    if num_pictures > num_single:
        notes.append(f"Pictures of several digits, left out: {num_pictures - num_single:,}.")
    if problems:
        first = f"{problems[0].what} {problems[0].why}".rstrip()
        notes.append(f"Pictures that cannot be used, left out: {len(problems):,}. {first}")
    return notes


def _has_several_digits(file: PictureFile) -> bool:
    digits = "".join(file.label.split())
    return len(digits) > 1 and digits.isascii() and digits.isdecimal()


def _images(
    files: Sequence[PictureFile], *, raw: bool
) -> Iterator[tuple[PictureFile, Pixels | DataError]]:
    """Each picture's image (28, 28), 0 background to 255 ink, or why there is none."""
    if raw:
        for file in files:
            try:
                yield file, _raw_image(str(file.path))
            except DataError as error:
                yield file, without_traceback(error)
        return
    finder = load_finder()
    chunks = decode_files([str(file.path) for file in files], single=True)
    results = (result for chunk in chunks for result in chunk)
    for file, result in zip(files, results, strict=True):
        yield file, _image_of_digit(result, finder)


def _raw_image(name: str) -> Pixels:
    gray_HW = decode_picture(read_file(name), name=name).gray_HW
    if gray_HW.shape != (IMAGE_PX, IMAGE_PX):
        height, width = gray_HW.shape
        raise DataError(
            f"'{name}' has {width}x{height} pixels.",
            why=f"--raw takes pictures of {IMAGE_PX}x{IMAGE_PX} as they are.",
            fix="Leave --raw out.",
        )
    return np.rint(255 * gray_HW).astype(np.uint8)


def _image_of_digit(picture: PictureResult, finder: InkFinder) -> Pixels | DataError:
    """The only digit in a picture, in MNIST's format."""
    if picture.error:
        return picture.error
    found = picture.segmentation or segment_ink(
        find_picture_ink(finder, picture.gray()), picture.size, single=True
    )
    candidates = [image for line in found.lines for image in line.candidates.values()]
    if len(candidates) != 1:
        return no_digit_error(picture.name)
    return candidates[0].pixels_HW
