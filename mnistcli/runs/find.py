"""Finding runs, multi-runs and checkpoints by name, and what `last` means."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from mnistcli.config.recipes import RECIPES
from mnistcli.errors import DataError
from mnistcli.models.registry import ARCHITECTURES
from mnistcli.runs.checkpoint import BUNDLED, BUNDLED_CHECKPOINT
from mnistcli.runs.directory import MULTIRUN_RECORD, Run, is_multirun, lock_run, read_settings


def find_run(name: str, out: Path) -> Run:
    """The run called `name`: a name in `out`, a directory, a file in one, or `last`.

    `last` is the run that finished an epoch most recently.

    Raises:
        DataError: there is no such run, or it is a multi-run.
    """
    if name == "last":
        return _first(all_runs(out), out)
    if path := _find_directory(name, out):
        if is_multirun(path):
            raise _not_one_run(path)
        return Run(path)
    known = [run.path.relative_to(out).as_posix() for run in all_runs(out)]
    near = get_close_matches(name, [*known, *(path.name for path in _multiruns(out))], n=1)
    suggestion = f"Did you mean {near[0]}? " if near else ""
    for option, kind, names in (
        ("--recipe", "a recipe", RECIPES),
        ("--arch", "an architecture", ARCHITECTURES),
    ):
        if name in names:
            raise DataError(
                f"There is no run '{name}'.",
                why=f"{name} is {kind}: its network has weights once it is trained.",
                fix=f"{suggestion}Train it: mnist train {option} {name}; or see its layers: "
                f"mnist summary {option} {name}",
            )
    named = f" --name {shlex.quote(name)}" if Path(name).name == name else ""
    newest = f"Runs in {out}, newest first: {', '.join(known[:5])}"
    raise DataError(
        f"There is no run '{name}'.",
        why=f"Neither {out / name} nor {name} is a directory.",
        fix=f"{suggestion}{newest}" if known else f"Train one: mnist train{named}",
    )


def _find_directory(name: str, out: Path) -> Path | None:
    """The directory that `name` is, or that of the run or multi-run whose file it is."""
    for path in (out / name, Path(name)):
        if path.is_dir():
            return path
        records = (path.parent / record for record in ("settings.json", MULTIRUN_RECORD))
        if path.is_file() and any(record.is_file() for record in records):
            return path.parent
    return None


@contextmanager
def open_for_resuming(name: str, out: Path) -> Iterator[Run]:
    """Find a run as `find_run` does, and lock it.

    `last` is the run that was trained most recently, even if it has not finished an epoch.

    Raises:
        DataError: there is no such run, or its settings are damaged.
        RunError: another process is training it, or it cannot be written.
    """
    run = _find_to_resume(name, out)
    read_settings(run)  # before a lock file is made in a directory that is not a run
    with lock_run(run):
        yield run


def dataset_to_resume(name: str, out: Path) -> str:
    """The name of the data set of the run that `open_for_resuming` finds; raises what it does."""
    return read_settings(_find_to_resume(name, out)).dataset


def _find_to_resume(name: str, out: Path) -> Run:
    return _first(started_runs(out), out) if name == "last" else find_run(name, out)


def all_runs(out: Path, *, required_file: str = "metrics.csv") -> list[Run]:
    """The runs in `out` and its multi-runs that have `required_file`, newest file first.

    A run has `metrics.csv` once it has finished an epoch.
    """
    runs = _runs_with(required_file, out)
    return sorted(runs, key=lambda run: _newest_ns(run, (required_file,)), reverse=True)


def started_runs(out: Path) -> list[Run]:
    """All runs in `out` and its multi-runs, the one trained most recently first."""
    return sorted(_runs_with("settings.json", out), key=last_trained_ns, reverse=True)


def last_trained_ns(run: Run) -> int:
    """When a run was last trained, by the times of its files, in ns since 1970; 0 if unknown."""
    return _newest_ns(run, ("settings.json", "environment.json", "metrics.csv"))


def _runs_with(required_file: str, out: Path) -> list[Run]:
    directories = (out, *_multiruns(out))
    files = (path for folder in directories for path in folder.glob(f"*/{required_file}"))
    return [Run(path.parent) for path in files if path.is_file()]


def _newest_ns(run: Run, names: Iterable[str]) -> int:
    paths = [run.path / name for name in names]
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)


def _first(runs: Sequence[Run], out: Path) -> Run:
    if not runs:
        raise DataError(
            f"There is no run in {out}.",
            why="Nothing has been trained there.",
            fix="Train one: mnist train",
        )
    return runs[0]


def find_multirun(name: str, out: Path) -> Run | None:
    """The directory of the multi-run called `name`; None if `name` is a run or does not exist.

    `last` is the multi-run with the run that was trained most recently, if it belongs to one.

    Raises:
        DataError: `name` is "last", and nothing has been trained in `out`.
    """
    if name == "last":
        path: Path | None = _first(started_runs(out), out).path.parent
    else:
        path = _find_directory(name, out)
    return Run(path) if path and is_multirun(path) else None


def expand_multiruns(
    names: Sequence[str], out: Path, *, required_file: str
) -> tuple[list[str], list[Path]]:
    """Replace every multi-run among `names` by its runs; also the runs left out.

    A run of a multi-run is left out if it lacks `required_file`.

    Raises:
        DataError: all runs of a multi-run lack it.
    """
    expanded: list[str] = []
    left_out: list[Path] = []
    for name in names:
        multirun = find_multirun(name, out) if name != "last" else None
        if multirun is None:
            expanded.append(name)
            continue
        members = member_paths(multirun.path)
        usable = [path for path in members if (path / required_file).is_file()]
        if not usable:
            raise DataError(
                f"No run of the multi-run {multirun.path} has a {required_file}.",
                why=f"{len(members)} of its runs have started; none has finished an epoch, "
                "or the files are gone.",
                fix=f"Continue it: mnist train --resume {multirun.path}",
            )
        expanded += map(str, usable)
        left_out += [path for path in members if path not in usable]
    return expanded, left_out


def member_paths(multirun: Path) -> list[Path]:
    """The runs that a multi-run has started, in order."""
    return sorted(
        (path.parent for path in multirun.glob("*/settings.json")),
        key=lambda path: (len(path.name), path.name),  # seed-2 before seed-10
    )


def _multiruns(out: Path) -> list[Path]:
    return [path.parent for path in out.glob(f"*/{MULTIRUN_RECORD}")]


def _not_one_run(path: Path) -> DataError:
    names = [member.name for member in member_paths(path)]
    why, fix = "It has no runs yet.", f"Continue it: mnist train --resume {path}"
    if names:
        why = f"It holds {names[0]} to {names[-1]}; {MULTIRUN_RECORD} compares them."
        fix = f"Name one, {path / names[0]}; for all: mnist eval {path}, mnist plot {path}"
    return DataError(f"{path} is a multi-run, not a run.", why=why, fix=fix)


def find_checkpoint(name: str | None, out: Path) -> Path:
    """The checkpoint meant by `name`: a file, a run's best, or a bundled one by its name.

    None means the bundled cnn-small. A run of the same name takes precedence.

    Raises:
        DataError: there is no such file or run, or the run has no checkpoint yet.
    """
    if name is None:
        return BUNDLED_CHECKPOINT
    path = Path(name)
    if bundled := find_bundled(name, out):
        return bundled
    if not path.is_dir() and (path.suffix == ".pth" or path.is_file()):
        return path
    run = find_run(name, out)
    if not run.best.is_file():
        why = "It is not a run, or has not finished an epoch."
        fix = "Name a run that has finished an epoch, or a .pth file."
        if run.last.is_file():
            fix = f"The weights of the last epoch are there: {run.last}"
        if (run.path / "metrics.csv").is_file():
            why = "The run has finished an epoch, so the file has been removed or moved."
        raise DataError(
            f"{run.path} holds no best.pth.",
            why=why,
            fix=fix,
        )
    return run.best


def find_bundled(name: str, out: Path) -> Path | None:
    """The bundled checkpoint called `name`, with or without .pth; None if something else is."""
    taken = Path(name).exists() or (out / name).exists()
    return None if taken else BUNDLED.get(name.removesuffix(".pth"))


def names_network(name: str, out: Path) -> bool:
    """Whether a run, a multi-run or a checkpoint is called `name`, and no other file."""
    path = Path(name)
    if path.suffix == ".pth" or find_bundled(name, out):
        return True
    folder = path if path.exists() else out / name
    return any((folder / record).is_file() for record in ("settings.json", MULTIRUN_RECORD))


def run_of_checkpoint(checkpoint: Path) -> Run | None:
    """The run whose directory a checkpoint file is in, if any."""
    return Run(checkpoint.parent) if (checkpoint.parent / "settings.json").is_file() else None


def run_of_best_checkpoint(checkpoint: Path) -> Run | None:
    """The run whose best checkpoint a file is, if any."""
    run = run_of_checkpoint(checkpoint)
    return run if run and run.best == checkpoint else None


def display_names(runs: Sequence[Run]) -> list[str]:
    """The names of runs; their paths where two have the same name."""
    names = Counter(run.name for run in set(runs))
    return [run.name if names[run.name] == 1 else str(run.path) for run in runs]
