"""Data sets: their checksums, reading them, importing them, and fetching them from mirrors."""

import gzip
import hashlib
import os
import re
import stat
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from sklearn.datasets import load_digits

from mnistcli.config.choices import DatasetName, DataSplit, values
from mnistcli.data import datasets, mirrors
from mnistcli.data.datasets import (
    DATASETS,
    DataFile,
    Dataset,
    get_dataset,
    has_all_files,
    load_dataset,
    missing_dataset,
    resolve_data_dir,
)
from mnistcli.data.download import (
    FileState,
    download_dataset,
    import_files,
    require_complete,
    verify_files,
)
from mnistcli.data.idx import read_idx
from mnistcli.errors import DataError, SettingsError
from mnistcli.system.lock import LOCK_NAME
from tests.data.test_mirrors import refusing_url

Array = np.ndarray[Any, np.dtype[np.uint8]]

WITH_FILES = ("mnist", "fashion-mnist", "kmnist")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES = tuple(
    file.name for file in DATASETS["mnist"].files
)
NUM_TRAIN, NUM_TEST = 120, 40


@cache
def arrays() -> dict[str, Array]:
    """What the four files of the fake data set hold: handwriting, enlarged to 28x28."""
    bunch = load_digits()
    large = np.kron(bunch.images, np.ones((1, 3, 3))) * (255 / 16)
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    train, test = slice(NUM_TRAIN), slice(NUM_TRAIN, NUM_TRAIN + NUM_TEST)
    return dict(zip(NAMES, (images[train], labels[train], images[test], labels[test]), strict=True))


def idx(array: Array) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def unpacked() -> dict[str, bytes]:
    return {name: idx(array) for name, array in arrays().items()}


def packed() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in unpacked().items()}


def fake_dataset(raw: Mapping[str, bytes] | None = None, *, with_sha256: bool = True) -> Dataset:
    """MNIST with other files: by default those of `packed()` and `unpacked()`."""
    files = tuple(
        DataFile(
            name,
            hashlib.md5(gzip.compress(content, mtime=0)).hexdigest(),
            hashlib.sha256(content).hexdigest() if with_sha256 else "",
        )
        for name, content in (raw or unpacked()).items()
    )
    return replace(DATASETS["mnist"], files=files)


def put(directory: Path, files: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def put_data(data_dir: Path, files: Mapping[str, bytes]) -> Path:
    """Lay `files` where `load` looks for them."""
    return put(data_dir / "MNIST" / "raw", files)


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def states_by_name(states: list[FileState]) -> dict[str, str]:
    return {state.name: state.state for state in states}


@dataclass
class Mirror:
    """What a loopback mirror serves, what goes wrong, and what it has been asked for."""

    files: Mapping[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    faults: dict[str, Iterator[int | str]] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def fail(self, fault: int | str, *, times: int = 99, name: str = "") -> None:
        """Answer so many requests (for `name`, or each file) with a status or a kind of fault."""
        for each in [name] if name else self.files:
            self.faults[each] = repeat(fault, times)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        self.asked.append(name)
        fault = next(self.faults.get(name, iter(())), None)
        if isinstance(fault, int) or name not in self.files:
            handler.send_error(fault if isinstance(fault, int) else 404)
        elif fault == "hangs":
            self.closing.wait(20)
        elif fault == "talks nonsense":
            handler.wfile.write(b"nonsense\r\n\r\n")
        elif fault != "says nothing":
            self._send(handler, self.files[name], fault)

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes, fault: str | None) -> None:
        handler.send_response(200)
        if fault != "hides the length":
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if fault == "stalls":
            handler.wfile.write(content[: len(content) // 2])
            self.closing.wait(20)
        if fault == "breaks off":
            content = content[: len(content) // 2]
        elif fault == "sends other bytes":
            content = content[::-1]
        handler.wfile.write(content)


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Mirror]:
    """A mirror on this machine that holds `files`, as long as the context lasts."""
    mirror = Mirror(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield mirror
        finally:
            mirror.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def usual_mirrors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Torchvision's mirrors of MNIST: none, until a test adds one to this list."""
    usual: list[str] = []
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", usual)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return usual


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving(packed()) as mirror:
        yield mirror


@pytest.fixture
def second_mirror() -> Iterator[Mirror]:
    with serving(packed()) as mirror:
        yield mirror


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names_in(data_dir: Path) -> set[str]:
    """The names of all files under `data_dir`, the hidden ones too, but for the lock's."""
    return {path.name for path in data_dir.rglob("*") if not path.is_dir()} - {LOCK_NAME}


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in `folder`, but for the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK_NAME}


@pytest.mark.parametrize("name", WITH_FILES)
def test_checksums_are_those_that_torchvision_knows(name: str) -> None:
    dataset = DATASETS[name]
    known = getattr(torchvision.datasets, dataset.folder).resources
    assert [(f"{file.name}.gz", file.gz_md5) for file in dataset.files] == known


@pytest.mark.parametrize("name", WITH_FILES)
def test_every_folder_is_a_torchvision_class_with_mirrors(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    cls = getattr(torchvision.datasets, DATASETS[name].folder)
    assert issubclass(cls, torchvision.datasets.MNIST)
    assert cls.mirrors
    assert all(mirror.startswith(("http://", "https://")) for mirror in cls.mirrors)


def test_the_command_line_offers_every_data_set() -> None:
    assert tuple(DATASETS) == values(DatasetName)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda each: each.name)
def test_every_data_set_has_ten_classes_of_different_names(dataset: Dataset) -> None:
    assert len(set(dataset.classes)) == 10


def test_an_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(SettingsError, match="fashon") as caught:
        get_dataset("fashon-mnist")
    assert caught.value.fix == "Did you mean fashion-mnist?"


def test_the_data_directory_is_the_wanted_one_then_the_environments_then_the_cache() -> None:
    environ = {"MNIST_DATA_DIR": "/from/environment"}
    assert resolve_data_dir(Path("wanted"), environ) == Path("wanted")
    assert resolve_data_dir(None, environ) == Path("/from/environment")
    cache_dir = resolve_data_dir(None, {})
    assert cache_dir.name == "mnist"
    assert cache_dir.is_absolute()
    assert resolve_data_dir(None, {"MNIST_DATA_DIR": ""}) == cache_dir


@pytest.mark.parametrize(("split", "num_images"), [("train", 1437), ("test", 360)])
def test_digits_are_uint8_pictures_of_28x28_with_labels(
    split: DataSplit, num_images: int, tmp_path: Path
) -> None:
    examples = load_dataset(DATASETS["digits"], split, tmp_path)
    images, labels = examples.images_NHW, examples.labels_N
    assert images.shape == (num_images, 28, 28)
    assert images.dtype == torch.uint8
    assert labels.shape == (num_images,)
    assert labels.dtype == torch.int64
    assert images.amax(dim=(1, 2)).min() > 200
    assert images.amin(dim=(1, 2)).max() == 0
    shares = labels.bincount(minlength=10) / num_images
    assert shares.shape == (10,)
    assert shares.min() > 0.08
    assert shares.max() < 0.12
    assert not list(tmp_path.iterdir())


def test_digits_keep_every_label_in_order_and_no_picture_is_in_both_splits(
    tmp_path: Path,
) -> None:
    train = load_dataset(DATASETS["digits"], "train", tmp_path)
    test = load_dataset(DATASETS["digits"], "test", tmp_path)
    assert torch.cat([train.labels_N, test.labels_N]).tolist() == load_digits().target.tolist()
    seen = {image.numpy().tobytes() for image in train.images_NHW}
    assert not any(image.numpy().tobytes() in seen for image in test.images_NHW)


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_have_their_centre_of_mass_in_the_middle(split: DataSplit, tmp_path: Path) -> None:
    images = load_dataset(DATASETS["digits"], split, tmp_path).images_NHW.double()
    places = torch.arange(28, dtype=torch.float64)
    mass = images.sum(dim=(1, 2))
    for axis in (1, 2):
        centres = (images.sum(dim=axis) * places).sum(dim=1) / mass
        assert (centres - 13.5).abs().max() < 1


def test_digits_mean_and_std_are_the_measured_ones(tmp_path: Path) -> None:
    digits = DATASETS["digits"]
    pixels = load_dataset(digits, "train", tmp_path).images_NHW.double() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (
        digits.mean,
        digits.std,
    )


@pytest.mark.mnist
def test_mnist_mean_std_and_sizes_are_the_measured_ones(mnist_dir: Path) -> None:
    mnist = DATASETS["mnist"]
    examples = load_dataset(mnist, "train", mnist_dir)
    images, labels = examples.images_NHW, examples.labels_N
    assert images.shape == (60_000, 28, 28)
    assert labels.bincount().tolist() == [
        *(5923, 6742, 5958, 6131, 5842),
        *(5421, 5918, 6265, 5851, 5949),
    ]
    pixels = images.double() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (
        mnist.mean,
        mnist.std,
    )
    assert load_dataset(mnist, "test", mnist_dir).images_NHW.shape == (10_000, 28, 28)


@pytest.mark.parametrize("name", NAMES)
def test_an_idx_file_is_read_as_it_was_written(name: str) -> None:
    array = read_idx(unpacked()[name], name=name)
    assert array.dtype == np.uint8
    assert array.flags.writeable
    np.testing.assert_array_equal(array, arrays()[name])


def header(*sizes: int) -> bytes:
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: b"", "no IDX file"),
        (lambda raw: raw[:3], "no IDX file"),
        (lambda raw: raw[:10], "no IDX file"),
        (lambda raw: raw[:-1], "damaged"),
        (lambda raw: raw + b"\x00", "damaged"),
        (lambda raw: raw[: len(raw) // 2], "damaged"),
        (lambda raw: b"\x01" + raw[1:], "no IDX file"),
        (lambda raw: raw[:2] + b"\x0d" + raw[3:], "no IDX file"),
        (lambda raw: raw[:3] + b"\x00" + raw[4:], "no IDX file"),
        (gzip.compress, "no IDX file"),
        (lambda _: b"<!DOCTYPE html><title>404</title>", "no IDX file"),
        (lambda raw: header(2**32 - 1, 2**32 - 1, 2**32 - 1) + raw[16:], "damaged"),
        (lambda raw: header(*[2**32 - 1] * 255) + raw[16:], "damaged"),
        (lambda _: header(0, 2**32 - 1, 2**32 - 1), "damaged"),
        (lambda _: header(*[1] * 255) + b"\x07", "damaged"),
    ],
    ids=[
        *("empty", "three bytes", "cut in the header", "a byte short", "a byte too many", "half"),
        *("wrong magic", "floats", "no axes", "still packed", "a web page"),
        *("2**96 values", "255 huge axes", "no value of huge axes", "255 axes of one"),
    ],
)
def test_what_is_no_whole_idx_file_is_a_data_error_that_names_it(
    spoil: Callable[[bytes], bytes], reason: str
) -> None:
    content = spoil(unpacked()[TRAIN_IMAGES])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=reason) as caught:
            read_idx(content, name="my-images-ubyte")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert "my-images-ubyte" in caught.value.what
    assert "mnist download" in caught.value.fix


@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
@pytest.mark.parametrize(
    ("split", "images_name", "labels_name"),
    [("train", TRAIN_IMAGES, TRAIN_LABELS), ("test", TEST_IMAGES, TEST_LABELS)],
)
def test_a_split_is_loaded_from_its_own_two_files(
    tmp_path: Path, files: dict[str, bytes], split: DataSplit, images_name: str, labels_name: str
) -> None:
    put_data(tmp_path, files)
    examples = load_dataset(fake_dataset(), split, tmp_path)
    images, labels = examples.images_NHW, examples.labels_N
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(images.numpy(), arrays()[images_name])
    np.testing.assert_array_equal(labels.numpy(), arrays()[labels_name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
def test_a_byte_changed_on_the_disk_is_a_data_error_that_names_the_file(
    tmp_path: Path, files: dict[str, bytes], name: str
) -> None:
    folder = put_data(tmp_path, files)
    path = next(folder.glob(f"{name}*"))
    change_a_byte(path)
    damaged: DataSplit = "train" if name.startswith("train") else "test"
    with pytest.raises(DataError, match=re.escape(f"{path} is damaged.")) as caught:
        load_dataset(fake_dataset(), damaged, tmp_path)
    assert caught.value.exit_code == 3
    assert "mnist download" in caught.value.fix
    whole: DataSplit = "test" if damaged == "train" else "train"
    assert len(load_dataset(fake_dataset(), whole, tmp_path))


def test_a_file_damaged_after_its_download_is_not_loaded(tmp_path: Path, mirror: Mirror) -> None:
    dataset = fake_dataset()
    download_dataset(dataset, tmp_path, mirrors=[mirror.url])
    path = tmp_path / "MNIST" / "raw" / f"{TRAIN_LABELS}.gz"
    change_a_byte(path)
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        load_dataset(dataset, "train", tmp_path)
    assert caught.value.exit_code == 3


def test_loading_what_is_missing_names_the_files_the_place_and_the_command(
    tmp_path: Path,
) -> None:
    folder = put_data(tmp_path, {f"{TRAIN_IMAGES}.gz": packed()[f"{TRAIN_IMAGES}.gz"]})
    with pytest.raises(DataError, match="not on this machine") as caught:
        load_dataset(fake_dataset(), "train", tmp_path)
    error = caught.value
    assert error.exit_code == 3
    assert str(folder) in error.why
    assert [f"{name}.gz" in error.why for name in NAMES] == [False, True, True, True]
    assert "mnist download " in error.fix
    assert "--dataset" not in error.fix


def test_the_command_that_mends_it_names_the_data_set(tmp_path: Path) -> None:
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
    ids=["a label short", "labels of two axes", "27x28", "flat pictures"],
)
def test_images_and_labels_that_do_not_fit_together_are_a_data_error(
    tmp_path: Path, other: dict[str, bytes]
) -> None:
    files = {**unpacked(), **other}
    put_data(tmp_path, files)
    with pytest.raises(DataError, match="do not fit together"):
        load_dataset(fake_dataset(files), "train", tmp_path)


def test_an_unpacked_file_without_a_known_checksum_is_never_loaded(tmp_path: Path) -> None:
    dataset = fake_dataset(with_sha256=False)
    put_data(tmp_path, unpacked())
    assert not has_all_files(dataset, tmp_path)
    assert set(states_by_name(verify_files(dataset, tmp_path)).values()) == {"missing"}
    with pytest.raises(DataError, match="not on this machine"):
        load_dataset(dataset, "train", tmp_path)


def test_verify_tells_verified_missing_and_damaged_apart_and_changes_nothing(
    tmp_path: Path,
) -> None:
    dataset = fake_dataset()
    folder = put_data(tmp_path, packed())
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    states = verify_files(dataset, tmp_path)
    assert states_by_name(states) == {
        TRAIN_IMAGES: "verified",
        TRAIN_LABELS: "damaged",
        TEST_IMAGES: "missing",
        TEST_LABELS: "verified",
    }
    assert [state.path for state in states] == [folder / f"{name}.gz" for name in NAMES]
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before


def test_verify_creates_no_directory(tmp_path: Path) -> None:
    states = verify_files(fake_dataset(), tmp_path / "data")
    assert states_by_name(states) == dict.fromkeys(NAMES, "missing")
    assert not (tmp_path / "data").exists()


def test_check_names_the_bad_files_and_only_those(tmp_path: Path) -> None:
    dataset = fake_dataset()
    folder = put_data(tmp_path, packed())
    require_complete(dataset, verify_files(dataset, tmp_path))
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    with pytest.raises(DataError, match="mnist is not complete") as caught:
        require_complete(dataset, verify_files(dataset, tmp_path))
    assert caught.value.why.splitlines() == [
        f"{folder / TRAIN_LABELS}.gz is damaged.",
        f"{folder / TEST_IMAGES}.gz is missing.",
    ]


@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
def test_a_data_set_is_complete_once_its_last_file_is_there(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    dataset = fake_dataset()
    for name, content in files.items():
        assert not has_all_files(dataset, tmp_path)
        put_data(tmp_path, {name: content})
    assert has_all_files(dataset, tmp_path)


def test_digits_are_always_complete(tmp_path: Path) -> None:
    digits = DATASETS["digits"]
    assert has_all_files(digits, tmp_path)
    assert verify_files(digits, tmp_path) == []


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
def test_files_are_imported_from_where_torchvision_or_a_person_lays_them(
    tmp_path: Path, files: dict[str, bytes], place: str
) -> None:
    dataset, data_dir = fake_dataset(), tmp_path / "data"
    source = put(tmp_path / "source" / place, files)
    states = import_files(dataset, data_dir, tmp_path / "source")
    assert states_by_name(states) == dict.fromkeys(NAMES, "imported")
    assert [state.source for state in states] == [str(source / name) for name in files]
    assert {state.path.name: state.path.read_bytes() for state in states} == files
    assert names_in(data_dir) == set(files)
    np.testing.assert_array_equal(
        load_dataset(dataset, "test", data_dir).images_NHW.numpy(), arrays()[TEST_IMAGES]
    )


def stats(folder: Path) -> list[os.stat_result]:
    return [(folder / name).stat() for name in packed()]


def test_what_is_there_and_right_is_not_imported_again(tmp_path: Path) -> None:
    dataset, data_dir = fake_dataset(), tmp_path / "data"
    folder = put_data(data_dir, packed())
    # Not the time of the last reading, to which a check may add.
    before = [(each.st_ino, each.st_mtime_ns, each.st_ctime_ns) for each in stats(folder)]
    (tmp_path / "nothing").mkdir()
    states = import_files(dataset, data_dir, tmp_path / "nothing")
    assert states_by_name(states) == dict.fromkeys(NAMES, "verified")
    after = [(each.st_ino, each.st_mtime_ns, each.st_ctime_ns) for each in stats(folder)]
    assert after == before


@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
def test_an_import_mends_a_damaged_file(tmp_path: Path, files: dict[str, bytes]) -> None:
    dataset, data_dir = fake_dataset(), tmp_path / "data"
    folder = put_data(data_dir, packed())
    change_a_byte(folder / f"{TRAIN_IMAGES}.gz")
    states = import_files(dataset, data_dir, put(tmp_path / "source", files))
    assert [state.state for state in states] == ["imported", *["verified"] * 3]
    after = verify_files(dataset, data_dir)
    assert states_by_name(after) == dict.fromkeys(NAMES, "verified")
    assert len(load_dataset(dataset, "train", data_dir)) == NUM_TRAIN


@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
def test_an_import_refuses_a_file_with_a_wrong_checksum(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    source = put(tmp_path / "source", files)
    path = next(source.glob(f"{TRAIN_LABELS}*"))
    change_a_byte(path)
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        import_files(fake_dataset(), tmp_path / "data", source)
    assert caught.value.exit_code == 3
    assert caught.value.why == "Its checksum is wrong."
    assert not any(
        name.lstrip(".").startswith(TRAIN_LABELS) for name in names_in(tmp_path / "data")
    )


def test_an_import_refuses_an_unpacked_file_of_which_no_checksum_is_known(tmp_path: Path) -> None:
    source = put(tmp_path / "source", unpacked())
    with pytest.raises(DataError, match=TRAIN_IMAGES) as caught:
        import_files(fake_dataset(with_sha256=False), tmp_path / "data", source)
    assert caught.value.why == "Only its .gz has a published checksum."
    assert names_in(tmp_path / "data") == set()


def test_an_import_takes_the_gz_where_both_are_there(tmp_path: Path) -> None:
    source = put(tmp_path / "source", {**unpacked(), **packed()})
    import_files(fake_dataset(with_sha256=False), tmp_path / "data", source)
    assert names_in(tmp_path / "data") == set(packed())


@pytest.mark.parametrize("name", NAMES)
def test_an_import_says_which_file_is_not_there(tmp_path: Path, name: str) -> None:
    source = put(tmp_path / "source", packed())
    (source / f"{name}.gz").unlink()
    with pytest.raises(DataError, match=re.escape(f"{source} does not hold {name}.")) as caught:
        import_files(fake_dataset(), tmp_path / "data", source)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kind", ["directory", "pipe", "broken link", "device"])
def test_an_import_of_what_is_no_file_is_refused_and_hangs_nowhere(
    tmp_path: Path, kind: str
) -> None:
    source = put(tmp_path / "source", packed())
    path = source / f"{TRAIN_IMAGES}.gz"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(DataError, match=f"does not hold {TRAIN_IMAGES}") as caught:
        import_files(fake_dataset(), tmp_path / "data", source)
    assert caught.value.exit_code == 3
    assert names_in(tmp_path / "data") == set()


def test_an_import_of_a_huge_file_reads_no_more_than_a_data_set_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAX_FILE_BYTES", 1 << 20)
    source = put(tmp_path / "source", packed())
    os.truncate(source / f"{TRAIN_IMAGES}.gz", 1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz is not the pub") as caught:
            import_files(fake_dataset(), tmp_path / "data", source)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.why == "It has more than 1 MiB."
    assert names_in(tmp_path / "data") == set()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that cannot be read")
@pytest.mark.parametrize("place", ["source", "data/MNIST/raw"])
def test_what_cannot_be_read_is_a_data_error(tmp_path: Path, place: str) -> None:
    source = put(tmp_path / "source", packed())
    path = put(tmp_path / place, {}) / f"{TRAIN_IMAGES}.gz"
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/mem")  # which nobody can read from its beginning, not even root
    with pytest.raises(DataError, match=re.escape(f"Cannot read {path}.")) as caught:
        import_files(fake_dataset(), tmp_path / "data", source)
    assert caught.value.why == "Input/output error."
    with pytest.raises(DataError, match="Cannot read" if place != "source" else "not on this"):
        load_dataset(fake_dataset(), "train", tmp_path / "data")


def test_a_huge_file_in_the_data_directory_is_damaged_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAX_FILE_BYTES", 1 << 20)
    folder = put_data(tmp_path / "data", packed())
    os.truncate(folder / f"{TRAIN_IMAGES}.gz", 1 << 40)
    states = verify_files(fake_dataset(), tmp_path / "data")
    assert [state.state for state in states] == ["damaged", *["verified"] * 3]
    import_files(fake_dataset(), tmp_path / "data", put(tmp_path / "source", packed()))
    assert contents(folder) == packed()


@pytest.mark.parametrize("kind", ["pipe", "broken link"])
def test_a_name_that_is_taken_by_no_file_is_given_to_the_file(tmp_path: Path, kind: str) -> None:
    folder = put_data(tmp_path / "data", {})
    path = folder / f"{TRAIN_IMAGES}.gz"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    import_files(fake_dataset(), tmp_path / "data", put(tmp_path / "source", packed()))
    assert contents(folder) == packed()


def test_temporaries_that_were_abandoned_are_removed_before_anything_is_written(
    tmp_path: Path, mirror: Mirror
) -> None:
    abandoned = {f".{TRAIN_IMAGES}.gz.12-0123abcd.tmp": b"half"}
    put_data(tmp_path, abandoned)
    download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert names_in(tmp_path) == set(packed())
    put_data(tmp_path / "other", abandoned)
    import_files(fake_dataset(), tmp_path / "other", put(tmp_path / "source", packed()))
    assert names_in(tmp_path / "other") == set(packed())


def test_what_is_complete_needs_no_lock(tmp_path: Path, mirror: Mirror) -> None:
    folder = put_data(tmp_path, packed())
    (folder / LOCK_NAME).mkdir()
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "verified")
    change_a_byte(folder / f"{TEST_LABELS}.gz")
    with pytest.raises(DataError, match="Cannot write to") as caught:
        download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert caught.value.why == "Is a directory."
    assert mirror.asked == []


@pytest.mark.parametrize("fault", [None, "hides the length"])
def test_a_download_fetches_every_file_once_and_loads(
    tmp_path: Path, mirror: Mirror, fault: str | None
) -> None:
    if fault:
        mirror.fail(fault)
    dataset = fake_dataset()
    states = download_dataset(dataset, tmp_path, mirrors=[mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "downloaded")
    assert [state.source for state in states] == [f"{mirror.url}{name}" for name in packed()]
    assert {state.path.name: state.path.read_bytes() for state in states} == packed()
    assert mirror.asked == list(packed())
    assert names_in(tmp_path) == set(packed())
    assert len(load_dataset(dataset, "train", tmp_path)) == NUM_TRAIN


def test_nothing_is_fetched_twice(tmp_path: Path, mirror: Mirror) -> None:
    download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "verified")
    assert mirror.asked == list(packed())


def test_only_what_is_missing_or_damaged_is_fetched(tmp_path: Path, mirror: Mirror) -> None:
    folder = put_data(tmp_path, packed())
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_LABELS}.gz").write_bytes(b"")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert [state.state for state in states] == ["verified", *["downloaded"] * 3]
    assert mirror.asked == [f"{name}.gz" for name in (TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)]
    assert contents(folder) == packed()


def test_a_mirror_may_be_named_without_its_last_slash(tmp_path: Path, mirror: Mirror) -> None:
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url.rstrip("/")])
    assert states[0].source == f"{mirror.url}{TRAIN_IMAGES}.gz"


# The fault of a mirror, how it is reported, how often a file is asked for before one moves on.
FAULTS: list[tuple[int | str, str, int]] = [
    (404, "HTTP status 404", 1),
    (403, "HTTP status 403", 1),
    (500, "HTTP status 500", 2),
    (503, "HTTP status 503", 2),
    ("sends other bytes", "wrong checksum", 1),
    ("breaks off", "ended after", 2),
    ("says nothing", "closed connection without response", 2),
    ("talks nonsense", "not HTTP", 2),
]


@pytest.mark.parametrize(("fault", "reason", "tries"), FAULTS)
def test_what_one_mirror_fails_to_give_the_next_one_gives(
    tmp_path: Path,
    mirror: Mirror,
    second_mirror: Mirror,
    fault: int | str,
    reason: str,
    tries: int,
) -> None:
    mirror.fail(fault)
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url, second_mirror.url])
    assert mirror.asked == [name for name in packed() for _ in range(tries)]
    assert second_mirror.asked == list(packed())
    assert [state.source for state in states] == [f"{second_mirror.url}{name}" for name in packed()]
    assert contents(states[0].path.parent) == packed()


def test_a_mirror_that_refuses_is_left_for_torchvisions(
    tmp_path: Path, mirror: Mirror, usual_mirrors: list[str]
) -> None:
    usual_mirrors.append(mirror.url)
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[refusing_url()])
    assert states_by_name(states) == dict.fromkeys(NAMES, "downloaded")
    assert mirror.asked == list(packed())


def test_torchvisions_mirrors_serve_where_none_is_named(
    tmp_path: Path, mirror: Mirror, second_mirror: Mirror, usual_mirrors: list[str]
) -> None:
    mirror.fail(503, name=f"{TRAIN_LABELS}.gz")
    usual_mirrors += [mirror.url, second_mirror.url]
    states = download_dataset(fake_dataset(), tmp_path)
    assert second_mirror.asked == [f"{TRAIN_LABELS}.gz"]
    assert [state.source.startswith(mirror.url) for state in states] == [True, False, True, True]


def test_a_mirror_that_fails_once_is_given_a_second_chance(
    tmp_path: Path, mirror: Mirror, second_mirror: Mirror
) -> None:
    mirror.fail(503, times=1, name=f"{TRAIN_IMAGES}.gz")
    mirror.fail("breaks off", times=1, name=f"{TEST_IMAGES}.gz")
    download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url, second_mirror.url])
    assert second_mirror.asked == []
    assert len(mirror.asked) == len(NAMES) + 2
    assert names_in(tmp_path) == set(packed())


def test_a_mirror_that_hangs_is_left_after_the_timeout(
    tmp_path: Path, mirror: Mirror, second_mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "WINDOW_SECONDS", 0.3)
    mirror.fail("hangs", name=f"{TRAIN_LABELS}.gz")
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url, second_mirror.url])
    assert mirror.asked.count(f"{TRAIN_LABELS}.gz") == 2
    assert second_mirror.asked == [f"{TRAIN_LABELS}.gz"]
    assert states_by_name(states) == dict.fromkeys(NAMES, "downloaded")


@pytest.mark.parametrize(("fault", "reason", "tries"), FAULTS)
def test_where_all_mirrors_fail_each_is_named_once_with_its_reason(
    tmp_path: Path,
    mirror: Mirror,
    second_mirror: Mirror,
    usual_mirrors: list[str],
    fault: int | str,
    reason: str,
    tries: int,
) -> None:
    mirror.fail(fault)
    second_mirror.fail(404)
    refusing = refusing_url()
    usual_mirrors += [refusing, mirror.url]
    named = [mirror.url, second_mirror.url, mirror.url]
    with pytest.raises(DataError, match=re.escape(f"{TRAIN_IMAGES}.gz")) as caught:
        download_dataset(fake_dataset(), tmp_path, mirrors=named)
    lines = caught.value.why.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{mirror.url}: ")
    assert reason in lines[0]
    assert lines[1] == f"{second_mirror.url}: HTTP status 404"
    assert lines[2].startswith(f"{refusing}: ")
    assert "refused" in lines[2]
    assert caught.value.exit_code == 3
    assert "--mirror" in caught.value.fix
    assert "--from" in caught.value.fix
    assert mirror.asked == [f"{TRAIN_IMAGES}.gz"] * tries
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(("fault", "reason", "tries"), FAULTS)
def test_a_failed_download_leaves_what_was_there(
    tmp_path: Path, mirror: Mirror, fault: int | str, reason: str, tries: int
) -> None:
    folder = put_data(tmp_path, packed())
    damaged = folder / f"{TEST_LABELS}.gz"
    change_a_byte(damaged)
    before = damaged.read_bytes()
    mirror.fail(fault)
    with pytest.raises(DataError, match=re.escape(damaged.name)):
        download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert damaged.read_bytes() == before
    assert names_in(tmp_path) == set(packed())


def test_a_mirror_that_never_stops_sending_is_left(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "MAX_FILE_BYTES", 1000)
    with pytest.raises(DataError, match="No mirror") as caught:
        download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert "more than" in caught.value.why
    assert mirror.asked == [f"{TRAIN_IMAGES}.gz"]
    assert names_in(tmp_path) == set()


def test_progress_counts_the_bytes_of_each_file_up_to_all_of_them(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "CHUNK_BYTES", 500)
    calls: dict[str, list[tuple[int, int | None]]] = {}

    def note(name: str, num_bytes: int, total: int | None) -> None:
        calls.setdefault(name, []).append((num_bytes, total))

    download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url], on_progress=note)
    assert list(calls) == list(NAMES)
    for name, seen in calls.items():
        size = len(packed()[f"{name}.gz"])
        assert {total for _, total in seen} == {size}
        assert seen[-1][0] == size
        assert all(0 < after - before <= 500 for (before, _), (after, _) in pairwise(seen))
    assert len(calls[TRAIN_IMAGES]) > 3


def test_progress_knows_no_total_where_the_mirror_names_none(
    tmp_path: Path, mirror: Mirror
) -> None:
    mirror.fail("hides the length")
    totals = set()

    def note(name: str, num_bytes: int, total: int | None) -> None:
        totals.add(total)

    download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url], on_progress=note)
    assert totals == {None}


@pytest.mark.parametrize(
    ("umask", "expected"), [(0o022, 0o644), (0o027, 0o640)], indirect=["umask"]
)
def test_others_may_read_what_was_fetched_as_far_as_the_umask_lets_them(
    tmp_path: Path, mirror: Mirror, umask: int, expected: int
) -> None:
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url])
    assert {stat.S_IMODE(state.path.stat().st_mode) for state in states} == {expected}


@pytest.mark.parametrize(
    "address",
    ["ftp://127.0.0.1/mnist/", "file:///tmp/mnist", "/tmp/mnist", "http://", "http://[::1/", ""],
)
def test_what_is_no_web_address_is_refused_before_anything_is_fetched(
    tmp_path: Path, mirror: Mirror, address: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"'{address}' is no mirror")) as caught:
        download_dataset(fake_dataset(), tmp_path, mirrors=[mirror.url, address])
    assert "--from" in caught.value.fix
    assert mirror.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/é/", "http://.wrong/", "http://127.0.0.1:port/"]
)
def test_an_address_that_cannot_be_asked_fails_like_any_other_mirror(
    tmp_path: Path, mirror: Mirror, address: str
) -> None:
    states = download_dataset(fake_dataset(), tmp_path, mirrors=[address, mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "downloaded")


def download_from(mirror: Mirror, data_dir: Path, source: Path) -> list[FileState]:
    return download_dataset(fake_dataset(), data_dir, mirrors=[mirror.url, mirror.url + "again/"])


def import_from(mirror: Mirror, data_dir: Path, source: Path) -> list[FileState]:
    return import_files(fake_dataset(), data_dir, put(source, packed()))


@pytest.mark.parametrize("get", [download_from, import_from])
def test_a_directory_that_cannot_be_made_is_a_data_error_with_a_way_out(
    tmp_path: Path, mirror: Mirror, get: Callable[[Mirror, Path, Path], list[FileState]]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=re.escape(f"Cannot write to {tmp_path}")) as caught:
        get(mirror, tmp_path / "file" / "data", tmp_path / "source")
    assert caught.value.exit_code == 3
    assert "--data-dir" in caught.value.fix
    assert mirror.asked == []


@pytest.mark.parametrize("get", [download_from, import_from])
def test_a_file_that_cannot_be_written_is_not_blamed_on_the_mirrors(
    tmp_path: Path, mirror: Mirror, get: Callable[[Mirror, Path, Path], list[FileState]]
) -> None:
    folder = put_data(tmp_path / "data", {})
    (folder / f"{TRAIN_IMAGES}.gz").mkdir()
    with pytest.raises(DataError, match=re.escape(f"Cannot write to {folder}.")) as caught:
        get(mirror, tmp_path / "data", tmp_path / "source")
    assert caught.value.why == "Is a directory."
    assert mirror.asked == ([f"{TRAIN_IMAGES}.gz"] if get is download_from else [])
    assert names_in(tmp_path / "data") == set()


def test_digits_need_no_download_and_no_directory(tmp_path: Path, mirror: Mirror) -> None:
    digits, data_dir = DATASETS["digits"], tmp_path / "data"
    assert download_dataset(digits, data_dir, mirrors=[mirror.url]) == []
    assert import_files(digits, data_dir, tmp_path) == []
    assert not data_dir.exists()


def test_a_header_of_absurd_sizes_makes_no_absurd_message() -> None:
    with pytest.raises(DataError, match="damaged") as refused:
        read_idx(b"\0\0\x08\xff" + b"\xff" * 4 * 255, name="idx")
    assert len(refused.value.why) < 400
