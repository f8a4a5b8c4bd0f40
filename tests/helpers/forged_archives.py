"""Forged .pth files: archives around any pickle, and pickles that would run code if unpickled.

The code would create `BAIT` in the current directory.
"""

import builtins
import io
import os
import pickle
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

BAIT = Path("executed-by-a-checkpoint")


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced

    def __deepcopy__(self, _memo: object) -> "Call":
        return self  # a copy by `__reduce__` would make the call


DANGEROUS_CALLS: tuple[tuple[Any, ...], ...] = (
    (os.system, f"touch {BAIT}"),
    (subprocess.Popen, ["touch", str(BAIT)]),
    (builtins.eval, f"open({str(BAIT)!r}, 'w')"),
    (builtins.getattr, "os", "upper"),
    (Path.touch, BAIT),
    (pickle.loads, pickle.dumps(Call(os.system, f"touch {BAIT}"))),
    (torch.load, "/etc/passwd"),
    (torch.storage._load_from_bytes, pickle.dumps(Call(os.system, f"touch {BAIT}"))),
    (torch.UntypedStorage.from_file, str(BAIT), True, 10),
    (torch.set_default_dtype, torch.float16),
    (torch.serialization.add_safe_globals, [os.system]),
    (bytearray, 2**40),
    (torch.empty, 2**40),
    (torch.nn.Linear, 2**20, 2**20),
)

# Opcodes that Python's own pickler never writes.
RAW_PICKLES = (
    b"cos\nsystem\n(S'touch %b'\ntR." % str(BAIT).encode(),
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x05touch\x85R.",
    b"\x80\x04\x8c\x05torch\x8c\x0bhub.os.fork\x93)R.",
    b"\x80\x02\x82\x01.",  # an extension code
    b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",  # text longer than the file
    b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",  # a number longer than the file
    b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",  # a huge memo index
    b"\x80\x02" + b"]" * 90_000 + b"a" * 89_999 + b".",  # nested too deeply
    b"\x80\x02]" + b"q\x00(h\x00h\x00e" * 40 + b".",  # 2^40 items
    b"\x80\x02}" + b"q\x00h\x00h\x00s" + b".",  # a dict that holds itself
    b"\x80\x07N.",  # an unknown protocol
    b"",
)


def saved(content: Any, **options: Any) -> bytes:
    """The bytes of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive_of_pickle(pickled: bytes) -> bytes:
    """A checkpoint archive around a pickle."""
    members = {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little", "data/0": bytes(400)}
    return zip_members({f"archive/{name}": content for name, content in members.items()})


def zip_members(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with correct checksums."""
    target = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return target.getvalue()


def unzip_members(content: bytes) -> dict[str, bytes]:
    """The members of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
