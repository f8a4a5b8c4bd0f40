"""Archives of plain values and tensors: everything else is refused, and nothing in a file runs."""

import collections
import pickle
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.errors import DataError
from mnistcli.runs import archive
from mnistcli.runs.archive import has_valid_tensors, load_archive, pack
from tests.helpers.audit import touches_only
from tests.helpers.forged_archives import (
    BAIT,
    DANGEROUS_CALLS,
    Call,
    archive_of_pickle,
    saved,
    zip_members,
)

CONTENT: dict[str, Any] = {"numbers": torch.arange(5.0), "words": ["a", "b"], "nested": {"one": 1}}


def assert_refused(content: bytes) -> DataError:
    """Reading a file with this content fails, and does nothing else."""
    path = Path("x.pth").absolute()
    path.write_bytes(content)
    with touches_only(path), pytest.raises(DataError, match=r"x\.pth") as refused:
        load_archive(path)
    assert refused.value.fix
    assert not BAIT.exists()
    return refused.value


def test_packed_content_is_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pack(CONTENT))
    loaded = load_archive(tmp_path / "x.pth")
    assert torch.equal(loaded.pop("numbers"), torch.arange(5.0))
    assert loaded == {"words": ["a", "b"], "nested": {"one": 1}}


@pytest.mark.parametrize("call", DANGEROUS_CALLS, ids=lambda call: call[0].__qualname__)
def test_no_function_in_a_file_is_called(call: tuple[Any, ...]) -> None:
    pickled = pickle.dumps({"card": Call(*call), "weights": {}}, protocol=2)
    assert_refused(archive_of_pickle(pickled))
    assert_refused(pickled)


def test_a_file_that_could_run_code_is_named_as_such() -> None:
    pickled = pickle.dumps(Call(print, "x"), protocol=2)
    assert "could run code" in assert_refused(archive_of_pickle(pickled)).why


@pytest.mark.parametrize("prefix", [b"\x00", saved(CONTENT, _use_new_zipfile_serialization=False)])
def test_a_file_with_an_archive_only_at_its_end_is_refused(prefix: bytes) -> None:
    """Python finds an archive at the end of a file; PyTorch reads the beginning."""
    assert_refused(prefix + saved(CONTENT))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_the_same_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("archive/data.pkl", b"one")
        archive.writestr("archive/data.pkl", b"two")
    assert_refused((tmp_path / "twice.zip").read_bytes())


def test_compressed_members_are_not_decompressed() -> None:
    members = {"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(50_000_000)}
    bomb = zip_members(members, compression=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    assert_refused(bomb)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_older_formats_of_pytorch_are_not_opened(tmp_path: Path) -> None:
    assert_refused(saved(CONTENT, _use_new_zipfile_serialization=False))
    (tmp_path / "storages").write_bytes(b"x")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "storages", "storages")
        tar.add(tmp_path / "storages", "../../escaped")
    assert_refused((tmp_path / "x.tar").read_bytes())


def test_a_flipped_bit_is_detected() -> None:
    content = bytearray(pack(CONTENT))
    content[content.index(torch.arange(5.0).numpy().tobytes()) + 6] ^= 1
    assert "damaged" in assert_refused(bytes(content)).why


def test_members_marked_as_directories_are_read(tmp_path: Path) -> None:
    """PyTorch would skip them and leave the tensors' memory uninitialized."""
    path = tmp_path / "x.pth"
    content = bytearray(pack(CONTENT))
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        at, members = archive.start_dir, archive.infolist()
    for member in members:
        content[at + 38] |= 0x10  # MS-DOS's directory bit in the external attributes
        at += 46 + len(member.filename) + len(member.extra) + len(member.comment)
    path.write_bytes(content)
    assert torch.equal(load_archive(path)["numbers"], CONTENT["numbers"])


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([float("nan")]),
        torch.zeros(1).expand(10),
        torch.empty(10, device="meta"),
        torch.ones(10).to_sparse(),
        torch.ones(10).half(),
        torch.ones(10) * 1j,
        b"bytes",
    ],
)
def test_only_plain_values_and_finite_dense_tensors_are_valid(tensor: object) -> None:
    assert has_valid_tensors(CONTENT)
    assert not has_valid_tensors({"nested": [{"tensor": tensor}]})


@pytest.mark.parametrize("values", [3, collections.OrderedDict])
def test_a_dict_cannot_hide_its_values(values: Any) -> None:
    table = collections.OrderedDict(weight=torch.tensor([float("nan")]))
    table.values = values  # type: ignore[method-assign]
    assert not has_valid_tensors({"state": table})


@pytest.mark.parametrize("is_missing", [False, True])
def test_an_unreadable_bundled_network_asks_to_reinstall(
    is_missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "WEIGHTS", tmp_path)
    path = tmp_path / "ink-finder.pth"
    if not is_missing:
        path.write_bytes(pack({"weights": torch.zeros(9)})[:-9])
    with pytest.raises(DataError) as caught:
        load_archive(path)
    assert caught.value.fix == "The package is damaged; install it again."
