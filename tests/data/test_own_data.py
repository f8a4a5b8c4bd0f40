"""Users' own data sets: forms, classes, held-out images, digests, and what is kept of them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistcli.data import own_data
from mnistcli.data.datasets import get_dataset, load_dataset, open_dataset, resolve_data_dir
from mnistcli.data.examples import Examples
from mnistcli.errors import DataError, SettingsError
from tests.helpers.own_data import digit_arrays, write_idx, write_npz, write_table
from tests.helpers.settings import resolve

IMAGES, LABELS = digit_arrays(60)


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNIST_DATA_DIR", str(tmp_path / "data"))
    own_data._latest.clear()
    return tmp_path / "data"


def load(path: Path, split: Any = "train", *, test_seed: int | None = None) -> Examples:
    return load_dataset(get_dataset(str(path), test_seed=test_seed), split, Path())


def write_all_idx(folder: Path, names: tuple[str, str, str, str]) -> Path:
    folder.mkdir()
    train_images, train_labels, test_images, test_labels = names
    write_idx(folder / train_images, IMAGES[:40])
    write_idx(folder / train_labels, LABELS[:40])
    write_idx(folder / test_images, IMAGES[40:])
    write_idx(folder / test_labels, LABELS[40:])
    return folder


def test_a_csv_file_is_a_data_set(tmp_path: Path) -> None:
    path = write_table(tmp_path / "train.csv", IMAGES, LABELS)
    dataset = get_dataset("train.csv")
    assert (dataset.name, dataset.title) == (str(path), "train.csv")
    assert dataset.classes == tuple("0123456789")
    assert (dataset.has_test_part, dataset.test_seed) == (False, None)
    assert round(dataset.mean, 3) == round(float((IMAGES / 255).mean()), 3)
    assert round(dataset.std, 3) == round(float((IMAGES / 255).std()), 3)
    examples = load(path)
    np.testing.assert_array_equal(examples.images_NHW.numpy(), IMAGES)
    assert examples.labels_N.tolist() == LABELS
    assert examples.labels_N.dtype == torch.int64


def test_one_image_in_ten_is_held_out_by_the_seed(tmp_path: Path) -> None:
    path = write_table(tmp_path / "train.csv", IMAGES, LABELS)
    train, test = load(path, test_seed=0), load(path, "test", test_seed=0)
    assert (len(train), len(test)) == (54, 6)
    whole = torch.cat([train.images_NHW, test.images_NHW]).flatten(1)
    assert sorted(whole.tolist()) == sorted(IMAGES.reshape(60, 784).tolist())
    again, other = load(path, "test", test_seed=0), load(path, "test", test_seed=1)
    assert torch.equal(again.images_NHW, test.images_NHW)
    assert not torch.equal(other.images_NHW, test.images_NHW)
    assert len(load(path, "test")) == len(load(path)) == 60


def test_keras_npz_has_a_test_part(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "mnist.npz",
        x_train=IMAGES[:40],
        y_train=np.array(LABELS[:40]),
        x_test=IMAGES[40:],
        y_test=np.array(LABELS[40:]),
    )
    np.testing.assert_array_equal(load(path).images_NHW.numpy(), IMAGES[:40])
    assert load(path, "test", test_seed=5).labels_N.tolist() == LABELS[40:]
    assert get_dataset(str(path), test_seed=5).test_seed is None


def test_an_npz_of_images_and_labels_has_none(tmp_path: Path) -> None:
    one_hot = np.eye(10)[LABELS]
    path = write_npz(tmp_path / "a.npz", images=IMAGES / 255, labels=one_hot)
    assert not get_dataset(str(path)).has_test_part
    np.testing.assert_array_equal(load(path).images_NHW.numpy(), IMAGES)
    assert load(path).labels_N.tolist() == LABELS


@pytest.mark.parametrize(
    "names",
    [
        (
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ),
        (
            "train-images.idx3-ubyte",
            "train-labels.idx1-ubyte",
            "t10k-images.idx3-ubyte",
            "t10k-labels.idx1-ubyte",
        ),
        (
            "my-train-images-idx3-ubyte",
            "my-train-labels-idx1-ubyte.gz",
            "my-test-images-idx3-ubyte.gz",
            "my-test-labels-idx1-ubyte",
        ),
    ],
    ids=["published", "with points", "others"],
)
@pytest.mark.parametrize("by_file", [False, True], ids=["directory", "file"])
def test_idx_files_are_found_by_their_names(
    tmp_path: Path, names: tuple[str, str, str, str], by_file: bool
) -> None:
    folder = write_all_idx(tmp_path / "idx", names)
    path = folder / names[0] if by_file else folder
    np.testing.assert_array_equal(load(path).images_NHW.numpy(), IMAGES[:40])
    assert load(path, "test").labels_N.tolist() == LABELS[40:]


def test_a_pair_of_idx_files_has_no_test_part(tmp_path: Path) -> None:
    write_idx(tmp_path / "images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "labels-idx1-ubyte", LABELS)
    assert load(tmp_path / "images-idx3-ubyte").labels_N.tolist() == LABELS
    assert not get_dataset(str(tmp_path / "images-idx3-ubyte")).has_test_part


def test_emnist_is_turned_upright_and_has_characters_as_classes(tmp_path: Path) -> None:
    folder = tmp_path / "emnist"
    folder.mkdir()
    labels = [label + 10 for label in LABELS]
    images = IMAGES.transpose(0, 2, 1)
    write_idx(folder / "emnist-balanced-train-images-idx3-ubyte.gz", images)
    write_idx(folder / "emnist-balanced-train-labels-idx1-ubyte.gz", labels)
    write_table(folder / "emnist-balanced-train.csv", images, labels, header=None)
    mapping = "".join(f"{10 + number} {65 + number}\n" for number in range(10))
    (folder / "emnist-balanced-mapping.txt").write_text(mapping)
    for path in (folder, folder / "emnist-balanced-train.csv"):
        assert get_dataset(str(path)).classes == tuple("ABCDEFGHIJ")
        np.testing.assert_array_equal(load(path).images_NHW.numpy(), IMAGES)
        assert load(path).labels_N.tolist() == LABELS


@pytest.mark.parametrize("line", ["3", "3 x", "3 99999999999999999999", "é"])
def test_a_damaged_mapping_of_emnist_is_none(tmp_path: Path, line: str) -> None:
    path = write_table(tmp_path / "emnist-x-train.csv", IMAGES, LABELS, header=None)
    (tmp_path / "emnist-x-mapping.txt").write_text(f"0 65\n{line}\n", encoding="utf-8")
    assert get_dataset(str(path)).classes == tuple("0123456789")


def test_idx_files_without_square_images_are_refused(tmp_path: Path) -> None:
    for name in ("emnist-x", "other"):
        write_idx(tmp_path / f"{name}-train-images-idx3-ubyte", np.ones((3, 28, 27)))
        write_idx(tmp_path / f"{name}-train-labels-idx1-ubyte", LABELS[:3])
        with pytest.raises(DataError) as caught:
            get_dataset(str(tmp_path / f"{name}-train-images-idx3-ubyte"))
        assert "3x28x27" in caught.value.why


def test_62_classes_are_in_natural_order_and_63_too_many(tmp_path: Path) -> None:
    images = np.resize(IMAGES, (63, 28, 28))
    path = write_table(tmp_path / "a.csv", images[:62], range(62))
    assert get_dataset(str(path)).classes == tuple(map(str, range(62)))
    path = write_table(tmp_path / "b.csv", images, range(63))
    with pytest.raises(DataError) as caught:
        get_dataset(str(path))
    assert "63 classes" in caught.value.why


def test_the_digest_is_of_the_content_in_any_form(tmp_path: Path) -> None:
    paths = [
        write_table(tmp_path / "a.csv", IMAGES, LABELS),
        write_table(tmp_path / "b.csv.gz", IMAGES, LABELS, header=None, last=True),
        write_npz(tmp_path / "c.npz", images=IMAGES, labels=np.array(LABELS)),
    ]
    other = write_table(tmp_path / "d.csv", IMAGES, [*LABELS[:-1], (LABELS[-1] + 1) % 10])
    digests = [get_dataset(str(path)).digest for path in (*paths, other)]
    assert len(digests[0]) == 64
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_a_data_set_is_read_once(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "a.csv", IMAGES, LABELS)
    before = get_dataset(str(path))
    (kept,) = (data_dir / "own").iterdir()
    own_data._latest.clear()
    monkeypatch.setitem(own_data._READERS, "table", lambda _files: pytest.fail("read again"))
    assert get_dataset(str(path)) == before
    np.testing.assert_array_equal(load(path).images_NHW.numpy(), IMAGES)
    monkeypatch.undo()
    monkeypatch.setenv("MNIST_DATA_DIR", str(data_dir))
    write_table(path, IMAGES[:50], LABELS[:50])
    assert len(load(path)) == 50
    assert list((data_dir / "own").iterdir()) == [kept]


def test_a_damaged_copy_is_replaced(tmp_path: Path, data_dir: Path) -> None:
    path = write_table(tmp_path / "a.csv", IMAGES, LABELS)
    get_dataset(str(path))
    (kept,) = (data_dir / "own").iterdir()
    content = kept.read_bytes()
    for damaged in (b"", b"x", content[: len(content) // 2], content.replace(b"state", b"stale")):
        kept.write_bytes(damaged)
        own_data._latest.clear()
        assert len(load(path)) == 60


def test_a_copy_that_cannot_be_written_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNIST_DATA_DIR", str(tmp_path / "file" / "x"))
    assert not resolve_data_dir(None, os.environ).exists()
    assert len(load(write_table(tmp_path / "a.csv", IMAGES, LABELS))) == 60


def test_a_run_refuses_changed_data(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", IMAGES, LABELS)
    dataset = get_dataset(str(path))
    recorded = {"digest": dataset.digest, "classes": dataset.classes, "test_seed": 4}
    settings = resolve(dataset=str(path), own_data=recorded, seed=9)
    assert open_dataset(settings).test_seed == 4
    assert open_dataset(resolve(dataset=str(path), seed=9)).test_seed == 9
    write_table(path, IMAGES[:50], LABELS[:50])
    with pytest.raises(DataError, match="has changed"):
        open_dataset(settings)
    with pytest.raises(DataError, match="has changed"):
        load_dataset(dataset, "train", Path())


def test_labels_are_numbers_of_the_network_s_classes(tmp_path: Path) -> None:
    is_small = [label < 3 for label in LABELS]
    labels = [label for label in LABELS if label < 3]
    path = write_table(tmp_path / "a.csv", IMAGES[is_small], labels)
    dataset = get_dataset(str(path))
    assert dataset.classes == ("0", "1", "2")
    known = dataset.with_classes(("2", "1", "0", "x"))
    assert load_dataset(known, "test", Path()).labels_N.tolist() == [2 - label for label in labels]
    with pytest.raises(DataError):
        dataset.with_classes(("0", "1"))
    digits = get_dataset("digits")
    reversed_classes = digits.with_classes(tuple(reversed(digits.classes)))
    before, after = (load_dataset(each, "test", Path()) for each in (digits, reversed_classes))
    assert torch.equal(after.labels_N, 9 - before.labels_N)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"other": IMAGES}, "other"),
        ({"images": IMAGES, "labels": np.array(LABELS[:-1])}, "60 images and 59 labels"),
        ({"images": np.array([{}]), "labels": np.array([1])}, "Python objects"),
        ({"images": np.tile(IMAGES, (2, 1, 1)), "labels": np.array(LABELS * 2)}, "images has"),
        ({"images": IMAGES, "labels": np.eye(100)[LABELS]}, "labels has"),
    ],
    ids=["other names", "a label short", "objects", "large images", "large labels"],
)
def test_other_npz_files_are_refused(
    tmp_path: Path, arrays: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "MAX_IMAGES", 61)
    path = write_npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError) as caught:
        get_dataset(str(path))
    assert str(path) in caught.value.what
    assert why in caught.value.why


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    (tmp_path / "a.npz").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "idx").mkdir()
    write_idx(tmp_path / "idx" / "train-images-idx3-ubyte", IMAGES)
    for name in ("a.bin", "a.npz", "empty", "idx", "missing.csv", "no/where"):
        with pytest.raises(DataError) as caught:
            get_dataset(name)
        assert name.split("/")[0] in caught.value.what + caught.value.why
    for name in ("no_such_name", "fashon-mnist"):
        with pytest.raises(SettingsError):
            get_dataset(name)


def test_a_directory_of_several_idx_data_sets_asks_for_one(tmp_path: Path) -> None:
    for name in ("letters", "digits"):
        write_idx(tmp_path / f"emnist-{name}-train-images-idx3-ubyte", IMAGES)
        write_idx(tmp_path / f"emnist-{name}-train-labels-idx1-ubyte", LABELS)
    with pytest.raises(DataError) as caught:
        get_dataset(str(tmp_path))
    assert "emnist-digits-train" in caught.value.why
    assert len(load(tmp_path / "emnist-letters-train-images-idx3-ubyte")) == 60


def test_raw_is_for_pictures(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", IMAGES, LABELS)
    with pytest.raises(SettingsError, match="--raw"):
        get_dataset(f"raw:{path}")
