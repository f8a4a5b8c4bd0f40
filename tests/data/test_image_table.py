"""CSV files with an image in every row, in the forms that people have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mnistcli.data.image_table import read_image_table
from mnistcli.errors import DataError
from tests.helpers.own_data import digit_arrays, write_table

IMAGES, LABELS = digit_arrays(40)
NAMES = list(map(str, LABELS))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize(
    ("options", "column"),
    [
        ({}, "column 'label'"),
        ({"header": "Class", "last": True}, "column 'class'"),
        ({"header": None}, "first column"),
        ({"header": None, "last": True}, "last column"),
        ({"header": "something"}, "first column"),
        ({"delimiter": ";"}, "column 'label'"),
        ({"delimiter": "\t"}, "column 'label'"),
        ({"header": None, "delimiter": " "}, "first column"),
    ],
)
def test_labels_and_pixels_are_found(
    tmp_path: Path, suffix: str, options: dict[str, Any], column: str
) -> None:
    table = read_image_table(write_table(tmp_path / f"a{suffix}", IMAGES, LABELS, **options))
    np.testing.assert_array_equal(table.pixels_ND, IMAGES.reshape(40, 784))
    assert table.pixels_ND.dtype == np.uint8
    assert (table.labels, table.label_column) == (NAMES, column)


def test_labels_may_be_text_and_pixels_fractions(tmp_path: Path) -> None:
    letters = ["abcdefghij"[label] for label in LABELS]
    path = write_table(tmp_path / "a.csv", IMAGES / 255, letters, header=None)
    table = read_image_table(path)
    pixels_ND: Any = table.pixels_ND
    np.testing.assert_allclose(pixels_ND, IMAGES.reshape(40, 784) / 255, rtol=1e-6)
    assert table.labels == letters


def test_uci_s_optical_digits_are_read(tmp_path: Path) -> None:
    """8x8 pixels of 0 to 16, no header, the label last."""
    bunch = load_digits()
    small, labels = bunch.images[:200].astype(int), bunch.target[:200].tolist()
    table = read_image_table(write_table(tmp_path / "a.csv", small, labels, header=None, last=True))
    np.testing.assert_array_equal(table.pixels_ND, small.reshape(200, 64))
    assert table.labels == list(map(str, labels))


def test_whole_labels_have_no_decimals(tmp_path: Path) -> None:
    labels = [f"{label}.0000" for label in LABELS]
    assert read_image_table(write_table(tmp_path / "a.csv", IMAGES, labels)).labels == NAMES


def test_a_column_of_ids_is_no_pixel(tmp_path: Path) -> None:
    lines = write_table(tmp_path / "a.csv", IMAGES[:3], LABELS[:3]).read_text().splitlines()
    numbered = [
        f"{number},{line}" for number, line in zip(["id", 998, 999, 1000], lines, strict=True)
    ]
    path = tmp_path / "b.csv"
    path.write_text("\n".join(numbered))
    table = read_image_table(path)
    assert table.labels == NAMES[:3]
    np.testing.assert_array_equal(table.pixels_ND, IMAGES[:3].reshape(3, 784))


def test_a_table_without_labels_has_none(tmp_path: Path) -> None:
    for header in ("label", None):
        table = read_image_table(write_table(tmp_path / "a.csv", IMAGES, header=header))
        assert (table.labels, table.label_column) == ([], "")
        assert table.pixels_ND.shape == (40, 784)


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", IMAGES, LABELS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_image_table(path).labels == NAMES


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"label," + b",".join([b"p"] * 784) + b"\n", "no rows"),
        (b"label,a,b,c\n1,2,3,4\n", "3 columns of pixels"),
        (b"\xff\xfe\x00", "not text"),
        (b"label," + b",".join([b"p"] * 784) + b"\n1,2,3\n", "the others 3"),
        (b"label," + b",".join([b"p"] * 784) + b"\n" + b",".join([b"x"] * 785), "'x'"),
    ],
    ids=["empty", "no rows", "other columns", "not text", "a short row", "no numbers"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image_table(path)
    assert str(path) in caught.value.what
    assert why in caught.value.why


def test_a_damaged_gz_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv.gz", IMAGES, LABELS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError):
        read_image_table(path)
