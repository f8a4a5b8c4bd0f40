"""Files of plain values and tensors: what is no such file is refused, however it is dressed."""

import collections
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.errors import DataError
from mnistcli.runs.archive import has_valid_tensors, load_archive, pack

CONTENT = {"numbers": torch.arange(5.0), "words": ["a", "b"], "nested": {"one": 1}}


def saved(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"anything")
    return buffer.getvalue()


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pack(CONTENT))
    back = load_archive(tmp_path / "x.pth")
    assert torch.equal(back.pop("numbers"), torch.arange(5.0))
    assert back == {"words": ["a", "b"], "nested": {"one": 1}}


@pytest.mark.parametrize("before", [b"\x00", saved(CONTENT, _use_new_zipfile_serialization=False)])
@pytest.mark.parametrize("archive", [zipped("archive/data.pkl"), saved(CONTENT)])
def test_a_file_that_is_an_archive_only_to_one_reader_is_refused(
    tmp_path: Path, before: bytes, archive: bytes
) -> None:
    """Python finds an archive at the end of a file, PyTorch what stands at its beginning."""
    (tmp_path / "x.pth").write_bytes(before + archive)
    assert zipfile.is_zipfile(tmp_path / "x.pth")
    with pytest.raises(DataError, match="no checkpoint"):
        load_archive(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(zipped("archive/data.pkl", "archive/data.pkl"))
    with pytest.raises(DataError, match="no checkpoint"):
        load_archive(tmp_path / "x.pth")


@pytest.mark.parametrize("values", [3, collections.OrderedDict])
def test_a_table_that_hides_its_values_is_looked_into(values: Any) -> None:
    table = collections.OrderedDict(weight=torch.tensor([float("nan")]))
    assert not has_valid_tensors(table)
    table.values = values  # type: ignore[method-assign]
    assert not has_valid_tensors({"state": table})
