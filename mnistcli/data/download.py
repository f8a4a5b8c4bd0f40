"""Getting a data set's files: from mirrors, or from a directory of the user's.

Pooch downloads, verifies the checksum and retries; the mirrors, the limits and
the messages are ours.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from mnistcli.data.checksums import (
    MAX_FILE_BYTES,
    DataFile,
    find_files,
    find_named,
    find_sound,
    is_gz,
    is_published_gz,
    read_file,
)
from mnistcli.data.datasets import Dataset, download_hint, raw_folder
from mnistcli.errors import DataError, SettingsError, first_line, shorten
from mnistcli.system.files import remove_stale_temporaries, write_atomically
from mnistcli.system.lock import lock_directory
from mnistcli.version import __version__

if TYPE_CHECKING:
    from requests import Response

TIMEOUT_SECONDS = 20.0  # for a connection, and for the next bytes of an answer
NUM_RETRIES = 1
CHUNK_BYTES = 1 << 16
# In a data set's directory: where a file is until its checksum is verified.
STAGING_FOLDER = ".download"

# Called with the file's name, the bytes received so far and, where announced, their total.
OnDownloadProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class FileState:
    """The state of one file. `source` is the address or path that it was just copied from."""

    name: str
    state: Literal["verified", "downloaded", "imported", "missing", "damaged"]
    path: Path
    source: str = ""


def verify_files(dataset: Dataset, data_dir: Path) -> list[FileState]:
    """The state of each file: verified, missing or damaged. Changes nothing."""
    folder = raw_folder(dataset, data_dir)
    return [_verify_file(file, folder) for file in dataset.files]


def require_complete(dataset: Dataset, states: Sequence[FileState], data_dir: Path) -> None:
    """Raise DataError, naming them, if files are missing or damaged."""
    bad = [state for state in states if state.state in ("missing", "damaged")]
    if bad:
        raise DataError(
            f"The data set {dataset.name} is not complete.",
            why="\n".join(f"{state.path} is {state.state}." for state in bad),
            fix=download_hint(dataset, data_dir),
        )


def import_files(
    dataset: Dataset, data_dir: Path, source: Path, *, on_wait: Callable[[], None] = lambda: None
) -> list[FileState]:
    """Copy the data set's files, as `.gz` or unpacked, from `source`.

    Files that are already there and verified stay. One process at a time writes
    to a data set; `on_wait` is called if another one does.

    Raises:
        DataError: a file is not in `source`, has a wrong checksum, or cannot be read or
            written.
    """
    if dataset.files and not source.is_dir():
        raise DataError(
            f"{source} is not a directory.",
            why="Files are imported from a directory.",
            fix="Name the directory that holds the four IDX files.",
        )
    return _repair(dataset, data_dir, partial(_import_file, dataset, source), on_wait)


def download_dataset(
    dataset: Dataset,
    data_dir: Path,
    *,
    mirrors: Sequence[str] = (),
    on_progress: OnDownloadProgress = lambda *_: None,
    on_wait: Callable[[], None] = lambda: None,
) -> list[FileState]:
    """Download the missing and damaged files from `mirrors`, then from torchvision's.

    One process at a time writes to a data set; `on_wait` is called if another one
    does. Files that it has downloaded meanwhile are not downloaded again.

    Raises:
        DataError: every mirror failed for a file, or it cannot be written.
        SettingsError: a mirror is not an http or https address.
    """
    for mirror in mirrors:
        _check_mirror(mirror)
    return _repair(
        dataset, data_dir, partial(_download_file, dataset, mirrors, on_progress), on_wait
    )


def _repair(
    dataset: Dataset,
    data_dir: Path,
    get_file: Callable[[DataFile, Path], FileState],
    on_wait: Callable[[], None],
) -> list[FileState]:
    """Call `get_file` for each missing or damaged file, while no other process writes."""
    states = verify_files(dataset, data_dir)
    if all(state.state == "verified" for state in states):
        return states
    folder = raw_folder(dataset, data_dir)
    with _lock_folder(folder, on_wait):
        remove_stale_temporaries(folder)
        try:
            return [
                state if state.state == "verified" else get_file(file, folder)
                for file, state in zip(dataset.files, verify_files(dataset, data_dir), strict=True)
            ]
        finally:
            shutil.rmtree(folder / STAGING_FOLDER, ignore_errors=True)


@contextmanager
def _lock_folder(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Create the folder if necessary and lock it for this process."""
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


def _verify_file(file: DataFile, folder: Path) -> FileState:
    paths = find_files(file, folder)
    if not paths:
        return FileState(file.name, "missing", folder / file.gz_name)
    sound = find_sound(file, paths)
    return (
        FileState(file.name, "verified", sound.path)
        if sound
        else FileState(file.name, "damaged", paths[0])
    )


def _import_file(dataset: Dataset, source: Path, file: DataFile, folder: Path) -> FileState:
    paths = _find_imports(dataset, source, file)
    sound = find_sound(file, paths)
    if sound is None:
        raise DataError(
            f"{paths[0]} is not the published file of {dataset.name}.",
            why=_mismatch_reason(paths[0], file),
            fix=f"Download it instead: mnist download --dataset {dataset.name}",
        )
    if is_published_gz(sound.content, file):
        target, content = folder / file.gz_name, sound.content
    else:
        target, content = folder / file.name, sound.unpacked
    _write(target, content)
    for path in (folder / file.gz_name, folder / file.name):
        if path != target and path.is_file():
            path.unlink()  # It is damaged.
    return FileState(file.name, "imported", target, str(sound.path))


def _find_imports(dataset: Dataset, source: Path, file: DataFile) -> list[Path]:
    """The files in `source`, or where torchvision puts them, that go by the name of `file`."""
    folders = (source, source / "raw", source / dataset.folder / "raw")
    paths = [path for folder in folders for path in find_named(file, folder)]
    if not paths:
        raise DataError(
            f"{source} does not contain {file.name}.",
            why=f"Neither {file.gz_name} nor {file.name} is a file there.",
            fix="Name the directory that holds the four IDX files.",
        )
    return paths


def _mismatch_reason(path: Path, file: DataFile) -> str:
    content = read_file(path)
    if len(content) > MAX_FILE_BYTES:
        return f"It has more than {MAX_FILE_BYTES >> 20} MiB."
    if file.sha256:
        return "Its checksum is wrong."
    if is_gz(content):
        return "Its checksum is wrong; if it was packed again, only the original is recognized."
    return "It is unpacked, and only its .gz has a published checksum."


def _check_mirror(mirror: str) -> None:
    try:
        address = urlsplit(mirror)
        is_web_address = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        is_web_address = False
    if not is_web_address:
        raise SettingsError(
            f"'{mirror}' is not a mirror.",
            why="A mirror is an http or https address that holds the .gz files.",
            fix="For files on this machine: mnist download --from DIR",
        )


def _download_file(
    dataset: Dataset,
    mirrors: Sequence[str],
    on_progress: OnDownloadProgress,
    file: DataFile,
    folder: Path,
) -> FileState:
    """Store the file from the first mirror that has it."""
    target = folder / file.gz_name
    failures = []
    for mirror in _all_mirrors(dataset, mirrors):
        base_url = f"{mirror.rstrip('/')}/"
        try:
            content = _fetch(base_url, file, folder, partial(on_progress, file.name))
        except _MirrorError as error:
            failures.append(f"{mirror}: {error}")
            continue
        _write(target, content)
        return FileState(file.name, "downloaded", target, f"{base_url}{target.name}")
    raise DataError(
        f"No mirror provided {target.name}.",
        why="\n".join(failures),
        fix="Try again later, name a mirror (mnist download --mirror URL), or import files "
        "you have (mnist download --from DIR).",
    )


def _all_mirrors(dataset: Dataset, mirrors: Sequence[str]) -> Iterator[str]:
    yield from dict.fromkeys(mirrors)
    # Imported only when the given mirrors have failed: it takes seconds.
    import torchvision.datasets

    published = getattr(torchvision.datasets, dataset.folder).mirrors
    yield from (mirror for mirror in published if mirror not in mirrors)


class _MirrorError(Exception):
    """A mirror did not provide a file: a short reason."""


def _fetch(
    base_url: str, file: DataFile, folder: Path, on_progress: Callable[[int, int | None], None]
) -> bytes:
    """The file from one mirror, its checksum verified; raises _MirrorError."""
    # Only a download needs them, and they take a quarter of a second.
    import pooch
    import requests

    def download(url: str, path: str, _: object) -> None:
        pooch.HTTPDownloader(
            progressbar=_ProgressBar(on_progress),
            chunk_size=CHUNK_BYTES,
            timeout=TIMEOUT_SECONDS,
            headers={"User-Agent": f"mnistcli/{__version__}", "Accept-Encoding": "identity"},
            hooks={"response": _keep_gzip},
        )(url, path, None)

    pooch.get_logger().setLevel("WARNING")
    name = file.gz_name
    mirror = pooch.Pooch(
        # Absolute, because pooch would expand a "~".
        folder.absolute() / STAGING_FOLDER,
        base_url,
        registry={name: f"md5:{file.gz_md5}"},
        retry_if_failed=NUM_RETRIES,
    )
    try:
        return Path(mirror.fetch(name, downloader=download)).read_bytes()
    except requests.HTTPError as error:
        status = error.response.status_code  # type: ignore[union-attr] # set by raise_for_status
        raise _MirrorError(f"HTTP status {status}") from error
    except requests.RequestException as error:
        raise _MirrorError(_root_cause(error)) from error
    except ValueError as error:
        raise _MirrorError("wrong checksum") from error
    except OSError as error:
        raise _unwritable_error(folder, error) from error


def _keep_gzip(response: "Response", **_: object) -> None:
    """Keep the `.gz` of a server that declares it as an encoding, which requests would undo."""
    response.raw.headers.discard("Content-Encoding")


class _ProgressBar:
    """Called by pooch for each chunk: reports progress, and stops a file that is too large."""

    total = 0  # set by pooch; 0 if the server does not announce it

    def __init__(self, on_progress: Callable[[int, int | None], None]) -> None:
        self._on_progress = on_progress
        self._num_bytes = 0

    def update(self, num_bytes: int) -> None:
        """Count `num_bytes`; pooch passes a whole chunk even for the last one."""
        self._num_bytes += num_bytes
        if self._num_bytes > MAX_FILE_BYTES:
            raise _MirrorError(f"more than {MAX_FILE_BYTES >> 20} MiB")
        if num_bytes:
            received = min(self._num_bytes, self.total) if self.total else self._num_bytes
            self._on_progress(received, self.total or None)

    def reset(self) -> None:
        """Begin at 0 again: pooch then reports the total once more."""
        self._num_bytes = 0

    def close(self) -> None:
        """Nothing to close."""


def _root_cause(error: BaseException) -> str:
    """Why a connection failed, without the layers of urllib3 and requests around it."""
    while error.__context__:
        error = error.__context__
    if isinstance(error, OSError):
        return error.strerror or first_line(error)
    return shorten(repr(error))
