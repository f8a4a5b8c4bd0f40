"""Finding runs, multi-runs and checkpoints by name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from mnistcli.errors import DataError
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT
from mnistcli.runs.directory import (
    MULTIRUN_RECORD,
    START_FILES,
    Run,
    is_multirun,
    lock_run,
    read_settings,
)


@contextmanager
def open_for_resuming(name: str, out: Path) -> Iterator[Run]:
    """The run called `name` as `find` finds it, for this process alone.

    "last" is the run that was trained last, if it has finished an epoch or not.

    Raises:
        DataError: there is no such run, or its settings are damaged.
        RunError: another process is training it, or it cannot be written.
    """
    run = newest_run(out, marks=START_FILES) if name == "last" else find_run(name, out)
    read_settings(run)  # before a lock is put into a directory that is no run
    with lock_run(run):
        yield run


def find_run(name: str, out: Path) -> Run:
    """The run called `name`: a name in `out`, a directory, or "last" for the newest.

    Raises:
        DataError: there is none, or it is a series of several.
    """
    if name == "last":
        return newest_run(out)
    for path in (out / name, Path(name)):
        if is_multirun(path):
            raise _multirun_error(path)
        if path.is_dir():
            return Run(path)
    known = [run.path.relative_to(out).as_posix() for run in all_runs(out)]
    near = get_close_matches(name, [*known, *(path.name for path in _all_multiruns(out))], n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    newest = f"The newest runs in {out}: {', '.join(known[:5])}"
    raise DataError(
        f"There is no run '{name}'.",
        why=f"Neither {out / name} nor {name} is a directory.",
        fix=f"{meant}{newest}" if known else "Train one: mnist train",
    )


def expand_multiruns(names: Sequence[str], out: Path, *, mark: str) -> tuple[list[str], list[Path]]:
    """The names, a series among them replaced by its runs in order; and the runs left out.

    Those are left out that lack the file `mark`.

    Raises:
        DataError: all runs of a series lack it.
    """
    found, lacking = [], []
    for name in names:
        series = find_multirun(name, out) if name != "last" else None
        if series is None:
            found.append(name)
            continue
        members = member_paths(series.path)
        having = [str(path) for path in members if (path / mark).is_file()]
        if not having:
            raise DataError(
                f"No run of the series {series.path} holds a {mark}.",
                why=f"{len(members)} of its runs have begun; none has finished an epoch, "
                "or the files are gone.",
                fix=f"Go on with it: mnist train --resume {series.path}",
            )
        found += having
        lacking += [path for path in members if str(path) not in having]
    return found, lacking


def find_multirun(name: str, out: Path) -> Run | None:
    """The directory of the series called `name`, or None if that is a run, or nothing.

    "last" is the one that the run belongs to that was trained last, if it is of a series.

    Raises:
        DataError: nothing has been trained in `out`, and `name` is "last".
    """
    if name == "last":
        paths = [newest_run(out, marks=START_FILES).path.parent]
    else:
        paths = [path for path in (out / name, Path(name)) if path.is_dir()]
    return Run(paths[0]) if paths and is_multirun(paths[0]) else None


def member_paths(series: Path) -> list[Path]:
    """The runs that a series has begun, in order."""
    return sorted(
        (entry.parent for entry in series.glob("*/settings.json")),
        key=lambda path: (len(path.name), path.name),  # seed-2 before seed-10
    )


def _multirun_error(path: Path) -> DataError:
    names = [member.name for member in member_paths(path)]
    why, fix = "It holds no run yet.", f"Go on with it: mnist train --resume {path}"
    if names:
        why = f"It holds {names[0]} to {names[-1]}; {MULTIRUN_RECORD} compares them."
        fix = f"Name one, {path / names[0]}; all together: mnist eval {path}, mnist plot {path}"
    return DataError(f"{path} is a series of runs, not one.", why=why, fix=fix)


def find_checkpoint(name: str | None, out: Path) -> Path:
    """The checkpoint meant by `name`: a file, or a run's best; None means the bundled one.

    Raises:
        DataError: there is no such file or run, or the run has no checkpoint yet.
    """
    if name is None:
        return BUNDLED_CHECKPOINT
    path = Path(name)
    if not path.is_dir() and (path.suffix == ".pth" or path.is_file()):
        return path
    run = find_run(name, out)
    if not run.best.is_file():
        is_lost = (run.path / "metrics.csv").is_file()
        raise DataError(
            f"{run.path} holds no best.pth.",
            why="The run has finished an epoch: the file was removed or moved."
            if is_lost
            else "It is no run, or has not finished an epoch.",
            fix="Name a run that mnist train has made, or a .pth file.",
        )
    return run.best


def display_names(found: Sequence[Run]) -> list[str]:
    """What runs are called beside each other: their names, the paths of those that share one."""
    names = Counter(run.name for run in set(found))
    return [run.name if names[run.name] == 1 else str(run.path) for run in found]


def run_of_checkpoint(checkpoint: Path) -> Run | None:
    """The run that a checkpoint file belongs to, if it lies in one."""
    return Run(checkpoint.parent) if (checkpoint.parent / "settings.json").is_file() else None


def run_of_best_checkpoint(checkpoint: Path) -> Run | None:
    """The run whose best checkpoint a file is, if it is one's."""
    run = run_of_checkpoint(checkpoint)
    return run if run and run.best == checkpoint else None


def _all_multiruns(out: Path) -> list[Path]:
    """The directories of the series in `out`."""
    return [path.parent for path in out.glob(f"*/{MULTIRUN_RECORD}")]


def all_runs(out: Path, *, marks: Sequence[str] = ("metrics.csv",)) -> list[Run]:
    """The runs in `out`, and in the series in it, that have the first of the files `marks`.

    The one comes first in which any of them was written last. Runs have
    `metrics.csv` if they have finished an epoch.
    """
    found = [
        Run(path.parent)
        for place in (out, *_all_multiruns(out))
        for path in place.glob(f"*/{marks[0]}")
        if path.is_file()
    ]
    return sorted(found, key=lambda run: last_written(run, marks), reverse=True)


def last_written(run: Run, names: Sequence[str]) -> int:
    """When the newest of a run's files `names` was written, in ns since 1970; 0 without any."""
    paths = [run.path / name for name in names]
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)


def newest_run(out: Path, *, marks: Sequence[str] = ("metrics.csv",)) -> Run:
    found = all_runs(out, marks=marks)
    if not found:
        raise DataError(
            f"There is no run in {out}.",
            why="Nothing has been trained there.",
            fix="Train one: mnist train",
        )
    return found[0]
