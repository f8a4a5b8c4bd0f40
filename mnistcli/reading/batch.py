"""Picture files by the thousand: which ones are meant, and the digits in each.

Knows no torch, so that the processes that decode pictures start quickly.
"""

import glob
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mnistcli.errors import DataError, RunError
from mnistcli.reading.decode import FORMAT_NAMES, SUFFIXES, decode_picture, too_large_error
from mnistcli.reading.pipeline import PipelineSteps, Segmentations, run_pipeline
from mnistcli.system.machine import num_cores

STDIN = "-"
# No picture of `MAX_PIXELS` is larger; a disk image or a device is.
MAX_BYTES = 400_000_000
# Pictures that a process decodes, and the network reads, at a time.
CHUNK_SIZE = 32
# Fewer pictures are read before a second process has started.
MIN_FOR_PROCESSES = 200
# Chunks that wait to be read, for each process: enough to go on while torch loads, few enough
# to keep the memory flat.
CHUNKS_AHEAD = 64


@dataclass(frozen=True)
class PictureResult:
    """A picture file and the digits in it, or why there are none."""

    name: str
    digits: list[Segmentations] = field(default_factory=list)
    error: DataError | None = None
    num_frames: int = 1
    width_px: int = 0
    height_px: int = 0
    steps: PipelineSteps | None = None


def find_picture_files(
    names: Sequence[str], *, recursive: bool
) -> tuple[list[str], list[DataError]]:
    """The files that names of files, directories and patterns stand for, in their order.

    A directory stands for the pictures in it by their suffixes, with `recursive`
    also for those in its subdirectories; "-" stands for standard input. A name
    that stands for no picture comes back as its error.
    """
    files, errors = [], []
    for name in names:
        try:
            files += _files(name, recursive=recursive)
        except DataError as error:
            errors.append(error)
    return files, errors


def _files(name: str, *, recursive: bool) -> list[str]:
    # Not Path's questions, which fail for impossible names.
    if os.path.isdir(name):  # noqa: PTH112
        path = Path(name)
        below = path.rglob("*") if recursive else path.glob("*")
        files = sorted(str(each) for each in below if _is_picture(each, path))
        if files:
            return files
        raise DataError(
            f"There are no pictures in '{name}'.",
            why=f"None of its files is called like a {FORMAT_NAMES} file.",
            fix="Name another directory" + ("." if recursive else ", or add --recursive."),
        )
    if name != STDIN and glob.has_magic(name) and not os.path.exists(name):  # noqa: PTH110
        files = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (it takes absolute patterns)
        if not files:
            what = f"No file is called like '{name}'."
            raise DataError(what, fix="Check the pattern; * stands for any characters.")
        return [file for each in files for file in _files(each, recursive=recursive)]
    return [name]


def _is_picture(path: Path, directory: Path) -> bool:
    """Whether a file in a directory is meant: no directory, nothing hidden (macOS's ._1.png)."""
    hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def process_pictures(
    names: Sequence[str], *, single: bool, keep_steps: bool = False
) -> Iterator[list[PictureResult]]:
    """The digits in each picture file, in the order of `names`, some pictures at a time.

    Many pictures are decoded by as many processes as there are cores.
    """
    read = partial(process_chunk, single=single, keep_steps=keep_steps)
    # Steps are large: they are drawn and dropped one by one.
    if len(names) < MIN_FOR_PROCESSES or STDIN in names or keep_steps:
        yield from (read([name]) for name in names)
        return
    chunks = (names[start : start + CHUNK_SIZE] for start in range(0, len(names), CHUNK_SIZE))
    # Windows waits for at most 61 processes at a time.
    num_processes = min(num_cores(), -(-len(names) // CHUNK_SIZE), 61)
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        # Ctrl-C is for the process that people see.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    waiting: deque[Future[list[PictureResult]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(read, chunk))
            if len(waiting) > CHUNKS_AHEAD * num_processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RunError(
            "A process that decodes pictures was killed.",
            why="The memory was full, or a damaged picture crashed its decoder.",
            fix="Name fewer pictures at a time, to find the one.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def process_chunk(names: Sequence[str], *, single: bool, keep_steps: bool) -> list[PictureResult]:
    """The digits in each of some picture files."""
    return [process_picture(name, single=single, keep_steps=keep_steps) for name in names]


def process_picture(name: str, *, single: bool, keep_steps: bool = False) -> PictureResult:
    """The digits in a picture file; a file that cannot be read comes back as its error."""
    try:
        picture = decode_picture(read_input(name), name=name)
    except DataError as error:
        # Its traceback would keep the picture in memory.
        error.__cause__ = error.__context__ = None
        return PictureResult(name, error=error.with_traceback(None))
    steps = run_pipeline(picture, single=single)
    return PictureResult(
        name,
        steps.digits,
        error=None if steps.digits else no_digit_error(name),
        num_frames=picture.num_frames,
        width_px=picture.width_px,
        height_px=picture.height_px,
        steps=steps if keep_steps else None,
    )


def no_digit_error(name: str) -> DataError:
    """The error for a picture without digits."""
    return DataError(
        f"There is no digit in '{name}'.",
        why="The picture is blank, or its ink too faint or too small to tell from the paper.",
        fix="Draw the digit larger and darker, or crop the picture around it.",
    )


def read_input(name: str) -> bytes:
    """The bytes of a file, or of standard input for "-".

    Raises:
        DataError: there is no such file, or it must not be read.
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
            fix=f"Check the name; mnist predict takes {FORMAT_NAMES} files.",
        ) from error
    if len(data) > MAX_BYTES:
        raise too_large_error(name)
    return data
