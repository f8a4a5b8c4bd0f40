"""A run directory: creating and locking it, its settings and other JSON records.

`runs/<name>/` holds

- `settings.json`: the settings; `mnist train --config` repeats the run.
- `environment.json`: the machine, the versions and the command.
- `metrics.csv`: a row for every epoch.
- `best.pth`, `last.pth`: the checkpoints of the best epoch (by validation) and the last.
- `state.pth`: what `mnist train --resume` continues from.
- `eval-<data set>-<split>.json`: the scores of `best.pth`, once it has been evaluated.

Files are replaced as a whole, so none is ever half written. After an epoch `state.pth` is written
first and the other files follow from it: if the process is killed in between, resuming the run
writes them again. Reading records does not load torch.

A multi-run is a directory with a `summary.json` and one run directory for each seed or fold.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mnistcli.config.settings import TrainSettings
from mnistcli.config.validate import first_problem
from mnistcli.errors import DataError, RunError, SettingsError, shorten
from mnistcli.system.files import remove_stale_temporaries, require_readable, write_atomically
from mnistcli.system.lock import LOCK_NAME, LockedError, lock_directory

# The largest record, the score of a network that misclassified 60,000 images, has 12 MB.
MAX_RECORD_BYTES = 32 << 20
MULTIRUN_RECORD = "summary.json"


@dataclass(frozen=True)
class Run:
    """A run directory."""

    path: Path

    @property
    def name(self) -> str:
        """The name of its directory; in a multi-run `<multi-run>/<run>`."""
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
        """What `mnist train --resume` continues from."""
        return self.path / "state.pth"


def is_multirun(path: Path) -> bool:
    """Whether a directory is that of a multi-run."""
    return (path / MULTIRUN_RECORD).is_file() and not (path / "settings.json").exists()


def has_saved_epochs(path: Path) -> bool:
    """Whether a run, or any run of a multi-run, has an epoch to continue from."""
    return (path / "state.pth").exists() or any(path.glob("*/state.pth"))


@contextmanager
def create_run(out: Path, name: str | None, settings: TrainSettings) -> Iterator[Run]:
    """Create and lock a run directory with its `settings.json`; see `claim_directory`."""
    with claim_directory(out, name, settings) as run:
        write_record(run, "settings.json", settings.model_dump(mode="json"))
        yield run


@contextmanager
def claim_directory(out: Path, name: str | None, settings: TrainSettings) -> Iterator[Run]:
    """Create and lock a directory for a run or a multi-run.

    Without a `name` it is named by the recipe and the local time. It is removed at the end if no
    epoch has been saved in it.

    Raises:
        SettingsError: the name is taken, or not the name of one directory.
        RunError: the directory cannot be written.
    """
    with ExitStack() as stack:
        run = _claim_new(out, name, settings, stack)
        try:
            yield run
        finally:
            if not has_saved_epochs(run.path):
                _remove_empty_run(run.path)


def _claim_new(out: Path, name: str | None, settings: TrainSettings, stack: ExitStack) -> Run:
    """Create the first directory that is free, and hold its lock on the `stack`."""
    for candidate in [_validate_name(name)] if name else _names_by_time(settings):
        path = out / candidate
        try:
            path.mkdir(parents=True, exist_ok=True)
            if _is_free(path) and _try_lock(path, stack):
                return Run(path)
        except FileExistsError:
            continue
        except OSError as error:
            with suppress(OSError):
                path.rmdir()  # fails if anything is in it
            raise unwritable_path(path, error) from error
    taken = out / (name or "")
    raise SettingsError(
        f"There is a run {taken} already.",
        why="A run is never overwritten.",
        fix=f"Choose another --name, or continue it: mnist train --resume {taken}",
    )


def _validate_name(name: str) -> str:
    if Path(name).name != name or name in (".", "..", "last") or not name.isprintable():
        raise SettingsError(
            f"'{name}' cannot name a run.",
            why="A run's name is the name of one directory, and 'last' means the newest run.",
            fix="Use letters, digits, dots and dashes; --out DIR changes the directory.",
        )
    return name


def _names_by_time(settings: TrainSettings) -> Iterator[str]:
    """The recipe and the local time; -2, -3 … for runs that start in the same second."""
    name = f"{settings.recipe}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _is_free(path: Path) -> bool:
    """Whether a directory is empty, except for what a killed process may have left."""
    remove_stale_temporaries(path)
    return all(entry.name == LOCK_NAME for entry in path.iterdir())


def _try_lock(path: Path, stack: ExitStack) -> bool:
    """Whether a free directory could be locked; the `stack` then holds the lock."""
    with ExitStack() as attempt:
        try:
            attempt.enter_context(lock_directory(path, wait=None))
        except LockedError:
            return False
        # Another process may have used it since it was found free.
        if not _is_free(path):
            return False
        stack.enter_context(attempt.pop_all())
    return True


def _remove_empty_run(path: Path) -> None:
    """Remove what training wrote to a directory without an epoch, and the directory if empty."""
    with suppress(OSError):
        for name in ("settings.json", "environment.json", MULTIRUN_RECORD, LOCK_NAME):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


@contextmanager
def lock_run(run: Run) -> Iterator[None]:
    """Lock the directory of a run or a multi-run, and remove what killed processes left in it.

    Raises:
        RunError: another process is training it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_directory(run.path, wait=None))
            remove_stale_temporaries(run.path)
        except LockedError as error:
            raise RunError(
                f"{run.path} is being trained by another process.",
                why="Two processes would overwrite each other's epochs.",
                fix="Wait for the other process or end it, then try again.",
            ) from error
        except OSError as error:
            raise unwritable_path(run.path, error) from error
        yield


def read_settings(run: Run) -> TrainSettings:
    """The settings of a run; raises DataError if they are missing or damaged."""
    record = read_record(run, "settings.json")
    try:
        return TrainSettings.model_validate(record)
    except ValidationError as error:
        raise damaged_file(run.path / "settings.json", first_problem(error)) from error


def read_record(run: Run, name: str) -> dict[str, Any]:
    """Read a JSON record; raises DataError if it is missing or damaged."""
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
        raise damaged_file(path, "It does not hold a JSON object")
    return record


def write_record(run: Run, name: str, record: Mapping[str, Any]) -> None:
    """Write a JSON record; raises RunError if it cannot be written."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_file(run.path / name, text.encode())


def write_file(path: Path, content: bytes) -> None:
    """Replace a file of a run; raises RunError if it cannot be written."""
    try:
        write_atomically(path, lambda handle: handle.write(content))
    except OSError as error:
        raise unwritable_path(path, error) from error


def unwritable_path(path: Path, error: OSError) -> RunError:
    """The error for a run directory, or a file in one, that cannot be written."""
    run = Run(path if path.is_dir() else path.parent)
    why, fix = (
        f"{error.strerror or error}.",
        "Free some space or choose another directory: --out DIR",
    )
    if run.state.exists() or is_multirun(run.path):
        fix = f"Make it writable or free some space, then: mnist train --resume {run.path}"
    elif isinstance(error, FileNotFoundError):
        why = f"{run.path} has been removed or moved."
        fix = "If it has been moved, continue there: mnist train --resume DIR"
    return RunError(f"Cannot write {path}.", why=why, fix=fix)


def damaged_file(path: Path, why: str) -> DataError:
    """The error for a file of a run that cannot be understood; `why` without its full stop."""
    return DataError(
        f"{path} is damaged.",
        why=f"{shorten(why)}.",
        fix="Repair or remove that file, or name another run.",
    )
