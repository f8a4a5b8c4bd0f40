"""Parsing IDX files, whole and damaged."""

import gzip
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from mnistcli.data.idx import read_idx
from mnistcli.errors import DataError
from tests.helpers.small_mnist import NAMES, TRAIN_IMAGES, arrays, idx_header, unpacked


@pytest.mark.parametrize("name", NAMES)
def test_an_idx_file_is_read_as_it_was_written(name: str) -> None:
    array = read_idx(unpacked()[name], name=name)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    np.testing.assert_array_equal(array, arrays()[name])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: b"", "not an IDX file"),
        (lambda raw: raw[:3], "not an IDX file"),
        (lambda raw: raw[:10], "not an IDX file"),
        (lambda raw: raw[:-1], "damaged"),
        (lambda raw: raw + b"\x00", "damaged"),
        (lambda raw: raw[:2] + b"\x0d" + raw[3:], "not an IDX file"),
        (lambda raw: raw[:3] + b"\x00" + raw[4:], "not an IDX file"),
        (gzip.compress, "not an IDX file"),
        (lambda raw: idx_header(2**32 - 1, 2**32 - 1, 2**32 - 1) + raw[16:], "damaged"),
        (lambda raw: idx_header(*[2**32 - 1] * 255) + raw[16:], "damaged"),
        (lambda _: idx_header(0, 2**32 - 1, 2**32 - 1), "damaged"),
        (lambda _: idx_header(*[1] * 255) + b"\x07", "damaged"),
    ],
    ids=[
        *("empty", "three bytes", "cut in the header", "a byte short", "a byte too many"),
        *("floats", "no axes", "still packed", "2**96 values", "255 huge axes"),
        *("no value of huge axes", "255 axes of one"),
    ],
)
def test_a_damaged_idx_file_is_an_error_that_names_it(
    damage: Callable[[bytes], bytes], reason: str
) -> None:
    content = damage(unpacked()[TRAIN_IMAGES])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=reason) as caught:
            read_idx(content, name="my-images-ubyte")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert "my-images-ubyte" in caught.value.what
    assert len(caught.value.why) < 400
    assert "mnist download" in caught.value.fix
