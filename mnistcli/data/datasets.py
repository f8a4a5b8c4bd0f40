"""The data sets: their names, checksums and classes, and loading them as uint8 tensors.

A file gets its final name only once its checksum is right, and the checksum is
verified again whenever the file is loaded. The layout is torchvision's
(`<data dir>/MNIST/raw/…`), so that both can share a directory.

Shapes: N images, H rows, W columns (28).
"""

import functools
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mnistcli.config.choices import DataSplit
from mnistcli.config.dataset_names import (
    data_path,
    dataset_title,
    is_own_data,
    require_dataset_name,
)
from mnistcli.config.settings import TrainSettings
from mnistcli.data.checksums import DataFile, find_files, find_sound
from mnistcli.data.examples import Examples
from mnistcli.data.idx import read_idx
from mnistcli.data.own_data import TEST_SHARE, OwnImages, pixel_moments, read_own_images
from mnistcli.data.sklearn_digits import load_digits
from mnistcli.data.splits import hold_out
from mnistcli.errors import DataError, shorten
from mnistcli.system.files import expand_home

DIGITS = tuple("0123456789")
# Test images of MNIST whose label fewer than three of five people chose, according to
# mturk/mnist_mturk.json in github.com/cleanlab/label-errors (Northcutt, Athalye and Mueller,
# "Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks", 2021).
DOUBTFUL_DIGITS = (
    *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520),
    *(3558, 5937, 6651, 6783, 8527, 9679, 9729),
)


@dataclass(frozen=True)
class Dataset:
    """A set of 28x28 images in classes: a known one, or a user's own.

    `mean` and `std` are those of a training pixel in 0..1. `folder` is also the
    name of torchvision's class, which knows the mirrors. `files` are the images
    and labels of the training set, then of the test set; a data set without
    files needs no download. `doubtful` are the indices of the test images whose
    label is doubted.

    A user's own has its absolute path as `name`, and the `digest` of its content. If it has no test
    part, `test_seed` decides which images are held out; without a seed, all are training images and
    all are test images.
    """

    name: str
    summary: str
    mean: float
    std: float
    classes: tuple[str, ...]
    folder: str = ""
    files: tuple[DataFile, ...] = ()
    doubtful: tuple[int, ...] = ()
    digest: str = ""
    test_seed: int | None = None
    has_test_part: bool = True

    @property
    def title(self) -> str:
        """The name to show."""
        return dataset_title(self.name)

    @property
    def key(self) -> str:
        """What tells data sets apart, as `TrainSettings.data_key`."""
        return self.digest or self.name

    def with_classes(self, classes: tuple[str, ...]) -> "Dataset":
        """The data set with labels that are numbers of `classes`.

        Raises:
            DataError: one of its own is not among them.
        """
        unknown = sorted(set(self.classes) - set(classes))
        if unknown:
            raise DataError(
                f"The data set {self.title} has other classes than recorded.",
                why=f"There is no {shorten(', '.join(unknown))} in the settings or checkpoint.",
                fix="Restore the file, or train a new run.",
            )
        return replace(self, classes=classes)

    def pair(self, split: DataSplit) -> tuple[DataFile, DataFile]:
        """The files with the images and the labels of `split`."""
        images, labels = self.files[:2] if split == "train" else self.files[2:]
        return images, labels


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
            "60,000 + 10,000 images of clothes (Xiao, Rasul, Vollgraf 2017)",
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


def get_dataset(name: str, *, test_seed: int | None = None) -> Dataset:
    """The data set called `name`, or a user's own, whose path it is.

    Raises:
        SettingsError: it is neither a known name nor a path; with the nearest name.
        DataError: nothing usable is at the path.
    """
    name = require_dataset_name(name)
    if not is_own_data(name):
        return DATASETS[name]
    images = _read_own_images(name)
    if images.test is not None:
        test_seed = None
    mean, std = _training_moments(images, test_seed)
    return Dataset(
        name,
        f"{len(images.train):,} images of your own",
        mean=mean,
        std=std,
        classes=images.classes,
        digest=images.digest,
        test_seed=test_seed,
        has_test_part=images.test is not None,
    )


def open_dataset(settings: TrainSettings) -> Dataset:
    """The data set of a run, as it was when the run was started.

    In a user's own without a test part, the test images of a new run are held out by its seed.

    Raises:
        DataError: nothing usable is at its path, or its content is another than the run's.
    """
    recorded = settings.own_data
    dataset = get_dataset(
        settings.dataset, test_seed=recorded.test_seed if recorded else settings.seed
    )
    if not recorded:
        return dataset
    if recorded.digest != dataset.digest:
        raise changed_data(dataset)
    return dataset.with_classes(recorded.classes)


def changed_data(dataset: Dataset) -> DataError:
    """The error for a path at which other images are than a run was trained on."""
    return DataError(
        f"'{data_path(dataset.name)}' has changed since the run was trained on it.",
        why="Its images or labels are others, so the images held out cannot be told.",
        fix="Restore it, name the original (--dataset PATH), or train a new run on what it is now.",
    )


def _read_own_images(name: str) -> OwnImages:
    return read_own_images(name, resolve_data_dir(None, os.environ))


@functools.lru_cache(maxsize=1)  # commands open a data set several times
def _training_moments(images: OwnImages, test_seed: int | None) -> tuple[float, float]:
    train, _ = _own_parts(images, test_seed)
    return pixel_moments(train)


def _own_parts(images: OwnImages, test_seed: int | None) -> tuple[Examples, Examples]:
    """The training and the test images of a user's own data set."""
    if images.test is not None:
        return images.train, images.test
    if test_seed is None:
        return images.train, images.train
    return hold_out(images.train, TEST_SHARE, test_seed)


def resolve_data_dir(data_dir: str | Path | None, environ: Mapping[str, str]) -> Path:
    """The directory of all data sets: `data_dir`, `MNIST_DATA_DIR`, or the platform's cache."""
    from platformdirs import user_cache_path

    directory = data_dir or environ.get("MNIST_DATA_DIR")
    # Not every place that sets it expands "~", such as an .env file.
    return expand_home(directory) if directory else user_cache_path("mnist")


def load_dataset(dataset: Dataset, split: DataSplit, data_dir: Path) -> Examples:
    """The training or test examples: images uint8 (N, 28, 28), labels int64 (N,).

    Labels are the numbers of `dataset.classes`. A user's own data set is cached in the default
    directory, whatever `data_dir` is.

    Raises:
        DataError: a file is missing, its checksum is wrong, or a user's own data set has changed.
    """
    if dataset.digest:
        return _load_own(dataset, split)
    classes_in_files = DATASETS[dataset.name].classes
    if not dataset.files:
        return _relabel(load_digits(split), classes_in_files, dataset.classes)
    images_file, labels_file = dataset.pair(split)
    images_NHW = read_idx(_read_verified(images_file, dataset, data_dir), name=images_file.name)
    labels_N = read_idx(_read_verified(labels_file, dataset, data_dir), name=labels_file.name)
    if images_NHW.shape[1:] != (28, 28) or labels_N.shape != images_NHW.shape[:1]:
        raise DataError(
            f"The {split} files of {dataset.name} do not fit together.",
            why=f"Their arrays have the shapes {images_NHW.shape} and {labels_N.shape}.",
            fix=download_hint(dataset, data_dir),
        )
    examples = Examples(torch.from_numpy(images_NHW), torch.from_numpy(labels_N.astype(np.int64)))
    return _relabel(examples, classes_in_files, dataset.classes)


def _load_own(dataset: Dataset, split: DataSplit) -> Examples:
    images = _read_own_images(dataset.name)
    if images.digest != dataset.digest:
        raise changed_data(dataset)
    train, test = _own_parts(images, dataset.test_seed)
    examples = train if split == "train" else test
    return _relabel(examples, images.classes, dataset.classes)


def _relabel(examples: Examples, before: tuple[str, ...], classes: tuple[str, ...]) -> Examples:
    """Examples with labels that are numbers of `classes` instead of those `before`."""
    if before == classes:
        return examples
    numbers_K = torch.tensor([classes.index(name) for name in before])
    return Examples(examples.images_NHW, numbers_K[examples.labels_N])


def has_all_files(dataset: Dataset, data_dir: Path) -> bool:
    """Whether every file is there; checksums are verified when the data set is loaded."""
    folder = raw_folder(dataset, data_dir)
    return all(find_files(file, folder) for file in dataset.files)


def missing_dataset(dataset: Dataset, data_dir: Path) -> DataError:
    """The error that names the missing files, their directory and the command to get them."""
    folder = raw_folder(dataset, data_dir)
    names = [file.gz_name for file in dataset.files if not find_files(file, folder)]
    return DataError(
        f"The data set {dataset.name} is not on this machine.",
        why=f"{', '.join(names)} not found in {folder}.",
        fix=download_hint(dataset, data_dir),
    )


def raw_folder(dataset: Dataset, data_dir: Path) -> Path:
    """The directory of a data set's files."""
    return data_dir / dataset.folder / "raw"


def _read_verified(file: DataFile, dataset: Dataset, data_dir: Path) -> bytes:
    """The unpacked content of a file, its checksum verified."""
    paths = find_files(file, raw_folder(dataset, data_dir))
    if not paths:
        raise missing_dataset(dataset, data_dir)
    sound = find_sound(file, paths)
    if sound is None:
        raise DataError(
            f"{paths[0]} is damaged.",
            why="Its checksum is wrong.",
            fix=download_hint(dataset, data_dir),
        )
    return sound.unpacked


def download_hint(dataset: Dataset, data_dir: Path) -> str:
    """The commands that put a data set into `data_dir`, for an error message."""
    command = download_command(dataset, data_dir)
    return f"Get it: {command} (or import files: {command} --from DIR)"


def download_command(dataset: Dataset, data_dir: Path) -> str:
    """The command that downloads a data set into `data_dir`."""
    command = "mnist download" + ("" if dataset.name == "mnist" else f" --dataset {dataset.name}")
    if data_dir != resolve_data_dir(None, os.environ):
        command += f" --data-dir {shlex.quote(str(data_dir))}"
    return command
