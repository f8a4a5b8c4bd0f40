"""The data sets, their files and checksums, and loading them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from mnistcli.config.choices import DatasetName, DataSplit, values
from mnistcli.data.datasets import (
    DATASETS,
    Dataset,
    get_dataset,
    has_all_files,
    load_dataset,
    missing_dataset,
    resolve_data_dir,
)
from mnistcli.errors import DataError, SettingsError
from tests.helpers.small_mnist import (
    GZ_NAMES,
    NUM_TRAIN,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    arrays,
    change_a_byte,
    idx,
    packed,
    put_data,
    small_mnist,
    unpacked,
)

PACKED_OR_NOT = pytest.mark.parametrize("files", [packed(), unpacked()], ids=["gz", "unpacked"])


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_checksums_and_folders_are_torchvisions(dataset: Dataset) -> None:
    if dataset.files:
        cls = getattr(torchvision.datasets, dataset.folder)
        assert [(f"{file.name}.gz", file.gz_md5) for file in dataset.files] == cls.resources
        assert cls.mirrors
    assert len(set(dataset.classes)) == 10


def test_the_options_offer_every_data_set() -> None:
    assert tuple(DATASETS) == values(DatasetName)


def test_an_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(SettingsError, match="fashon") as caught:
        get_dataset("fashon-mnist")
    assert caught.value.fix == "Did you mean fashion-mnist?"


def test_the_data_directory_is_the_option_then_the_environments_then_the_cache() -> None:
    environ = {"MNIST_DATA_DIR": "/from/environment"}
    assert resolve_data_dir(Path("option"), environ) == Path("option")
    assert resolve_data_dir(None, environ) == Path("/from/environment")
    cache_dir = resolve_data_dir(None, {})
    assert cache_dir.name == "mnist"
    assert cache_dir.is_absolute()
    assert resolve_data_dir(None, {"MNIST_DATA_DIR": ""}) == cache_dir


def test_a_tilde_is_the_home_directory_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve_data_dir(None, {"MNIST_DATA_DIR": "~/data"}) == Path("/home/me/data")
    assert resolve_data_dir("~", {}) == Path("/home/me")
    assert resolve_data_dir("a/~", {}) == Path("a/~")
    assert resolve_data_dir("~nobody-here/data", {}) == Path("~nobody-here/data")
    with pytest.raises(DataError, match="nobody-here"):
        get_dataset("~nobody-here/data")


@pytest.mark.mnist
def test_the_mean_std_and_sizes_of_mnist_are_the_measured_ones(mnist_dir: Path) -> None:
    mnist = DATASETS["mnist"]
    train = load_dataset(mnist, "train", mnist_dir)
    assert train.images_NHW.shape == (60_000, 28, 28)
    assert train.labels_N.bincount().tolist() == [
        *(5923, 6742, 5958, 6131, 5842),
        *(5421, 5918, 6265, 5851, 5949),
    ]
    pixels = train.images_NHW.double() / 255
    assert round(pixels.mean().item(), 4) == mnist.mean
    assert round(pixels.std().item(), 4) == mnist.std
    assert load_dataset(mnist, "test", mnist_dir).images_NHW.shape == (10_000, 28, 28)


@PACKED_OR_NOT
@pytest.mark.parametrize(
    ("split", "images_name", "labels_name"),
    [("train", TRAIN_IMAGES, TRAIN_LABELS), ("test", TEST_IMAGES, TEST_LABELS)],
)
def test_a_split_is_loaded_from_its_own_two_files(
    tmp_path: Path, files: dict[str, bytes], split: DataSplit, images_name: str, labels_name: str
) -> None:
    put_data(tmp_path, files)
    examples = load_dataset(small_mnist(), split, tmp_path)
    assert (examples.images_NHW.dtype, examples.labels_N.dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(examples.images_NHW.numpy(), arrays()[images_name])
    np.testing.assert_array_equal(examples.labels_N.numpy(), arrays()[labels_name])


@PACKED_OR_NOT
def test_a_changed_byte_is_an_error_that_names_the_file(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    path = next(put_data(tmp_path, files).glob(f"{TEST_LABELS}*"))
    change_a_byte(path)
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        load_dataset(small_mnist(), "test", tmp_path)
    assert "mnist download" in caught.value.fix
    assert len(load_dataset(small_mnist(), "train", tmp_path)) == NUM_TRAIN


def test_a_missing_data_set_names_the_files_the_directory_and_the_command(tmp_path: Path) -> None:
    folder = put_data(tmp_path, {f"{TRAIN_IMAGES}.gz": packed()[f"{TRAIN_IMAGES}.gz"]})
    with pytest.raises(DataError) as caught:
        load_dataset(small_mnist(), "train", tmp_path)
    error = caught.value
    assert error.exit_code == 3
    assert str(folder) in error.why
    assert [name in error.why for name in GZ_NAMES] == [False, True, True, True]
    assert "mnist download " in error.fix
    assert "--dataset" not in error.fix
    error = missing_dataset(DATASETS["kmnist"], tmp_path)
    assert "mnist download --dataset kmnist" in error.fix
    assert str(tmp_path / "KMNIST" / "raw") in error.why


@pytest.mark.parametrize(
    "other",
    [
        {TRAIN_LABELS: idx(np.zeros(NUM_TRAIN - 1, np.uint8))},
        {TRAIN_LABELS: idx(np.zeros((NUM_TRAIN, 1), np.uint8))},
        {TRAIN_IMAGES: idx(np.zeros((NUM_TRAIN, 27, 28), np.uint8))},
        {TRAIN_IMAGES: idx(np.zeros((NUM_TRAIN, 784), np.uint8))},
    ],
    ids=["a label short", "labels of two axes", "27x28", "flat images"],
)
def test_images_and_labels_that_do_not_fit_together_are_an_error(
    tmp_path: Path, other: dict[str, bytes]
) -> None:
    files = {**unpacked(), **other}
    put_data(tmp_path, files)
    with pytest.raises(DataError, match="do not fit together"):
        load_dataset(small_mnist(files), "train", tmp_path)


def test_an_unpacked_file_without_a_known_checksum_is_never_loaded(tmp_path: Path) -> None:
    dataset = small_mnist(with_sha256=False)
    put_data(tmp_path, unpacked())
    assert not has_all_files(dataset, tmp_path)
    with pytest.raises(DataError, match="not on this machine"):
        load_dataset(dataset, "train", tmp_path)


@PACKED_OR_NOT
def test_a_data_set_is_complete_once_its_last_file_is_there(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    for name, content in files.items():
        assert not has_all_files(small_mnist(), tmp_path)
        put_data(tmp_path, {name: content})
    assert has_all_files(small_mnist(), tmp_path)
    assert has_all_files(DATASETS["digits"], tmp_path)
