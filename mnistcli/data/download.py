"""Getting a data set's files: from mirrors, or from a directory of the user's."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from mnistcli.data.datasets import (
    DataFile,
    Dataset,
    download_command,
    find_file,
    is_published,
    raw_folder,
    read_file,
)
from mnistcli.data.mirrors import MAX_FILE_BYTES, check_address, fetch
from mnistcli.errors import DataError
from mnistcli.system.files import remove_stale_temporaries, write_atomically
from mnistcli.system.lock import lock_directory

# Called with the file's name, the bytes that have come and, where known, all there are.
OnDownloadProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class FileState:
    """What became of one file. `source` says where its content came from, if anywhere."""

    name: str
    state: Literal["verified", "downloaded", "imported", "missing", "damaged"]
    path: Path
    source: str = ""


def verify_files(dataset: Dataset, data_dir: Path) -> list[FileState]:
    """The state of each file: verified, missing or damaged. Changes nothing."""
    folder = raw_folder(dataset, data_dir)
    return [_state(file, folder) for file in dataset.files]


def require_complete(dataset: Dataset, states: Sequence[FileState]) -> None:
    """Raise DataError, naming them, if files are missing or damaged."""
    bad = [state for state in states if state.state in ("missing", "damaged")]
    if bad:
        raise DataError(
            f"The data set {dataset.name} is not complete.",
            why="\n".join(f"{state.path} is {state.state}." for state in bad),
            fix=download_command(dataset),
        )


def import_files(
    dataset: Dataset, data_dir: Path, source: Path, *, on_wait: Callable[[], None] = lambda: None
) -> list[FileState]:
    """Copy the data set's files from `source`, where they lie as `.gz` or unpacked.

    A file that is already there and right is left alone. One process at a time
    writes to a data set; `on_wait` is called if that is another one.

    Raises:
        DataError: a file is not in `source`, is not the published one, or cannot be read or
            written.
    """
    if dataset.files and not source.is_dir():
        raise DataError(
            f"{source} is no directory.",
            why="Files are imported from a directory.",
            fix="Name the directory that holds the four IDX files.",
        )
    return _repair(
        dataset, data_dir, lambda file, folder: _import_file(file, folder, source, dataset), on_wait
    )


def download_dataset(
    dataset: Dataset,
    data_dir: Path,
    *,
    mirrors: Sequence[str] = (),
    on_progress: OnDownloadProgress | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> list[FileState]:
    """Fetch what is missing or damaged, from `mirrors` and then from torchvision's.

    One process at a time writes to a data set; `on_wait` is called if that is
    another one. What that one has got is not fetched again.

    Raises:
        DataError: no mirror had a file, and of each mirror why; or it cannot be written.
        SettingsError: a mirror is no http or https address.
    """
    for mirror in mirrors:
        check_address(mirror)
    return _repair(
        dataset,
        data_dir,
        lambda file, folder: _fetch_file(file, folder, _all_mirrors(dataset, mirrors), on_progress),
        on_wait,
    )


def _repair(
    dataset: Dataset,
    data_dir: Path,
    get: Callable[[DataFile, Path], FileState],
    on_wait: Callable[[], None],
) -> list[FileState]:
    """Let `get` get each file that is not there or not right, while no other process does."""
    states = verify_files(dataset, data_dir)
    if all(state.state == "verified" for state in states):
        return states
    folder = raw_folder(dataset, data_dir)
    with _lock_folder(folder, on_wait):
        remove_stale_temporaries(folder)
        return [_get_unless_verified(file, folder, get) for file in dataset.files]


def _get_unless_verified(
    file: DataFile, folder: Path, get: Callable[[DataFile, Path], FileState]
) -> FileState:
    state = _state(file, folder)
    return state if state.state == "verified" else get(file, folder)


@contextmanager
def _lock_folder(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """The folder, made if need be, for this process alone."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_directory(folder, wait=on_wait))
        except OSError as error:
            raise _unwritable_error(folder, error) from error
        yield


def _write(target: Path, content: bytes) -> None:
    try:
        write_atomically(target, lambda handle: handle.write(content))
    except OSError as error:
        raise _unwritable_error(target.parent, error) from error


def _unwritable_error(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"Cannot write to {folder}.",
        why=f"{error.strerror}.",
        fix="Choose another directory: --data-dir DIR, or set MNIST_DATA_DIR",
    )


def _state(file: DataFile, folder: Path) -> FileState:
    path = find_file(file, folder)
    if path is None:
        return FileState(file.name, "missing", folder / f"{file.name}.gz")
    good = is_published(path, read_file(path), file)
    return FileState(file.name, "verified" if good else "damaged", path)


def _import_file(file: DataFile, folder: Path, source: Path, dataset: Dataset) -> FileState:
    places = (source, source / "raw", source / dataset.folder / "raw")
    names = (f"{file.name}.gz", file.name)
    found = [place / name for name in names for place in places if (place / name).is_file()]
    if not found:
        raise DataError(
            f"{source} does not hold {file.name}.",
            why=f"Neither {file.name}.gz nor {file.name} is a file there.",
            fix="Name the directory that holds the four IDX files.",
        )
    content = read_file(found[0])
    if not is_published(found[0], content, file):
        raise DataError(
            f"{found[0]} is not the published file of {dataset.name}.",
            why=_why_unpublished(found[0], content, file),
            fix=f"Download it instead: mnist download --dataset {dataset.name}",
        )
    target = folder / found[0].name
    _write(target, content)
    damaged = folder / f"{file.name}.gz"
    if target != damaged and damaged.is_file():  # it would be preferred to what was imported
        damaged.unlink()
    return FileState(file.name, "imported", target, str(found[0]))


def _why_unpublished(path: Path, content: bytes, file: DataFile) -> str:
    if path.suffix != ".gz" and not file.sha256:
        return "Only its .gz has a published checksum."
    if len(content) > MAX_FILE_BYTES:
        return f"It has more than {MAX_FILE_BYTES >> 20} MiB."
    return "Its checksum is wrong."


def _fetch_file(
    file: DataFile, folder: Path, mirrors: Iterable[str], on_progress: OnDownloadProgress | None
) -> FileState:
    target = folder / f"{file.name}.gz"
    note = partial(on_progress, file.name) if on_progress else None
    fetched = fetch(target.name, mirrors, md5=file.gz_md5, on_progress=note)
    _write(target, fetched.content)
    return FileState(file.name, "downloaded", target, fetched.url)


def _all_mirrors(dataset: Dataset, mirrors: Sequence[str]) -> Iterator[str]:
    yield from dict.fromkeys(mirrors)
    # Imported only when the given mirrors have failed: it takes seconds.
    import torchvision.datasets

    usual = getattr(torchvision.datasets, dataset.folder).mirrors
    yield from (mirror for mirror in usual if mirror not in mirrors)
