"""A run directory and the checkpoints in it.

`runs/<name>/` holds `settings.json` (replayable with `--config`),
`environment.json`, `metrics.csv`, `best.pth` (by validation), `last.pth`,
`state.pth` and, once judged, `eval-<data set>-<split>.json`. Every file is
replaced as a whole, so that none of them is ever half written. Reading records
does not load torch.

`state.pth` is what a resumed run goes on from. It is written first after an
epoch, and the other files follow from it: a run that was killed in between
writes them again when it is resumed.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import (
    ValidationError,
)

from mnistcli.config.settings import TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.errors import DataError, RunError, SettingsError, shorten
from mnistcli.system.files import remove_stale_temporaries, require_readable, write_atomically
from mnistcli.system.lock import LOCK_NAME, LockedError, lock_directory

# The largest record, the score of a network that misread 60,000 pictures, has 12 MB.
MAX_RECORD_BYTES = 32 << 20
# What a series of runs is known by; its runs lie in directories beside it.
MULTIRUN_RECORD = "summary.json"
# What a run has from its beginning, and what is written as it is trained.
START_FILES = ("settings.json", "environment.json", "metrics.csv")


@dataclass(frozen=True)
class Run:
    """A run directory."""

    path: Path

    @property
    def name(self) -> str:
        """The name of its directory, after that of the series it is of."""
        path = self.path.resolve()
        return f"{path.parent.name}/{path.name}" if is_multirun(path.parent) else path.name

    @property
    def best(self) -> Path:
        """The checkpoint with the highest validation accuracy."""
        return self.path / "best.pth"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.path / "last.pth"

    @property
    def state(self) -> Path:
        """What `mnist train --resume` goes on from."""
        return self.path / "state.pth"


@contextmanager
def create_run(out: Path, name: str | None, settings: TrainSettings) -> Iterator[Run]:
    """A new run directory with its `settings.json`, for this process alone.

    Without a `name` it is called by its recipe and the local time. If what
    happens inside leaves it without a finished epoch, it is removed again.

    Raises:
        SettingsError: the name is taken, or is no plain directory name.
        RunError: the directory cannot be written.
    """
    with claim_directory(out, name, settings) as run:
        write_record(run, "settings.json", settings.model_dump(mode="json"))
        yield run


@contextmanager
def claim_directory(out: Path, name: str | None, settings: TrainSettings) -> Iterator[Run]:
    """A new directory for a run or a series, named as `created` says, for this process alone.

    If no epoch is kept in it in the end, it is removed again. Raises what
    `created` raises.
    """
    with ExitStack() as held:
        run = _claim_new(out, name, settings, held)
        try:
            yield run
        finally:
            if not has_saved_epochs(run.path):
                _remove_empty_run(run.path)


def has_saved_epochs(path: Path) -> bool:
    """Whether a run, or any run of a series, has an epoch to go on from."""
    return (path / "state.pth").exists() or any(path.glob("*/state.pth"))


def _remove_empty_run(path: Path) -> None:
    """Remove what was written there before an epoch, and nothing else that may have come there."""
    with suppress(OSError):
        for name in ("settings.json", "environment.json", MULTIRUN_RECORD, LOCK_NAME):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


def _claim_new(out: Path, name: str | None, settings: TrainSettings, held: ExitStack) -> Run:
    for candidate in [_validate_name(name)] if name else _names_by_time(settings):
        path = out / candidate
        try:
            path.mkdir(parents=True, exist_ok=True)
            if _is_free(path) and _is_ours(path, held):
                return Run(path)
        except FileExistsError:
            continue
        except OSError as error:
            with suppress(OSError):
                path.rmdir()  # unless it is somebody's
            raise cannot_write(path, error) from error
    raise SettingsError(
        f"There is a run {out / (name or '')} already.",
        why="A run is never overwritten.",
        fix=f"Choose another --name, or go on with it: mnist train --resume {out / (name or '')}",
    )


def _is_free(path: Path) -> bool:
    """Whether a directory holds no run, nor anything else of someone's.

    A process that was killed at once may have left its lock or a temporary file.
    """
    remove_stale_temporaries(path)
    return all(entry.name == LOCK_NAME for entry in path.iterdir())


def _is_ours(path: Path, held: ExitStack) -> bool:
    """Whether the lock of a directory could be had; then `held` keeps it."""
    with ExitStack() as attempt:
        try:
            attempt.enter_context(lock_directory(path, wait=None))
        except LockedError:
            return False
        # Another process may have had it first, and be done.
        if not _is_free(path):
            return False
        held.enter_context(attempt.pop_all())
    return True


@contextmanager
def lock_run(run: Run) -> Iterator[None]:
    """Keep other processes out of the directory of a run or a series, and tidy it.

    Raises:
        RunError: another process is training there, or it cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock_directory(run.path, wait=None))
            remove_stale_temporaries(run.path)
        except LockedError as error:
            raise RunError(
                f"{run.path} is being trained by another process.",
                why="Two at once would overwrite each other's epochs.",
                fix="Wait for it or end it, then try again.",
            ) from error
        except OSError as error:
            raise cannot_write(run.path, error) from error
        yield


def _validate_name(name: str) -> str:
    if Path(name).name != name or name in (".", "..", "last") or not name.isprintable():
        raise SettingsError(
            f"'{name}' cannot name a run.",
            why="A run's name is the name of one directory, and 'last' means the newest run.",
            fix="Use letters, digits, dots and dashes; --out DIR says where runs lie.",
        )
    return name


def _names_by_time(settings: TrainSettings) -> Iterator[str]:
    """The recipe and the local time; -2, -3 … for runs that start in the same second."""
    name = f"{settings.recipe}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def read_settings(run: Run) -> TrainSettings:
    """The settings of a run; raises DataError if they are missing or damaged."""
    record = read_record(run, "settings.json")
    try:
        return TrainSettings.model_validate(record)
    except ValidationError as error:
        raise damaged_file(run.path / "settings.json", first_problem(error)) from error


def write_record(run: Run, name: str, record: Mapping[str, Any]) -> None:
    """Write a JSON record; raises RunError if the directory cannot be written."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_file(run.path / name, text.encode())


def read_record(run: Run, name: str) -> dict[str, Any]:
    """Read a JSON record.

    Raises:
        DataError: it is missing or damaged.
    """
    path = run.path / name
    try:
        require_readable(path, MAX_RECORD_BYTES)
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path} cannot be read.",
            why=f"{error.strerror}.",
            fix="Name the directory of a run: it holds settings.json and metrics.csv.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise damaged_file(path, str(error)) from error
    if not isinstance(record, dict):
        raise damaged_file(path, "It holds no record")
    return record


def is_multirun(path: Path) -> bool:
    return (path / MULTIRUN_RECORD).is_file() and not (path / "settings.json").exists()


def write_file(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, lambda handle: handle.write(content))
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> RunError:
    run = Run(path if path.is_dir() else path.parent)
    why, fix = f"{error.strerror or error}.", "Make room or choose another directory: --out DIR"
    if run.state.exists() or is_multirun(run.path):
        fix = f"Make it writable or make room, then go on: mnist train --resume {run.path}"
    elif isinstance(error, FileNotFoundError):
        why = f"{run.path} has been removed or moved."
        fix = "Where it has been moved, go on: mnist train --resume DIR"
    return RunError(f"Cannot write {path}.", why=why, fix=fix)


def damaged_file(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged.",
        why=f"{shorten(why)}.",
        fix="Mend or remove that file, or name another run.",
    )
