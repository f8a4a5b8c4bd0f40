"""Users' own data sets: read once, cached in the data directory, identified by a digest.

The cache belongs to the names, sizes and times of the files that it was read from; if one of
them changes, they are read again. The pictures of a data set are read by `reading`, which is above
this package and writes the cache.

Shapes: N images, H rows, W columns (28).
"""

import gzip
import hashlib
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mnistcli.config.choices import MAX_CLASSES, DataSplit
from mnistcli.config.dataset_names import data_path, dataset_title
from mnistcli.data.examples import Examples
from mnistcli.data.idx import read_idx
from mnistcli.data.image_arrays import ImageArrayError, as_images, find_scale, to_uint8
from mnistcli.data.image_table import MAX_IMAGES, read_image_table
from mnistcli.data.own_source import FORMS, Form, OwnSource, find_source
from mnistcli.errors import DataError, first_line, shorten
from mnistcli.system.files import require_readable, write_atomically

# The share of the images that is held out for testing where there is no test part.
TEST_SHARE = 0.1
# Data cached by other versions are read again.
_FORMAT = 1
# The arrays of an .npz, by part: images, labels.
_NPZ_NAMES: tuple[dict[DataSplit, tuple[str, str]], ...] = (
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
    {"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")},
    {"train": ("images", "labels")},
    {"train": ("x", "y")},
)
# Images of a part and the name of the class of each.
Part = tuple[NDArray[np.generic], Sequence[str]]


@dataclass(frozen=True, eq=False)
class OwnImages:
    """The images of a user's own data set, with the classes that occur, in natural order.

    `train` are all images where there is no test part. `digest` is the SHA-256 of classes, images
    and labels. `notes` say what the user should know about how it was read.
    """

    classes: tuple[str, ...]
    train: Examples
    test: Examples | None
    digest: str
    notes: tuple[str, ...] = ()


# The data set that was read last, with the state of its files: commands ask for it several times.
_latest: dict[str, tuple[str, OwnImages]] = {}


def read_own_images(name: str, data_dir: Path) -> OwnImages:
    """The images of the data set with this name, an absolute path; cached in `data_dir`.

    Raises:
        DataError: it is missing, damaged or of an unknown form, or its pictures have not been read.
    """
    source = find_source(name)
    images = read_cache(name, source, data_dir)
    if images is None:
        if source.form == "pictures":
            raise DataError(
                f"The pictures of {dataset_title(name)} have not been read.",
                why="Only train, eval, plot and export read the pictures of a data set.",
                fix="Evaluate on it first: mnist eval --dataset PATH",
            )
        images = _READERS[source.form](source.files)
        write_cache(name, source, images, data_dir)
    return images


def read_cache(name: str, source: OwnSource, data_dir: Path) -> OwnImages | None:
    """What was read from the files as they are now; None if it is not cached."""
    state = _state_of_files(name, source)
    if name in _latest and _latest[name][0] == state:
        return _latest[name][1]
    path = _cache_path(name, data_dir)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            facts = json.loads(bytes(arrays["facts"]))
            if facts["state"] != state:
                return None
            images = OwnImages(
                classes=tuple(facts["classes"]),
                train=_to_examples(arrays, "train"),
                test=_to_examples(arrays, "test") if "test_images" in arrays else None,
                digest=facts["digest"],
                notes=tuple(facts["notes"]),
            )
    # Whatever is wrong with it, it is only a copy.
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    _remember(name, state, images)
    return images


def write_cache(name: str, source: OwnSource, images: OwnImages, data_dir: Path) -> None:
    """Cache what was read from `source`; nothing is written where that is not possible."""
    state = _state_of_files(name, source)
    _remember(name, state, images)
    facts = {
        "state": state,
        "classes": images.classes,
        "digest": images.digest,
        "notes": images.notes,
    }
    arrays: dict[str, Any] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
    for part, examples in (("train", images.train), ("test", images.test)):
        if examples is not None:
            arrays[f"{part}_images"] = examples.images_NHW.numpy()
            arrays[f"{part}_labels"] = examples.labels_N.numpy().astype(np.uint8)
    path = _cache_path(name, data_dir)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: np.savez(file, **arrays))


def _remember(name: str, state: str, images: OwnImages) -> None:
    _latest.clear()
    _latest[name] = state, images


def _to_examples(arrays: Mapping[str, NDArray[Any]], part: str) -> Examples:
    labels_N = torch.from_numpy(arrays[f"{part}_labels"].astype(np.int64))
    return Examples(torch.from_numpy(arrays[f"{part}_images"]), labels_N)


def _cache_path(name: str, data_dir: Path) -> Path:
    title = re.sub(r"[^\w.-]+", "_", data_path(name).name)[:40]
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return data_dir / "own" / f"{title}-{digest}.npz"


def _state_of_files(name: str, source: OwnSource) -> str:
    """A digest of the names, sizes and times of a data set's files."""
    state = hashlib.sha256(f"{_FORMAT} {name}".encode())
    for path in (*source.files, *(picture.path for picture in source.pictures)):
        try:
            stat = path.stat()
            state.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        except OSError:
            state.update(f"{path}\n".encode())
    return state.hexdigest()


def make_own_images(
    path: Path, parts: Mapping[DataSplit, Part], *, notes: Sequence[str] = ()
) -> OwnImages:
    """The data set at `path` from its parts, images of any size and range with class names.

    Raises:
        DataError: the images or the classes cannot be used.
    """
    names = {name for _, labels in parts.values() for name in labels}
    _check_classes(path, names)
    for array, labels in parts.values():
        if len(array) != len(labels):
            raise _unusable(path, f"It has {len(array):,} images and {len(labels):,} labels")
    classes = tuple(sorted(names, key=_natural_order))
    numbers = {name: number for number, name in enumerate(classes)}
    digest = hashlib.sha256(json.dumps(classes).encode())
    examples: dict[DataSplit, Examples] = {}
    try:
        images = {part: as_images(array) for part, (array, _) in parts.items()}
        scale = find_scale(images["train"])
        for part, images_NHW in images.items():
            labels_N = np.array([numbers[name] for name in parts[part][1]], np.int64)
            pixels_NHW = to_uint8(images_NHW, scale)
            for content in (part.encode(), pixels_NHW.data, labels_N.data):
                digest.update(content)
            examples[part] = Examples(torch.from_numpy(pixels_NHW), torch.from_numpy(labels_N))
    except ImageArrayError as error:
        raise _unusable(path, str(error)) from error
    return OwnImages(
        classes, examples["train"], examples.get("test"), digest.hexdigest(), tuple(notes)
    )


def pixel_moments(examples: Examples) -> tuple[float, float]:
    """The mean and SD of a pixel in 0..1, rounded as those of the known data sets are."""
    counts = np.zeros(256, np.int64)
    for chunk_NHW in examples.images_NHW.split(1000):
        counts += np.bincount(chunk_NHW.numpy().reshape(-1), minlength=256)
    levels = np.arange(256)
    mean = float(np.average(levels, weights=counts))
    std = math.sqrt(float(np.average((levels - mean) ** 2, weights=counts)))
    return round(mean / 255, 4), max(1e-3, round(std / 255, 4))


def _check_classes(path: Path, names: set[str]) -> None:
    if not names:
        raise _unusable(path, "It has no labels")
    if not all(0 < len(name) <= 64 and name.isprintable() for name in names):
        raise _unusable(path, "A label is empty, longer than 64 characters, or not printable")
    if len(names) > MAX_CLASSES:
        some = ", ".join(sorted(names, key=_natural_order)[:5])
        raise _unusable(
            path, f"It has {len(names):,} classes ({some} …), and {MAX_CLASSES} are the most"
        )


def _natural_order(name: str) -> tuple[bool, int, str]:
    """Numbers by their value, then other names."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 19
    return not is_number, int(name) if is_number else 0, name


def _read_table(files: tuple[Path, ...]) -> OwnImages:
    (path,) = files
    table = read_image_table(path)
    if not table.labels:
        raise _unusable(path, "It has no column with labels")
    part = _make_part(path, table.pixels_ND, table.labels)
    return make_own_images(path, {"train": part}, notes=[f"Labels: {table.label_column}."])


def _read_npz(files: tuple[Path, ...]) -> OwnImages:
    (path,) = files
    try:
        require_readable(path)
        if not zipfile.is_zipfile(path):
            raise _unusable(path, "It is not an archive of NumPy arrays")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            known = [names for names in _NPZ_NAMES if set(names["train"]) <= set(arrays.files)]
            if not known:
                found = shorten(", ".join(arrays.files))
                raise ImageArrayError(f"Its arrays are {found}, not x_train, y_train or others")
            parts: dict[DataSplit, Part] = {}
            for part, (images, labels) in known[0].items():
                if images in arrays.files and labels in arrays.files:
                    _check_size(path, images, labels)
                    parts[part] = arrays[images], _label_names(arrays[labels])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        why = shorten(first_line(error))
        if "allow_pickle" in why:
            why = "It holds Python objects, which could run code when they are loaded"
        raise _unusable(path, why) from error
    return make_own_images(path, parts)


def _check_size(path: Path, *names: str) -> None:
    """Refuse arrays that are larger than can be used once they are unpacked."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            num_bytes = archive.getinfo(f"{name}.npy").file_size
            if num_bytes > MAX_IMAGES * 784:
                raise ImageArrayError(f"{name} has {num_bytes / 1e9:.1f} GB")


def _label_names(labels: NDArray[np.generic]) -> list[str]:
    """The names of classes in an array: text, whole numbers, or rows with a single 1."""
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iufb":
        labels = labels.argmax(axis=1)
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f":
        flat = flat.astype(np.int64)
    return [str(label) for label in flat.tolist()]


def _read_idx(files: tuple[Path, ...]) -> OwnImages:
    parts: dict[DataSplit, Part] = {}
    splits: tuple[DataSplit, ...] = ("train", "test")
    for part, start in zip(splits, range(0, len(files), 2), strict=False):
        images_NHW, labels_N = _read_idx_file(files[start]), _read_idx_file(files[start + 1])
        parts[part] = _make_part(files[start], images_NHW, [*map(str, labels_N.tolist())])
    return make_own_images(files[0], parts)


def _read_idx_file(path: Path) -> NDArray[np.uint8]:
    try:
        require_readable(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_IMAGES * 784 + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unusable(path, getattr(error, "strerror", None) or first_line(error)) from error
    return read_idx(content, name=f"'{path}'", fix="Copy or download it again.")


def _make_part(path: Path, images: NDArray[np.generic], labels: Sequence[str]) -> Part:
    """The images and labels of a file; EMNIST's, known by its name, upright and as characters."""
    if not path.name.lower().startswith("emnist"):
        return images, labels
    try:
        upright_NHW = as_images(images).transpose(0, 2, 1)
    except ImageArrayError as error:
        raise _unusable(path, str(error)) from error
    names = _emnist_names(path)
    return upright_NHW, [names.get(label, label) for label in labels]


def _emnist_names(path: Path) -> dict[str, str]:
    """The characters that EMNIST's labels stand for, from the mapping file beside its data.

    Each of its lines is a label and the codes of its characters: "1 65 97" for A and a. Empty for
    other data, and where there is no such file.
    """
    found = re.match(r"emnist-\w+", path.name.lower())
    if not found:
        return {}
    with suppress(OSError, ValueError, OverflowError):  # a damaged mapping is none
        text = (path.parent / f"{found[0]}-mapping.txt").read_text(encoding="ascii")
        rows = [line.split() for line in text.splitlines() if line.strip()]
        return {label: chr(int(code)) for label, code, *_ in rows}
    return {}


def _unusable(path: Path, why: str) -> DataError:
    return DataError(
        f"'{path}' cannot be used as a data set.",
        why=f"{why.rstrip('.')}.",
        fix=FORMS,
    )


_READERS: dict[Form, Callable[[tuple[Path, ...]], OwnImages]] = {
    "table": _read_table,
    "npz": _read_npz,
    "idx": _read_idx,
}
