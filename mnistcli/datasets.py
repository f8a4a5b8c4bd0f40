"""Where the data sets come from, their checksums, and loading them as uint8 tensors.

A file has its final name only once its checksum is right, and the checksum is
taken again whenever the file is loaded. Files lie as torchvision lays them
(`<data dir>/MNIST/raw/…`), so that both can use one directory.

Shapes: N images, H rows, W columns (28).
"""

import gzip
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import torch
import torch.nn.functional as F

from mnistcli import __version__
from mnistcli.batches import Examples
from mnistcli.errors import DataError, SettingsError, brief, unknown_name
from mnistcli.files import write_atomically

Split = Literal["train", "test"]

# Called with the file's name, the bytes that have come and, where known, all there are.
OnProgress = Callable[[str, int, int | None], None]

TIMEOUT_SECONDS = 20.0
TRIES_A_MIRROR = 2
CHUNK_BYTES = 1 << 16
# The largest file, KMNIST's training images, has 18 MB.
MAX_FILE_BYTES = 64 << 20
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class DataFile:
    """One IDX file: the published MD5 of its `.gz`, and the SHA-256 of its content if known."""

    name: str
    gz_md5: str
    sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """A set of 28x28 pictures in ten classes.

    `mean` and `std` are those of a training pixel in 0..1. `folder` is also
    the name of torchvision's class, which knows the mirrors; a data set
    without files needs no download.
    """

    name: str
    summary: str
    mean: float
    std: float
    classes: tuple[str, ...]
    folder: str = ""
    files: tuple[DataFile, ...] = ()

    def pair(self, split: Split) -> tuple[DataFile, DataFile]:
        """The files with the images and the labels of `split`."""
        images, labels = self.files[:2] if split == "train" else self.files[2:]
        return images, labels


@dataclass(frozen=True)
class FileState:
    """What became of one file. `source` says where its content came from, if anywhere."""

    name: str
    state: Literal["verified", "downloaded", "imported", "missing", "damaged"]
    path: Path
    source: str = ""


def _files(*checksums: tuple[str, str]) -> tuple[DataFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        DataFile(f"{name}-ubyte", md5, sha256)
        for name, (md5, sha256) in zip(names, checksums, strict=True)
    )


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mnist",
            "60,000 + 10,000 handwritten digits (LeCun, Cortes, Burges)",
            mean=0.1307,
            std=0.3081,
            classes=DIGITS,
            folder="MNIST",
            files=_files(
                (
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                (
                    "d53e105ee54ea40749a09fcbcd1e9432",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
                (
                    "9fb629c4189551a2d022fa330f9573f3",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                (
                    "ec29112dd5afa0611ce80d1b7f02629c",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
        ),
        Dataset(
            "fashion-mnist",
            "60,000 + 10,000 pictures of clothes (Xiao, Rasul, Vollgraf 2017)",
            mean=0.2860,
            std=0.3530,
            classes=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            folder="FashionMNIST",
            files=_files(
                ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", ""),
                ("25c81989df183df01b3e8a0aad5dffbe", ""),
                ("bef4ecab320f06d8554ea6380940ec79", ""),
                ("bb300cfdad3c16e7a12a480ee83cd310", ""),
            ),
        ),
        Dataset(
            "kmnist",
            "60,000 + 10,000 cursive Japanese characters (Clanuwat et al. 2018)",
            mean=0.1918,
            std=0.3483,
            classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            folder="KMNIST",
            files=_files(
                ("bdb82020997e1d708af4cf47b453dcf7", ""),
                ("e144d726b3acfaa3e44228e80efcd344", ""),
                ("5c965bf0a639b31b8f53240b1b52f4d7", ""),
                ("7320c461ea6c1c855c0b718fb2a4b134", ""),
            ),
        ),
        Dataset(
            "digits",
            "1,437 + 360 handwritten digits that come with scikit-learn",
            mean=0.1593,
            std=0.2980,
            classes=DIGITS,
        ),
    )
}


def dataset(name: str) -> Dataset:
    """The data set called `name`; raises SettingsError with the nearest name."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def pick_data_dir(wanted: Path | None, environ: Mapping[str, str]) -> Path:
    """The directory for all data sets: `wanted`, `MNIST_DATA_DIR`, or the platform's cache."""
    from platformdirs import user_cache_path

    if wanted:
        return wanted
    from_environment = environ.get("MNIST_DATA_DIR")
    return Path(from_environment) if from_environment else user_cache_path("mnist")


def load(dataset: Dataset, split: Split, data_dir: Path) -> Examples:
    """The training or test examples, checked: images uint8 (N, 28, 28), labels int64 (N,) 0..9.

    Raises:
        DataError: a file is missing or is not the published one.
    """
    if not dataset.files:
        return _load_digits(split)
    images_file, labels_file = dataset.pair(split)
    folder = _folder(dataset, data_dir)
    images_NHW = read_idx(_read_verified(images_file, folder, dataset), name=images_file.name)
    labels_N = read_idx(_read_verified(labels_file, folder, dataset), name=labels_file.name)
    if images_NHW.shape[1:] != (28, 28) or labels_N.shape != images_NHW.shape[:1]:
        raise DataError(
            f"The {split} files of {dataset.name} do not fit together.",
            why=f"They hold arrays of shape {images_NHW.shape} and {labels_N.shape}.",
            fix=_download_command(dataset),
        )
    return Examples(torch.from_numpy(images_NHW), torch.from_numpy(labels_N.astype(np.int64)))


def read_idx(content: bytes, *, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The uint8 array in an IDX file: two zeros, type 8, the number of axes, sizes, values.

    `name` is for the message. Format: the page of the MNIST database,
    "THE IDX FILE FORMAT".

    Raises:
        DataError: the content is no such array or not all of it.
    """
    num_axes = content[3] if len(content) > 3 else 0
    header_bytes = 4 + 4 * num_axes
    if content[:3] != b"\x00\x00\x08" or num_axes == 0 or len(content) < header_bytes:
        raise DataError(f"{name} is no IDX file of bytes.", fix="Get it again: mnist download")
    shape = tuple(np.frombuffer(content[4:header_bytes], ">u4").tolist())
    expected_bytes = int(np.prod(shape, dtype=object))
    if len(content) - header_bytes != expected_bytes:
        raise DataError(
            f"{name} is damaged.",
            why=f"Its header promises {brief(f'{expected_bytes:,}')} values, "
            f"{len(content) - header_bytes:,} are there.",
            fix="Get it again: mnist download",
        )
    try:
        return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape).copy()
    except ValueError as error:  # more axes than NumPy has, or a size of 0 beside huge ones
        raise DataError(
            f"{name} is damaged.", why=f"{error}.", fix="Get it again: mnist download"
        ) from error


def verify(dataset: Dataset, data_dir: Path) -> list[FileState]:
    """The state of each file: verified, missing or damaged. Changes nothing."""
    folder = _folder(dataset, data_dir)
    return [_state(file, folder) for file in dataset.files]


def is_complete(dataset: Dataset, data_dir: Path) -> bool:
    """Whether every file is there; their checksums are taken when they are loaded."""
    folder = _folder(dataset, data_dir)
    return all(_find(file, folder) for file in dataset.files)


def check(dataset: Dataset, states: Sequence[FileState]) -> None:
    """Raise DataError, naming them, if files are missing or damaged."""
    bad = [state for state in states if state.state in ("missing", "damaged")]
    if bad:
        raise DataError(
            f"The data set {dataset.name} is not complete.",
            why="\n".join(f"{state.path} is {state.state}." for state in bad),
            fix=_download_command(dataset),
        )


def missing(dataset: Dataset, data_dir: Path) -> DataError:
    """The error that says what is missing, where, and how to get it."""
    folder = _folder(dataset, data_dir)
    names = [f"{file.name}.gz" for file in dataset.files if not _find(file, folder)]
    return DataError(
        f"The data set {dataset.name} is not on this machine.",
        why=f"{', '.join(names)} not found in {folder}.",
        fix=_download_command(dataset),
    )


def import_from(dataset: Dataset, data_dir: Path, source: Path) -> list[FileState]:
    """Copy the data set's files from `source`, where they lie as `.gz` or unpacked.

    A file that is already there and right is left alone.

    Raises:
        DataError: a file is not in `source`, is not the published one, or cannot be written.
    """
    if not dataset.files:
        return []
    if not source.is_dir():
        raise DataError(
            f"{source} is no directory.",
            why="Files are imported from a directory.",
            fix="Name the directory that holds the four IDX files.",
        )
    folder = _make_folder(dataset, data_dir)
    return [_import_file(file, folder, source, dataset) for file in dataset.files]


def download(
    dataset: Dataset,
    data_dir: Path,
    *,
    mirrors: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> list[FileState]:
    """Fetch what is missing or damaged, from `mirrors` and then from torchvision's.

    Raises:
        DataError: no mirror had a file, and of each mirror why; or it cannot be written.
        SettingsError: a mirror is no http or https address.
    """
    for mirror in mirrors:
        if not _is_web_address(mirror):
            raise SettingsError(
                f"'{mirror}' is no mirror.",
                why="A mirror is an http or https address that holds the .gz files.",
                fix="For files on this machine: mnist download --from DIR",
            )
    if not dataset.files:
        return []
    folder = _make_folder(dataset, data_dir)
    return [_fetch_file(file, folder, dataset, mirrors, on_progress) for file in dataset.files]


def _is_web_address(text: str) -> bool:
    try:
        address = urlsplit(text)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def _folder(dataset: Dataset, data_dir: Path) -> Path:
    return data_dir / dataset.folder / "raw"


def _make_folder(dataset: Dataset, data_dir: Path) -> Path:
    folder = _folder(dataset, data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _write(target: Path, content: bytes) -> None:
    try:
        write_atomically(target, lambda handle: handle.write(content))
    except OSError as error:
        raise _unwritable(target.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"Cannot write to {folder}.",
        why=f"{error.strerror}.",
        fix="Choose another directory: --data-dir DIR, or set MNIST_DATA_DIR",
    )


def _find(file: DataFile, folder: Path) -> Path | None:
    """The file as `.gz`, else unpacked where its checksum is known; None if neither is there."""
    packed, unpacked = folder / f"{file.name}.gz", folder / file.name
    if packed.is_file():
        return packed
    return unpacked if file.sha256 and unpacked.is_file() else None


def _is_published(path: Path, content: bytes, file: DataFile) -> bool:
    if path.suffix == ".gz":
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == file.gz_md5
    return bool(file.sha256) and hashlib.sha256(content).hexdigest() == file.sha256


def _state(file: DataFile, folder: Path) -> FileState:
    path = _find(file, folder)
    if path is None:
        return FileState(file.name, "missing", folder / f"{file.name}.gz")
    good = _is_published(path, path.read_bytes(), file)
    return FileState(file.name, "verified" if good else "damaged", path)


def _read_verified(file: DataFile, folder: Path, dataset: Dataset) -> bytes:
    """The unpacked content of a file whose checksum is right."""
    path = _find(file, folder)
    if path is None:
        raise missing(dataset, folder.parents[1])
    content = path.read_bytes()
    if not _is_published(path, content, file):
        raise DataError(
            f"{path} is damaged.",
            why="Its checksum is not the published one.",
            fix=_download_command(dataset),
        )
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _download_command(dataset: Dataset) -> str:
    option = "" if dataset.name == "mnist" else f" --dataset {dataset.name}"
    return f"Get it: mnist download{option}   (files at hand: mnist download{option} --from DIR)"


def _import_file(file: DataFile, folder: Path, source: Path, dataset: Dataset) -> FileState:
    state = _state(file, folder)
    if state.state == "verified":
        return state
    places = (source, source / "raw", source / dataset.folder / "raw")
    names = (f"{file.name}.gz", file.name)
    found = [place / name for name in names for place in places if (place / name).is_file()]
    if not found:
        raise DataError(
            f"{source} does not hold {file.name}.",
            why=f"Neither {file.name}.gz nor {file.name} is there.",
            fix="Name the directory that holds the four IDX files.",
        )
    content = found[0].read_bytes()
    if not _is_published(found[0], content, file):
        checkable = found[0].suffix == ".gz" or file.sha256
        raise DataError(
            f"{found[0]} is not the published file of {dataset.name}.",
            why="Its checksum is wrong." if checkable else "Only its .gz has a published checksum.",
            fix=f"Download it instead: mnist download --dataset {dataset.name}",
        )
    target = folder / found[0].name
    _write(target, content)
    if target.suffix != ".gz":
        # A damaged one would be preferred to what has just been imported.
        (folder / f"{file.name}.gz").unlink(missing_ok=True)
    return FileState(file.name, "imported", target, str(found[0]))


def _fetch_file(
    file: DataFile,
    folder: Path,
    dataset: Dataset,
    mirrors: Sequence[str],
    on_progress: OnProgress | None,
) -> FileState:
    state = _state(file, folder)
    if state.state == "verified":
        return state
    target = folder / f"{file.name}.gz"
    failures = []
    for mirror in _all_mirrors(dataset, mirrors):
        url = f"{mirror.rstrip('/')}/{file.name}.gz"
        failure = _try_mirror(url, target, file, on_progress)
        if not failure:
            return FileState(file.name, "downloaded", target, url)
        failures.append(f"{mirror}: {failure}")
    raise DataError(
        f"No mirror gave {file.name}.gz.",
        why="\n".join(failures),
        fix="Try again later, name a mirror (mnist download --mirror URL), or import files "
        "you have (mnist download --from DIR).",
    )


def _all_mirrors(dataset: Dataset, mirrors: Sequence[str]) -> Iterator[str]:
    yield from dict.fromkeys(mirrors)
    # Imported only when the given mirrors have failed: it takes seconds.
    import torchvision.datasets

    usual = getattr(torchvision.datasets, dataset.folder).mirrors
    yield from (mirror for mirror in usual if mirror not in mirrors)


def _try_mirror(url: str, target: Path, file: DataFile, on_progress: OnProgress | None) -> str:
    """Fetch `url` to `target`; what went wrong, or nothing."""
    failure = ""
    for attempt in range(TRIES_A_MIRROR):
        if attempt:
            time.sleep(1.0)
        try:
            content = _fetch(url, file, on_progress)
        except HTTPError as error:
            error.close()
            failure = f"HTTP status {error.code}"
            if error.code < 500:
                return failure
        except (_WrongContentError, UnicodeError) as error:
            return str(error)
        except (OSError, HTTPException) as error:
            failure = _in_words(error)
        else:
            _write(target, content)
            return ""
    return failure


def _in_words(error: OSError | HTTPException) -> str:
    """What a failed connection says of itself, without the error's number."""
    reason = getattr(error, "reason", error)
    words = str(getattr(reason, "strerror", None) or reason)
    return " ".join(words.split()) or type(error).__name__


class _WrongContentError(Exception):
    """A mirror answered with something that is not the published file."""


def _fetch(url: str, file: DataFile, on_progress: OnProgress | None) -> bytes:
    """What `url` answers; raises unless it is the published file."""
    request = Request(url, headers={"User-Agent": f"mnistcli/{__version__}"})  # noqa: S310
    content = bytearray()
    with urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 (http only)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        while chunk := response.read(CHUNK_BYTES):
            content += chunk
            if len(content) > MAX_FILE_BYTES:
                raise _WrongContentError(f"more than {MAX_FILE_BYTES >> 20} MiB came")
            if on_progress:
                on_progress(file.name, len(content), total)
    if len(content) < (total or 0):
        raise ConnectionError(f"ended after {len(content):,} of {total:,} bytes")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.gz_md5:
        raise _WrongContentError(f"wrong checksum ({len(content):,} bytes came)")
    return bytes(content)


def _load_digits(split: Split) -> Examples:
    """Scikit-learn's digits, drawn as MNIST draws its own: in 20x20, centred by mass in 28x28.

    The 1,797 pictures of 8x8 (0..16) come from 13 writers, one after another;
    the last 360 are the test set, so that most of its writers are new.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small_NHW = torch.from_numpy(bunch.images).float()
    ink_NHW = F.interpolate(small_NHW.unsqueeze(1), size=(20, 20), mode="bicubic").squeeze(1)
    images_NHW = _centre_by_mass((ink_NHW * (255 / 16)).clamp(0, 255))
    labels_N = torch.from_numpy(bunch.target.astype(np.int64))
    chosen = slice(None, -360) if split == "train" else slice(-360, None)
    return Examples(images_NHW[chosen], labels_N[chosen])


def _centre_by_mass(ink_NHW: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 20, 20) in 0..255, shifted into the middle of uint8 (N, 28, 28)."""
    places = torch.arange(20.0)
    mass_N = ink_NHW.sum(dim=(1, 2))
    top_N = (13.5 - (ink_NHW.sum(dim=2) * places).sum(dim=1) / mass_N).round().clamp(0, 8)
    left_N = (13.5 - (ink_NHW.sum(dim=1) * places).sum(dim=1) / mass_N).round().clamp(0, 8)
    images_NHW = torch.zeros(len(ink_NHW), 28, 28, dtype=torch.uint8)
    offsets = zip(top_N.int().tolist(), left_N.int().tolist(), strict=True)
    for image_HW, ink_HW, (top, left) in zip(images_NHW, ink_NHW, offsets, strict=True):
        image_HW[top : top + 20, left : left + 20] = ink_HW.round().to(torch.uint8)
    return images_NHW
