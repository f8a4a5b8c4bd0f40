"""Files of plain values and tensors in PyTorch's format, read without running code in them."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mnistcli.errors import DataError
from mnistcli.system.files import UnreadableFileError, require_readable

if TYPE_CHECKING:
    import torch

# The directory of the bundled networks.
WEIGHTS = Path(__file__).parents[1] / "models" / "weights"


def pack(content: Mapping[str, Any]) -> bytes:
    """The bytes of a file with `content`: plain values and tensors in dicts and lists."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_archive(path: Path) -> Any:
    """The content of a file that `pack` made.

    Raises:
        DataError: the file is missing, damaged, compressed, or holds other objects.
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
            fix=or_reinstall(path, "Name a .pth file or a run: mnist train makes one."),
        ) from error
    except pickle.UnpicklingError as error:
        why = (
            "It holds more than plain values and tensors, so it was not opened: it could run code."
        )
        raise invalid_checkpoint(path, why) from error
    # A damaged file can make the reader raise anything.
    except Exception as error:
        raise invalid_checkpoint(path, "The file is damaged or of another kind.") from error


def _rewrite_members(file: IO[bytes]) -> io.BytesIO:
    """A fresh archive with the members of one that `pack` made, read with their checksums.

    PyTorch compares no checksums, so a flipped bit would become another weight; it unpacks
    compressed members of any size; it reads older formats, which are less strict; and in a file
    that is two archives it may read another one than Python. So it only gets what was read here.

    Raises:
        BadZipFile: it is another kind of archive, or damaged.
    """
    is_archive = file.read(4) == b"PK\3\4"
    size_bytes = file.seek(0, io.SEEK_END)
    fresh = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(fresh, "w") as copy:
        members = archive.infolist()
        is_compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        is_larger = sum(member.file_size for member in members) > size_bytes
        has_duplicates = len(set(archive.namelist())) < len(members)
        if not is_archive or is_compressed or is_larger or has_duplicates:
            raise zipfile.BadZipFile("not an archive that PyTorch wrote")
        for member in members:
            copy.writestr(member.filename, archive.read(member))
    fresh.seek(0)
    return fresh


def has_valid_tensors(content: object) -> bool:
    """Whether `content` holds only plain values and finite, dense tensors of the usual dtypes."""
    return all(map(_is_valid_tensor, _non_plain_values(content)))


def _non_plain_values(content: object) -> Iterator[object]:
    """Everything in nested dicts and lists that is not None, a number or text."""
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending += dict.values(value)  # a file may give a dict an attribute `values`
        elif isinstance(value, list | tuple):
            pending += value
        elif value is not None and not isinstance(value, bool | int | float | str):
            yield value


def _is_valid_tensor(value: object) -> bool:
    import torch

    if type(value) is not torch.Tensor:
        return False
    tensor = torch.detach(value)
    is_known = tensor.dtype in (torch.float32, torch.int64, torch.uint8)
    return is_known and is_dense_on_cpu(tensor) and bool(tensor.isfinite().all())


def is_dense_on_cpu(tensor: "torch.Tensor") -> bool:
    """Whether a tensor is dense, and each of its values is in the file.

    Other tensors (expanded, sparse, on the meta device) can be huge in a file of a few bytes.
    """
    import torch

    if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return not tensor.is_neg() and tensor.nbytes <= tensor.untyped_storage().nbytes()


def invalid_checkpoint(path: Path, why: str) -> DataError:
    """The error for a file that is not a checkpoint or state of this version."""
    fix = "Name a .pth file or a run that this version of mnist train wrote."
    last = path.with_name("last.pth")
    if path.name == "best.pth" and last.is_file():
        fix = f"The weights of the last epoch may be whole: {last}"
    return DataError(
        f"{path} is not a checkpoint that this version reads.",
        why=why,
        fix=or_reinstall(path, fix),
    )


def or_reinstall(path: Path, fix: str) -> str:
    """What to do about an unreadable file: `fix`, but for a bundled one, install again."""
    return "The package is damaged; install it again." if path.parent == WEIGHTS else fix
