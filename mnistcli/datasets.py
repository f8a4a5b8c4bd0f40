"""Where the data sets come from, their checksums, and loading them as uint8 tensors.

A file has its final name only once its checksum is right, and the checksum is
taken again whenever the file is loaded. Files lie as torchvision lays them
(`<data dir>/MNIST/raw/…`), so that both can use one directory.

Shapes: N images, H rows, W columns (28).
"""

import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from mnistcli.errors import DataError, shorten, unknown_name
from mnistcli.examples import Examples
from mnistcli.files import lock_directory, remove_stale_temporaries, write_atomically
from mnistcli.mirrors import MAX_FILE_BYTES, check_address, fetch

DataSplit = Literal["train", "test"]

# Called with the file's name, the bytes that have come and, where known, all there are.
OnDownloadProgress = Callable[[str, int, int | None], None]

DIGITS = tuple("0123456789")
# Test images of MNIST whose label fewer than three of five people chose, by the file
# mturk/mnist_mturk.json of github.com/cleanlab/label-errors (Northcutt, Athalye and Mueller,
# "Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks", 2021).
DOUBTFUL_DIGITS = (
    *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520),
    *(3558, 5937, 6651, 6783, 8527, 9679, 9729),
)


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
    without files needs no download. `doubtful` are the test images, by their
    place, whose label people doubt.
    """

    name: str
    summary: str
    mean: float
    std: float
    classes: tuple[str, ...]
    folder: str = ""
    files: tuple[DataFile, ...] = ()
    doubtful: tuple[int, ...] = ()

    def pair(self, split: DataSplit) -> tuple[DataFile, DataFile]:
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
            doubtful=DOUBTFUL_DIGITS,
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


def get_dataset(name: str) -> Dataset:
    """The data set called `name`; raises SettingsError with the nearest name."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def resolve_data_dir(wanted: Path | None, environ: Mapping[str, str]) -> Path:
    """The directory for all data sets: `wanted`, `MNIST_DATA_DIR`, or the platform's cache."""
    from platformdirs import user_cache_path

    if wanted:
        return wanted
    from_environment = environ.get("MNIST_DATA_DIR")
    return Path(from_environment) if from_environment else user_cache_path("mnist")


def load_dataset(dataset: Dataset, split: DataSplit, data_dir: Path) -> Examples:
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
            why=f"Its header promises {shorten(f'{expected_bytes:,}')} values, "
            f"{len(content) - header_bytes:,} are there.",
            fix="Get it again: mnist download",
        )
    try:
        return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape).copy()
    except ValueError as error:  # more axes than NumPy has, or a size of 0 beside huge ones
        raise DataError(
            f"{name} is damaged.", why=f"{error}.", fix="Get it again: mnist download"
        ) from error


def verify_files(dataset: Dataset, data_dir: Path) -> list[FileState]:
    """The state of each file: verified, missing or damaged. Changes nothing."""
    folder = _folder(dataset, data_dir)
    return [_state(file, folder) for file in dataset.files]


def has_all_files(dataset: Dataset, data_dir: Path) -> bool:
    """Whether every file is there; their checksums are taken when they are loaded."""
    folder = _folder(dataset, data_dir)
    return all(_find(file, folder) for file in dataset.files)


def require_complete(dataset: Dataset, states: Sequence[FileState]) -> None:
    """Raise DataError, naming them, if files are missing or damaged."""
    bad = [state for state in states if state.state in ("missing", "damaged")]
    if bad:
        raise DataError(
            f"The data set {dataset.name} is not complete.",
            why="\n".join(f"{state.path} is {state.state}." for state in bad),
            fix=_download_command(dataset),
        )


def missing_dataset(dataset: Dataset, data_dir: Path) -> DataError:
    """The error that says what is missing, where, and how to get it."""
    folder = _folder(dataset, data_dir)
    names = [f"{file.name}.gz" for file in dataset.files if not _find(file, folder)]
    return DataError(
        f"The data set {dataset.name} is not on this machine.",
        why=f"{', '.join(names)} not found in {folder}.",
        fix=_download_command(dataset),
    )


def import_files(
    dataset: Dataset, data_dir: Path, source: Path, *, on_wait: Callable[[], None] = lambda: None
) -> list[FileState]:
    """Copy the data set's files from `source`, where they lie as `.gz` or unpacked.

    A file that is already there and right is left alone. One process at a time
    writes to a data set; `on_wait` is called if that is another one.

    Raises:
        DataError: a file is not in `source`, is not the published one, or cannot be read or
            written.
    """
    if dataset.files and not source.is_dir():
        raise DataError(
            f"{source} is no directory.",
            why="Files are imported from a directory.",
            fix="Name the directory that holds the four IDX files.",
        )
    return _repair(
        dataset, data_dir, lambda file, folder: _import_file(file, folder, source, dataset), on_wait
    )


def download_dataset(
    dataset: Dataset,
    data_dir: Path,
    *,
    mirrors: Sequence[str] = (),
    on_progress: OnDownloadProgress | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> list[FileState]:
    """Fetch what is missing or damaged, from `mirrors` and then from torchvision's.

    One process at a time writes to a data set; `on_wait` is called if that is
    another one. What that one has got is not fetched again.

    Raises:
        DataError: no mirror had a file, and of each mirror why; or it cannot be written.
        SettingsError: a mirror is no http or https address.
    """
    for mirror in mirrors:
        check_address(mirror)
    return _repair(
        dataset,
        data_dir,
        lambda file, folder: _fetch_file(file, folder, _all_mirrors(dataset, mirrors), on_progress),
        on_wait,
    )


def _repair(
    dataset: Dataset,
    data_dir: Path,
    get: Callable[[DataFile, Path], FileState],
    on_wait: Callable[[], None],
) -> list[FileState]:
    """Let `get` get each file that is not there or not right, while no other process does."""
    states = verify_files(dataset, data_dir)
    if all(state.state == "verified" for state in states):
        return states
    folder = _folder(dataset, data_dir)
    with _lock_folder(folder, on_wait):
        remove_stale_temporaries(folder)
        return [_get_unless_verified(file, folder, get) for file in dataset.files]


def _get_unless_verified(
    file: DataFile, folder: Path, get: Callable[[DataFile, Path], FileState]
) -> FileState:
    state = _state(file, folder)
    return state if state.state == "verified" else get(file, folder)


@contextmanager
def _lock_folder(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """The folder, made if need be, for this process alone."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_directory(folder, wait=on_wait))
        except OSError as error:
            raise _unwritable_error(folder, error) from error
        yield


def _folder(dataset: Dataset, data_dir: Path) -> Path:
    return data_dir / dataset.folder / "raw"


def _write(target: Path, content: bytes) -> None:
    try:
        write_atomically(target, lambda handle: handle.write(content))
    except OSError as error:
        raise _unwritable_error(target.parent, error) from error


def _unwritable_error(folder: Path, error: OSError) -> DataError:
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


def _read(path: Path) -> bytes:
    """The content of a file, up to one byte more than a published one may have."""
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"Cannot read {path}.", why=f"{error.strerror}.", fix="Check the file and its rights."
        ) from error


def _is_published(path: Path, content: bytes, file: DataFile) -> bool:
    if path.suffix == ".gz":
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == file.gz_md5
    return bool(file.sha256) and hashlib.sha256(content).hexdigest() == file.sha256


def _state(file: DataFile, folder: Path) -> FileState:
    path = _find(file, folder)
    if path is None:
        return FileState(file.name, "missing", folder / f"{file.name}.gz")
    good = _is_published(path, _read(path), file)
    return FileState(file.name, "verified" if good else "damaged", path)


def _read_verified(file: DataFile, folder: Path, dataset: Dataset) -> bytes:
    """The unpacked content of a file whose checksum is right."""
    path = _find(file, folder)
    if path is None:
        raise missing_dataset(dataset, folder.parents[1])
    content = _read(path)
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
    places = (source, source / "raw", source / dataset.folder / "raw")
    names = (f"{file.name}.gz", file.name)
    found = [place / name for name in names for place in places if (place / name).is_file()]
    if not found:
        raise DataError(
            f"{source} does not hold {file.name}.",
            why=f"Neither {file.name}.gz nor {file.name} is a file there.",
            fix="Name the directory that holds the four IDX files.",
        )
    content = _read(found[0])
    if not _is_published(found[0], content, file):
        raise DataError(
            f"{found[0]} is not the published file of {dataset.name}.",
            why=_why_unpublished(found[0], content, file),
            fix=f"Download it instead: mnist download --dataset {dataset.name}",
        )
    target = folder / found[0].name
    _write(target, content)
    damaged = folder / f"{file.name}.gz"
    if target != damaged and damaged.is_file():  # it would be preferred to what was imported
        damaged.unlink()
    return FileState(file.name, "imported", target, str(found[0]))


def _why_unpublished(path: Path, content: bytes, file: DataFile) -> str:
    if path.suffix != ".gz" and not file.sha256:
        return "Only its .gz has a published checksum."
    if len(content) > MAX_FILE_BYTES:
        return f"It has more than {MAX_FILE_BYTES >> 20} MiB."
    return "Its checksum is wrong."


def _fetch_file(
    file: DataFile, folder: Path, mirrors: Iterable[str], on_progress: OnDownloadProgress | None
) -> FileState:
    target = folder / f"{file.name}.gz"
    note = partial(on_progress, file.name) if on_progress else None
    fetched = fetch(target.name, mirrors, md5=file.gz_md5, on_progress=note)
    _write(target, fetched.content)
    return FileState(file.name, "downloaded", target, fetched.url)


def _all_mirrors(dataset: Dataset, mirrors: Sequence[str]) -> Iterator[str]:
    yield from dict.fromkeys(mirrors)
    # Imported only when the given mirrors have failed: it takes seconds.
    import torchvision.datasets

    usual = getattr(torchvision.datasets, dataset.folder).mirrors
    yield from (mirror for mirror in usual if mirror not in mirrors)


def _load_digits(split: DataSplit) -> Examples:
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
