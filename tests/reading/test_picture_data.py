"""Pictures with labels become a data set: one image each, as `mnist predict` sees it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnistcli.data import own_data
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.errors import DataError
from mnistcli.reading import picture_data
from mnistcli.reading.batch import decode_file
from mnistcli.reading.picture_data import read_picture_data
from mnistcli.reading.predict import load_networks, read_pictures
from tests.helpers.own_data import (
    digit_arrays,
    on_paper,
    write_class_folders,
    write_labeled_pictures,
)

NUM = 30
IMAGES, LABELS = digit_arrays(NUM)


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_DATA_DIR", str(tmp_path / "data"))
    own_data._latest.clear()


def load(name: str, split: Any = "train") -> tuple[np.ndarray[Any, Any], list[str]]:
    dataset = get_dataset(name)
    examples = load_dataset(dataset, split, Path())
    return examples.images_NHW.numpy(), [dataset.classes[k] for k in examples.labels_N.tolist()]


def test_a_directory_for_every_class_is_read_as_predict_reads(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "digits", NUM, names="abcdefghij")
    assert read_picture_data(str(root)) == ()
    images, labels = load(str(root))
    files = sorted(root.glob("*/*.png"))
    assert labels == [path.parent.name for path in files]
    for path, image in zip(files[:5], images, strict=False):
        picture = decode_file(str(path), single=True)
        (reading,) = read_pictures([picture], load_networks(), single=True)
        np.testing.assert_array_equal(reading.predictions[0].digit.pixels_HW, image)


def test_a_class_without_a_usable_picture_is_named(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "digits", NUM)
    (root / "x").mkdir()
    (root / "x" / "1.png").write_text("not a picture")
    notes = read_picture_data(str(root))
    assert notes[-1].endswith("left out: x.")
    assert get_dataset(str(root)).classes == tuple("0123456789")


def test_train_and_test_directories_are_the_parts(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "digits" / "train", 12)
    write_class_folders(tmp_path / "digits" / "test", 10)
    read_picture_data(str(tmp_path / "digits"))
    assert len(load(str(tmp_path / "digits"))[1]) == 12
    assert len(load(str(tmp_path / "digits"), "test")[1]) == 10
    assert get_dataset(str(tmp_path / "digits")).has_test_part


@pytest.mark.parametrize("name", ["drawings", "drawings/labels.csv"])
def test_a_label_file_names_pictures_and_classes(tmp_path: Path, name: str) -> None:
    folder = write_labeled_pictures(tmp_path / "drawings", 12)
    on_paper(IMAGES[0]).save(folder / "number.png")
    with (folder / "labels.csv").open("a") as file:
        file.write("number.png,42\ngone.png,3\nnotes.txt,4\n")
    notes = read_picture_data(str(tmp_path / name))
    assert load(str(tmp_path / name))[1] == list(map(str, LABELS[:12]))
    assert len(notes) == 3
    assert "gone.png" in notes[-1]
    own_data._latest.clear()
    assert read_picture_data(str(tmp_path / name)) == notes, "kept"


def test_a_label_file_may_come_from_windows_and_from_pandas(tmp_path: Path) -> None:
    folder = write_labeled_pictures(tmp_path / "drawings", 12)
    text = (folder / "labels.csv").read_text().replace(",", ";").split()[1:]
    lines = ["file;label", *(f"drawings\\{line}.0" for line in text)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    read_picture_data(str(tmp_path / "labels.csv"))
    assert load(str(tmp_path / "labels.csv"))[1] == list(map(str, LABELS[:12]))


@pytest.mark.parametrize("name", ["drawings", "drawings/labels.csv"])
def test_a_label_file_may_have_no_header(tmp_path: Path, name: str) -> None:
    file = write_labeled_pictures(tmp_path / "drawings", 12) / "labels.csv"
    file.write_text(file.read_text().removeprefix("file,label\n"))
    read_picture_data(str(tmp_path / name))
    assert load(str(tmp_path / name))[1] == list(map(str, LABELS[:12]))


def test_an_impossible_file_name_is_refused(tmp_path: Path) -> None:
    folder = write_labeled_pictures(tmp_path / "drawings", 2)
    with (folder / "labels.csv").open("a") as file:
        file.write("a\0.png,7\n")
    with pytest.raises(DataError) as caught:
        read_picture_data(str(folder))
    assert "line 4" in caught.value.why


def test_raw_pictures_are_taken_as_they_are(tmp_path: Path) -> None:
    for number in range(NUM):
        folder = tmp_path / "raw" / str(LABELS[number])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - IMAGES[number]).save(folder / f"{number:02d}.png")
    Image.new("L", (30, 28)).save(folder / "larger.png")
    name = f"raw:{tmp_path / 'raw'}"
    (note,) = read_picture_data(name)
    assert "30x28" in note
    images, labels = load(name)
    order = sorted(range(NUM), key=lambda number: (LABELS[number], number))
    np.testing.assert_array_equal(images, 255 - IMAGES[order])
    assert labels == [str(LABELS[number]) for number in order]
    assert get_dataset(name).title == "raw (raw)"


def test_pictures_are_read_once_and_again_when_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_class_folders(tmp_path / "digits", 12)
    with pytest.raises(DataError, match="have not been read"):
        get_dataset(str(root))
    counts: list[tuple[int, int]] = []
    read_picture_data(str(root), on_picture=lambda num, num_all: counts.append((num, num_all)))
    assert counts == [(num, 12) for num in range(1, 13)]
    digest = get_dataset(str(root)).digest
    own_data._latest.clear()
    with monkeypatch.context() as patch:
        patch.setattr(picture_data, "_read_pictures", lambda *_: pytest.fail("read again"))
        read_picture_data(str(root))
    assert get_dataset(str(root)).digest == digest
    on_paper(IMAGES[20]).save(next(root.glob("*/*.png")))
    read_picture_data(str(root))
    assert get_dataset(str(root)).digest != digest


def test_pictures_without_a_digit_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "blank" / "0").mkdir(parents=True)
    Image.new("L", (60, 60), 255).save(tmp_path / "blank" / "0" / "a.png")
    with pytest.raises(DataError) as caught:
        read_picture_data(str(tmp_path / "blank"))
    assert "a.png" in caught.value.why
    assert not (tmp_path / "data").exists()
