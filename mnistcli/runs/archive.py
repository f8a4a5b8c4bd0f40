"""Files of plain values and tensors, as PyTorch saves them; no code in one is ever run."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mnistcli.errors import DataError
from mnistcli.system.files import UnreadableFileError, require_readable

if TYPE_CHECKING:
    import torch


def pack(content: Mapping[str, Any]) -> bytes:
    """The file that holds `content`: plain values and tensors in dicts and lists."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_archive(path: Path) -> Any:
    """What a file holds, if that is plain values and tensors.

    Raises:
        DataError: the file is missing, damaged, packed, or holds anything else.
    """
    import pickle
    import warnings

    import torch

    try:
        require_readable(path)
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            return torch.load(_rewrite_members(file), map_location="cpu", weights_only=True)
    except (UnreadableFileError, FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(
            f"The checkpoint {path} cannot be read.",
            why=f"{error.strerror or error}.",
            fix="Name a .pth file or a run: mnist train makes one.",
        ) from error
    except pickle.UnpicklingError as error:
        why = (
            "It holds more than plain numbers and tensors, so it was not opened: it could run code."
        )
        raise invalid_checkpoint(path, why) from error
    # Whatever a damaged file makes the reader stumble over.
    except Exception as error:
        raise invalid_checkpoint(path, "The file is damaged or of another kind.") from error


def has_valid_tensors(content: object) -> bool:
    """Whether all in `content` is plain, and its tensors dense, finite and of a usual type."""
    return all(map(_is_valid_tensor, _leaves(content)))


def is_dense_on_cpu(tensor: "torch.Tensor") -> bool:
    """Whether it is dense, and all its values are in the file.

    Others may be as large as they like in a file of some bytes: their values
    repeat, or are not there at all.
    """
    import torch

    if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return not tensor.is_neg() and tensor.nbytes <= tensor.untyped_storage().nbytes()


def invalid_checkpoint(path: Path, why: str) -> DataError:
    """The error about a file that is none of ours."""
    return DataError(
        f"{path} is no checkpoint that this version reads.",
        why=why,
        fix="Name a .pth file or a run that this version of mnist train wrote.",
    )


def _rewrite_members(file: IO[bytes]) -> io.BytesIO:
    """The members of an archive as `packed` makes it, read by checksum, in a fresh one.

    PyTorch compares no checksum, so that a flipped bit becomes another weight;
    it unpacks whatever is packed, to any size; it reads older formats, which
    are less strict; and of a file that is two archives it may read the other
    one. So it is given nothing but what was read here.

    Raises:
        BadZipFile: it is no such archive, or damaged.
    """
    is_archive = file.read(4) == b"PK\3\4"
    size_bytes = file.seek(0, io.SEEK_END)
    fresh = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(fresh, "w") as copy:
        members = archive.infolist()
        packed_up = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        is_larger = sum(member.file_size for member in members) > size_bytes
        if not is_archive or packed_up or is_larger or len(set(archive.namelist())) < len(members):
            raise zipfile.BadZipFile("not as it was written")
        for member in members:
            copy.writestr(member.filename, archive.read(member))
    fresh.seek(0)
    return fresh


def _leaves(content: object) -> Iterator[object]:
    """What is in dicts and lists, nested as they like, and is no plain value."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += dict.values(value)  # a file may give a table attributes of that name
        elif isinstance(value, list | tuple):
            waiting += value
        elif value is not None and not isinstance(value, bool | int | float | str):
            yield value


def _is_valid_tensor(value: object) -> bool:
    """Whether it is a dense tensor with all its values in the file, and they are finite."""
    import torch

    if type(value) is not torch.Tensor:
        return False
    tensor = torch.detach(value)
    is_known = tensor.dtype in (torch.float32, torch.int64, torch.uint8)
    return is_known and is_dense_on_cpu(tensor) and bool(tensor.isfinite().all())
