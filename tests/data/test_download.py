"""Verifying, importing and downloading the files of a data set."""

import gzip
import os
import re
import runpy
import shutil
import stat
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torchvision.datasets

from mnistcli.data import checksums, download
from mnistcli.data.datasets import DATASETS, load_dataset
from mnistcli.data.download import (
    FileState,
    download_dataset,
    import_files,
    require_complete,
    verify_files,
)
from mnistcli.errors import DataError, SettingsError
from mnistcli.system.lock import LOCK_NAME
from tests.helpers.small_mnist import (
    GZ_NAMES,
    NAMES,
    NUM_TRAIN,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Mirror,
    change_a_byte,
    contents,
    names_in,
    packed,
    put,
    put_data,
    refusing_url,
    serving,
    small_mnist,
    states_by_name,
    unpacked,
)

PACKED_OR_NOT = pytest.mark.parametrize("files", [packed(), unpacked()], ids=["gz", "unpacked"])


@pytest.fixture(autouse=True)
def torchvision_mirrors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Torchvision's mirrors of MNIST: none, until a test adds one to this list. No retries."""
    mirrors: list[str] = []
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", mirrors)
    monkeypatch.setattr(download, "NUM_RETRIES", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return mirrors


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving(packed()) as mirror:
        yield mirror


@pytest.fixture
def second_mirror() -> Iterator[Mirror]:
    with serving(packed()) as mirror:
        yield mirror


def test_verify_distinguishes_verified_missing_and_damaged_and_changes_nothing(
    tmp_path: Path,
) -> None:
    dataset = small_mnist()
    folder = put_data(tmp_path, packed())
    require_complete(dataset, verify_files(dataset, tmp_path), tmp_path)
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    states = verify_files(dataset, tmp_path)
    assert [state.state for state in states] == ["verified", "damaged", "missing", "verified"]
    assert [state.path for state in states] == [folder / name for name in GZ_NAMES]
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before
    with pytest.raises(DataError, match="mnist is not complete") as caught:
        require_complete(dataset, states, tmp_path)
    assert f"mnist download --data-dir {tmp_path}" in caught.value.fix
    assert [line.split()[0] for line in caught.value.why.splitlines()] == [
        str(folder / f"{name}.gz") for name in (TRAIN_LABELS, TEST_IMAGES)
    ]


def test_verify_creates_no_directory(tmp_path: Path) -> None:
    states = verify_files(small_mnist(), tmp_path / "data")
    assert states_by_name(states) == dict.fromkeys(NAMES, "missing")
    assert not (tmp_path / "data").exists()


def test_digits_need_no_files(tmp_path: Path, mirror: Mirror) -> None:
    digits, data_dir = DATASETS["digits"], tmp_path / "data"
    assert verify_files(digits, data_dir) == []
    assert download_dataset(digits, data_dir, mirrors=[mirror.url]) == []
    assert import_files(digits, data_dir, tmp_path) == []
    assert not data_dir.exists()


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
@PACKED_OR_NOT
def test_files_are_imported_flat_or_from_torchvisions_folders(
    tmp_path: Path, files: dict[str, bytes], place: str
) -> None:
    data_dir = tmp_path / "data"
    source = put(tmp_path / "source" / place, files)
    states = import_files(small_mnist(), data_dir, tmp_path / "source")
    assert states_by_name(states) == dict.fromkeys(NAMES, "imported")
    assert [state.source for state in states] == [str(source / name) for name in files]
    assert contents(data_dir / "MNIST" / "raw") == files


@pytest.mark.parametrize(
    "name",
    [
        "train-images.idx3-ubyte",
        "train-images.idx3-ubyte.gz",
        "train-images-idx3-ubyte (1).gz",
        "Train-Images-idx3-ubyte",
        "train-images-idx3-ubyte/train-images-idx3-ubyte",
        "train-images.idx3-ubyte/train-images.idx3-ubyte",
    ],
)
def test_files_are_imported_under_any_usual_name(tmp_path: Path, name: str) -> None:
    files = packed() if name.endswith(".gz") else unpacked()
    source = put(tmp_path / "source", files)
    path = source / name
    original = next(source.glob(f"{TRAIN_IMAGES}*")).rename(source / "original")
    path.parent.mkdir(exist_ok=True)
    original.rename(path)
    states = import_files(small_mnist(), tmp_path / "data", source)
    assert states[0] == FileState(TRAIN_IMAGES, "imported", states[0].path, str(path))
    assert len(load_dataset(small_mnist(), "train", tmp_path / "data")) == NUM_TRAIN
    # Put there by hand, they need no import.
    raw = shutil.copytree(source, tmp_path / "by hand" / "MNIST" / "raw")
    states = verify_files(small_mnist(), tmp_path / "by hand")
    assert states[0] == FileState(TRAIN_IMAGES, "verified", raw / name)
    assert len(load_dataset(small_mnist(), "train", tmp_path / "by hand")) == NUM_TRAIN


@pytest.mark.parametrize(
    "name", [f"._{TRAIN_IMAGES}.gz", f"emnist-digits-{TRAIN_IMAGES}.gz", f"other/{TRAIN_IMAGES}"]
)
def test_other_names_are_not_looked_at(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(unpacked()[TRAIN_IMAGES])
    with pytest.raises(DataError, match=f"does not contain {TRAIN_IMAGES}"):
        import_files(small_mnist(), tmp_path / "data", tmp_path)


def test_the_sound_one_of_two_files_is_taken(tmp_path: Path) -> None:
    dataset, data_dir = small_mnist(), tmp_path / "data"
    for folder in (put(tmp_path / "source", packed()), put_data(data_dir, packed())):
        put(folder, unpacked())
        change_a_byte(folder / f"{TRAIN_IMAGES}.gz")
    assert states_by_name(verify_files(dataset, data_dir)) == dict.fromkeys(NAMES, "verified")
    assert len(load_dataset(dataset, "train", data_dir)) == NUM_TRAIN
    states = import_files(dataset, tmp_path / "imported", tmp_path / "source")
    assert states[0].source == str(tmp_path / "source" / TRAIN_IMAGES)


@pytest.mark.parametrize("kind", ["unpacked by the browser", "packed again"])
def test_the_checksum_of_the_content_decides(tmp_path: Path, kind: str) -> None:
    files = {
        f"{name}.gz": raw if "browser" in kind else gzip.compress(raw, 1, mtime=7)
        for name, raw in unpacked().items()
    }
    dataset, data_dir = small_mnist(), tmp_path / "data"
    put_data(data_dir, files)
    assert states_by_name(verify_files(dataset, data_dir)) == dict.fromkeys(NAMES, "verified")
    import_files(dataset, tmp_path / "imported", put(tmp_path / "source", files))
    assert contents(tmp_path / "imported" / "MNIST" / "raw") == unpacked()


def test_files_packed_again_are_named_where_only_the_gz_has_a_checksum(tmp_path: Path) -> None:
    files = {f"{name}.gz": gzip.compress(raw, 1, mtime=7) for name, raw in unpacked().items()}
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz") as caught:
        import_files(
            small_mnist(with_sha256=False), tmp_path / "data", put(tmp_path / "source", files)
        )
    assert "packed again" in caught.value.why


def test_verified_files_are_not_imported_again(tmp_path: Path) -> None:
    folder = put_data(tmp_path / "data", packed())
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()]
    (tmp_path / "nothing").mkdir()
    states = import_files(small_mnist(), tmp_path / "data", tmp_path / "nothing")
    assert states_by_name(states) == dict.fromkeys(NAMES, "verified")
    after = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()]
    assert after == before


@PACKED_OR_NOT
def test_an_import_repairs_a_damaged_file(tmp_path: Path, files: dict[str, bytes]) -> None:
    dataset, data_dir = small_mnist(), tmp_path / "data"
    folder = put_data(data_dir, packed())
    change_a_byte(folder / f"{TRAIN_IMAGES}.gz")
    states = import_files(dataset, data_dir, put(tmp_path / "source", files))
    assert [state.state for state in states] == ["imported", *["verified"] * 3]
    assert len(load_dataset(dataset, "train", data_dir)) == NUM_TRAIN


@PACKED_OR_NOT
def test_an_import_refuses_a_file_with_a_wrong_checksum(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    source = put(tmp_path / "source", files)
    path = next(source.glob(f"{TRAIN_LABELS}*"))
    change_a_byte(path)
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        import_files(small_mnist(), tmp_path / "data", source)
    assert caught.value.why == "Its checksum is wrong."
    assert not any(TRAIN_LABELS in name for name in names_in(tmp_path / "data"))


def test_an_unpacked_file_without_a_known_checksum_is_not_imported(tmp_path: Path) -> None:
    dataset, source = small_mnist(with_sha256=False), put(tmp_path / "source", unpacked())
    with pytest.raises(DataError, match=TRAIN_IMAGES) as caught:
        import_files(dataset, tmp_path / "data", source)
    assert caught.value.why == "It is unpacked, and only its .gz has a published checksum."
    assert names_in(tmp_path / "data") == set()
    import_files(dataset, tmp_path / "data", put(source, packed()))
    assert names_in(tmp_path / "data") == set(GZ_NAMES)


@pytest.mark.parametrize("kind", ["nothing", "directory", "pipe", "broken link", "device"])
def test_an_import_names_what_is_not_a_file_and_does_not_hang(tmp_path: Path, kind: str) -> None:
    source = put(tmp_path / "source", packed())
    path = source / f"{TRAIN_IMAGES}.gz"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "nothing":
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(DataError, match=f"does not contain {TRAIN_IMAGES}") as caught:
        import_files(small_mnist(), tmp_path / "data", source)
    assert str(source) in caught.value.what
    assert names_in(tmp_path / "data") == set()


def test_a_huge_file_is_read_only_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "MAX_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 1 << 20)
    source, huge = put(tmp_path / "source", packed()), put_data(tmp_path / "huge", packed())
    for folder in (source, huge):
        os.truncate(folder / f"{TRAIN_IMAGES}.gz", 1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz") as caught:
            import_files(small_mnist(), tmp_path / "data", source)
        states = verify_files(small_mnist(), tmp_path / "huge")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.why == "It has more than 1 MiB."
    assert names_in(tmp_path / "data") == set()
    assert [state.state for state in states] == ["damaged", *["verified"] * 3]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that cannot be read")
@pytest.mark.parametrize("place", ["source", "data/MNIST/raw"])
def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path, place: str) -> None:
    source = put(tmp_path / "source", packed())
    path = put(tmp_path / place, {}) / f"{TRAIN_IMAGES}.gz"
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/mem")  # not even root can read its beginning
    with pytest.raises(DataError, match=re.escape(f"Cannot read {path}.")):
        import_files(small_mnist(), tmp_path / "data", source)
    put(path.parent, {TRAIN_IMAGES: unpacked()[TRAIN_IMAGES]})
    states = import_files(small_mnist(), tmp_path / "data", source)
    assert states[0].state == ("imported" if place == "source" else "verified")


@pytest.mark.parametrize("kind", ["pipe", "broken link"])
def test_a_file_replaces_what_is_not_a_file(tmp_path: Path, kind: str) -> None:
    folder = put_data(tmp_path / "data", {})
    path = folder / f"{TRAIN_IMAGES}.gz"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    import_files(small_mnist(), tmp_path / "data", put(tmp_path / "source", packed()))
    assert contents(folder) == packed()


def test_the_leftovers_of_a_killed_process_are_removed(tmp_path: Path, mirror: Mirror) -> None:
    folder = put_data(tmp_path, {f".{TRAIN_IMAGES}.gz.12-0123abcd.tmp": b"half"})
    put(folder / download.STAGING_FOLDER, {"tmpabc": b"half"})
    download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    assert contents(folder) == packed()


def test_neither_pooch_nor_requests_is_imported_unless_something_is_downloaded(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pooch", "requests"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail
    runpy.run_path(download.__file__)
    import_files(small_mnist(), tmp_path, put(tmp_path / "source", packed()))
    states = download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "verified")


def test_a_complete_data_set_needs_no_lock(tmp_path: Path, mirror: Mirror) -> None:
    folder = put_data(tmp_path, packed())
    (folder / LOCK_NAME).mkdir()
    states = download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "verified")
    change_a_byte(folder / f"{TEST_LABELS}.gz")
    with pytest.raises(DataError, match="Cannot write to"):
        download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    assert mirror.asked == []


# Some servers send no length, some declare the .gz as an encoding, which must not be undone.
@pytest.mark.parametrize("fault", ["", "hides the length", "declares an encoding"])
def test_every_file_is_downloaded_once_and_can_be_loaded(
    tmp_path: Path, mirror: Mirror, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    if fault:
        mirror.fail(fault)
    dataset = small_mnist()
    progress: dict[str, list[tuple[int, int | None]]] = {name: [] for name in NAMES}
    states = download_dataset(
        dataset,
        tmp_path,
        mirrors=[mirror.url.rstrip("/")],
        on_progress=lambda name, *numbers: progress[name].append(numbers),
    )
    assert states_by_name(states) == dict.fromkeys(NAMES, "downloaded")
    assert [state.source for state in states] == [f"{mirror.url}{name}" for name in GZ_NAMES]
    assert contents(states[0].path.parent) == packed()
    assert len(load_dataset(dataset, "train", tmp_path)) == NUM_TRAIN
    if fault != "hides the length":
        sizes = [len(content) for content in packed().values()]
        assert [numbers[-1] for numbers in progress.values()] == [(size, size) for size in sizes]
    download_dataset(dataset, tmp_path, mirrors=[mirror.url])
    assert mirror.asked == GZ_NAMES
    assert capfd.readouterr() == ("", "")


def test_progress_counts_up_to_the_size_of_the_file(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK_BYTES", 500)
    counts: dict[str, list[int]] = {name: [] for name in NAMES}
    download_dataset(
        small_mnist(),
        tmp_path,
        mirrors=[mirror.url],
        on_progress=lambda name, num_bytes, _: counts[name].append(num_bytes),
    )
    size = len(packed()[f"{TRAIN_IMAGES}.gz"])
    assert counts[TRAIN_IMAGES] == [*range(500, size, 500), size, size]


def test_only_missing_and_damaged_files_are_downloaded(tmp_path: Path, mirror: Mirror) -> None:
    folder = put_data(tmp_path, packed())
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_LABELS}.gz").write_bytes(b"")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    states = download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    assert [state.state for state in states] == ["verified", *["downloaded"] * 3]
    assert mirror.asked == [f"{name}.gz" for name in (TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)]
    assert contents(folder) == packed()


# The fault of a mirror and part of the reason that is reported.
FAULTS: dict[int | str, str] = {
    404: "HTTP status 404",
    503: "HTTP status 503",
    "sends other bytes": "wrong checksum",
    "breaks off": "IncompleteRead",
    "talks nonsense": "BadStatusLine",
    "hangs": "timed out",
    "stalls": "timed out",
    "redirects to ftp://127.0.0.1/file": "ftp://127.0.0.1/file",
    "redirects to file:///etc/hostname": "file:///etc/hostname",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items())
def test_each_failed_mirror_is_named_once_with_its_reason_and_nothing_is_changed(
    tmp_path: Path,
    mirror: Mirror,
    torchvision_mirrors: list[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: int | str,
    reason: str,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    folder = put_data(tmp_path, packed())
    change_a_byte(folder / f"{TEST_LABELS}.gz")
    before = contents(folder)
    mirror.fail(fault)
    refusing = refusing_url()
    torchvision_mirrors += [refusing, mirror.url]
    with pytest.raises(DataError, match=re.escape(f"{TEST_LABELS}.gz")) as caught:
        download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url, mirror.url])
    first, second = caught.value.why.splitlines()
    assert first.startswith(f"{mirror.url}: ")
    assert reason in first
    assert second == f"{refusing}: Connection refused"
    assert caught.value.exit_code == 3
    assert "--mirror" in caught.value.fix
    assert "--from" in caught.value.fix
    assert mirror.asked == [f"{TEST_LABELS}.gz"]
    assert contents(folder) == before


@pytest.mark.parametrize("fault", [404, "sends other bytes", "breaks off"])
def test_the_next_mirror_is_tried(
    tmp_path: Path,
    mirror: Mirror,
    second_mirror: Mirror,
    torchvision_mirrors: list[str],
    fault: int | str,
) -> None:
    mirror.fail(fault, name=f"{TRAIN_LABELS}.gz")
    torchvision_mirrors.append(second_mirror.url)
    states = download_dataset(small_mnist(), tmp_path, mirrors=[refusing_url(), mirror.url])
    assert second_mirror.asked == [f"{TRAIN_LABELS}.gz"]
    assert [state.source.startswith(mirror.url) for state in states] == [True, False, True, True]
    assert contents(states[0].path.parent) == packed()


def test_a_mirror_that_fails_once_is_tried_again(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "NUM_RETRIES", 1)
    mirror.fail("breaks off", times=1, name=f"{TEST_IMAGES}.gz")
    download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    assert len(mirror.asked) == len(NAMES) + 1
    assert names_in(tmp_path) == set(GZ_NAMES)


@pytest.mark.parametrize("fault", ["", "hides the length"])
def test_a_mirror_that_sends_too_much_is_given_up(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(download, "CHUNK_BYTES", 500)
    monkeypatch.setattr(download, "NUM_RETRIES", 1)
    if fault:
        mirror.fail(fault)
    counts: list[int] = []
    with pytest.raises(DataError, match="No mirror") as caught:
        download_dataset(
            small_mnist(),
            tmp_path,
            mirrors=[mirror.url],
            on_progress=lambda _, num_bytes, __: counts.append(num_bytes),
        )
    assert "more than" in caught.value.why
    assert counts == [500, 1000]
    assert len(mirror.asked) == 1
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_umask_decides_who_may_read_a_downloaded_file(
    tmp_path: Path, mirror: Mirror, umask: int, expected: int
) -> None:
    before = os.umask(umask)
    try:
        states = download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url])
    finally:
        os.umask(before)
    assert {stat.S_IMODE(state.path.stat().st_mode) for state in states} == {expected}


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/", "/tmp/mnist", "http://", "http://[::1/"])
def test_an_address_that_is_not_http_is_refused_before_anything_is_downloaded(
    tmp_path: Path, mirror: Mirror, address: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"'{address}' is not a mirror")) as caught:
        download_dataset(small_mnist(), tmp_path, mirrors=[mirror.url, address])
    assert "--from" in caught.value.fix
    assert mirror.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/é{version}/", "http://.wrong/", "http://127.0.0.1:port/"]
)
def test_an_unusable_address_fails_like_any_other_mirror(
    tmp_path: Path, mirror: Mirror, address: str
) -> None:
    states = download_dataset(small_mnist(), tmp_path, mirrors=[address, mirror.url])
    assert states_by_name(states) == dict.fromkeys(NAMES, "downloaded")


Get = Callable[[Mirror, Path], list[FileState]]


def download_from(mirror: Mirror, data_dir: Path) -> list[FileState]:
    return download_dataset(small_mnist(), data_dir, mirrors=[mirror.url, f"{mirror.url}again/"])


def import_from(mirror: Mirror, data_dir: Path) -> list[FileState]:
    return import_files(small_mnist(), data_dir, put(Path("source"), packed()))


@pytest.mark.parametrize("get", [download_from, import_from])
def test_a_directory_that_cannot_be_created_is_an_error(
    tmp_path: Path, mirror: Mirror, get: Get
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=re.escape(f"Cannot write to {tmp_path}")) as caught:
        get(mirror, tmp_path / "file" / "data")
    assert "--data-dir" in caught.value.fix
    assert mirror.asked == []


@pytest.mark.parametrize("taken", [f"{TRAIN_IMAGES}.gz", download.STAGING_FOLDER])
def test_a_file_that_cannot_be_written_is_not_blamed_on_the_mirrors(
    tmp_path: Path, mirror: Mirror, taken: str
) -> None:
    folder = put_data(tmp_path / "data", {})
    if taken == download.STAGING_FOLDER:
        (folder / taken).touch()
    else:
        (folder / taken).mkdir()
    with pytest.raises(DataError, match=re.escape(f"Cannot write to {folder}.")):
        download_from(mirror, tmp_path / "data")
    assert len(mirror.asked) <= 1
