"""Thousands of picture files: which files a command line names, and what is in each.

Does not import torch, so that the processes that decode pictures start quickly.
"""

import glob
import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.data.arrays import GrayImage
from mnistcli.errors import DataError, RunError
from mnistcli.reading.decode import (
    FORMAT_NAMES,
    SUFFIXES,
    UNREAD_SUFFIXES,
    decode_picture,
    too_large_error,
)
from mnistcli.reading.pipeline import Segmentation, segment_thumbnail
from mnistcli.reading.thumbnail import MAX_SIDE_PX
from mnistcli.system.machine import num_cores

STDIN = "-"
# A sample: 4207, drawn from strokes of `synthesis/pen_digits.py`.
DEMO = Path(__file__).with_name("demo.png")
# Hardly a picture of `MAX_PIXELS` is larger; a disk image or a device is.
MAX_BYTES = 400_000_000
# Pictures that a process decodes, and that are predicted, at a time.
CHUNK_SIZE = 32
# Fewer pictures are finished before a second process has started.
MIN_FOR_PROCESSES = 200
# Decoded chunks that wait to be predicted, per process: enough to go on while torch is loading,
# few enough to keep the memory constant.
CHUNKS_AHEAD = 24
# ProcessPoolExecutor takes no more on Windows.
MAX_PROCESSES = 61


@dataclass(frozen=True)
class PictureResult:
    """A picture file as far as it is read without a network, or the reason why it cannot be.

    Attributes:
        gray_HW: uint8, 0 black to 255 white, the longest side at most 800 pixels.
        segmentation: of a thumbnail; in a larger picture it takes a network to find the ink.
        size: width and height in pixels of the whole upright picture.
    """

    name: str
    gray_HW: NDArray[np.uint8] | None = None
    segmentation: Segmentation | None = None
    error: DataError | None = None
    num_frames: int = 1
    size: tuple[int, int] = (0, 0)

    def gray(self) -> GrayImage:
        """The picture as float32 (H, W), 0 black to 1 white."""
        assert self.gray_HW is not None
        return self.gray_HW.astype(np.float32) / np.float32(255)


def find_picture_files(
    names: Sequence[str], *, recursive: bool
) -> tuple[list[str], list[DataError], Counter[str]]:
    """The picture files that the names of files, directories and patterns stand for, in order.

    A directory stands for the files in it with a suffix of a picture, with `recursive`
    also for those in its subdirectories; "-" is standard input. For names without
    pictures there are errors. The counts, by suffix, are of the files in directories that are
    left out because their format is not read.
    """
    files, errors = [], []
    unread: Counter[str] = Counter()
    for name in names:
        try:
            files += _expand(name, unread, recursive=recursive)
        except DataError as error:
            errors.append(error)
    return files, errors, unread


def _expand(name: str, unread: Counter[str], *, recursive: bool) -> list[str]:
    # Path.is_dir and Path.exists raise errors for impossible names.
    if os.path.isdir(name):  # noqa: PTH112
        return _files_in(Path(name), unread, recursive=recursive)
    if name != STDIN and glob.has_magic(name) and not os.path.exists(name):  # noqa: PTH110
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (it takes absolute patterns)
        if not matches:
            what = f"No file matches '{name}'."
            raise DataError(what, fix="Check the pattern; * stands for any characters.")
        return [file for match in matches for file in _expand(match, unread, recursive=recursive)]
    return [name]


def _files_in(directory: Path, unread: Counter[str], *, recursive: bool) -> list[str]:
    paths = directory.rglob("*") if recursive else directory.glob("*")
    pictures = [path for path in paths if _is_picture(path, directory)]
    files = sorted(str(path) for path in pictures if path.suffix.lower() in SUFFIXES)
    unread.update(path.suffix.lower() for path in pictures if path.suffix.lower() not in SUFFIXES)
    if not files:
        raise DataError(
            f"There are no pictures in '{directory}'.",
            why=f"No file in it has a suffix of {FORMAT_NAMES}.",
            fix="Name another directory" + ("." if recursive else ", or add --recursive."),
        )
    return files


def _is_picture(path: Path, directory: Path) -> bool:
    """Whether a file has a picture's suffix, read or not, and is not hidden (macOS's ._1.png)."""
    hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
    return path.suffix.lower() in SUFFIXES | UNREAD_SUFFIXES and not hidden and path.is_file()


def decode_files(names: Sequence[str], *, single: bool) -> Iterator[list[PictureResult]]:
    """Decode picture files and segment the thumbnails, in the order of `names`, in chunks.

    Many pictures are distributed over as many processes as there are cores.

    Raises:
        RunError: one of these processes was killed.
    """
    decode_chunk = partial(_decode_chunk, single=single)
    if len(names) < MIN_FOR_PROCESSES or STDIN in names:
        yield from (decode_chunk([name]) for name in names)
        return
    chunks = (names[first : first + CHUNK_SIZE] for first in range(0, len(names), CHUNK_SIZE))
    num_processes = min(num_cores(), -(-len(names) // CHUNK_SIZE), MAX_PROCESSES)
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        # Ctrl-C is handled by the main process.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    pending: deque[Future[list[PictureResult]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(decode_chunk, chunk))
            if len(pending) > CHUNKS_AHEAD * num_processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise RunError(
            "A process that decodes pictures was killed.",
            why="The memory was full, or a damaged picture crashed its decoder.",
            fix="Name fewer pictures at a time to find the one that causes it.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_chunk(names: Sequence[str], *, single: bool) -> list[PictureResult]:
    return [decode_file(name, single=single) for name in names]


def decode_file(name: str, *, single: bool) -> PictureResult:
    """Decode a picture file, and segment a thumbnail; one that cannot be read gives an error."""
    try:
        return decode_data(read_file(name), name=name, single=single)
    except DataError as error:
        return PictureResult(name, error=without_traceback(error))


def without_traceback(error: DataError) -> DataError:
    """The error, without the traceback that would keep its picture in memory."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def decode_data(data: bytes, *, name: str, single: bool) -> PictureResult:
    """Decode the content of a picture file, and segment a thumbnail.

    Raises:
        DataError: it is damaged, or no picture.
    """
    picture = decode_picture(data, name=name)
    size = (picture.width_px, picture.height_px)
    segmentation = None
    if max(picture.gray_HW.shape) <= MAX_SIDE_PX:
        segmentation = segment_thumbnail(picture.gray_HW, size, single=single)
    pixels_HW = np.rint(255 * picture.gray_HW).astype(np.uint8)
    return PictureResult(name, pixels_HW, segmentation, num_frames=picture.num_frames, size=size)


def no_digit_error(name: str) -> DataError:
    """The error for a picture in which nothing is read."""
    return DataError(
        f"There is no digit in '{name}'.",
        why="It is blank, its ink is too faint or too small, or it shows something else.",
        fix="Draw the digit larger and darker, or crop the picture around it.",
    )


def read_file(name: str) -> bytes:
    """The content of a file, or of standard input for "-".

    Raises:
        DataError: the file does not exist, cannot be read, or is too large for a picture.
    """
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(name, "rb") as file:  # noqa: PTH123 (Path would take "" for this directory)
                data = file.read(MAX_BYTES + 1)
    # Standard input may be closed, which makes it None.
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"'{name}' cannot be read.",
            why=f"{getattr(error, 'strerror', None) or error}.",
            fix=f"Check the name; mnist predict reads {FORMAT_NAMES} files.",
        ) from error
    if len(data) > MAX_BYTES:
        raise too_large_error(name, f"It has more than {MAX_BYTES // 10**6} MB.")
    return data
