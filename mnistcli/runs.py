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

import csv
import io
import itertools
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from mnistcli import SCHEMA_VERSION
from mnistcli.archive import has_valid_tensors, load_archive, pack
from mnistcli.checkpoint import (
    BUNDLED_CHECKPOINT,
    CheckpointCard,
    pack_checkpoint,
    software_versions,
)
from mnistcli.errors import DataError, RunError, SettingsError, shorten
from mnistcli.files import (
    LOCK_NAME,
    LockedError,
    lock_directory,
    remove_stale_temporaries,
    require_readable,
    write_atomically,
)
from mnistcli.machine import num_cores
from mnistcli.metrics import EpochResult, EvalSplit, Score
from mnistcli.settings import TrainSettings, differing_settings, first_problem

if TYPE_CHECKING:
    from torch import nn

COLUMNS = [field.name for field in fields(EpochResult)]
# The largest record, the score of a network that misread 60,000 pictures, has 12 MB.
MAX_RECORD_BYTES = 32 << 20
# What a series of runs is known by; its runs lie in directories beside it.
MULTIRUN_RECORD = "summary.json"
# What a run has from its beginning, and what is written as it is trained.
START_FILES = ("settings.json", "environment.json", "metrics.csv")
# No data set has as many.
MAX_IMAGES = 10**7


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


class SavedState(BaseModel):
    """How far a run has come: all its epochs, and what `TrainState.state_dict` gave.

    `settings` are those that it was trained with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    settings: TrainSettings
    history: Annotated[list[EpochResult], Field(min_length=1)]
    state: dict[str, Any]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        numbers = [epoch.epoch for epoch in self.history]
        losses = self.state.get("losses")
        if not isinstance(losses, list) or numbers != list(range(1, len(losses) + 1)):
            raise ValueError("its epochs are not complete")
        return self


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


def write_environment(run: Run, epoch: int, environment: Mapping[str, Any]) -> None:
    """Write `environment.json`; of a run that goes on after `epoch`, beside what is there.

    Raises:
        RunError: the directory cannot be written.
    """
    record = dict(environment)
    if epoch:
        try:
            earlier = read_record(run, "environment.json")
        except DataError:  # lost; the run goes on all the same
            earlier = {}
        lives = earlier.get("resumed", [])
        lives = lives if isinstance(lives, list) else []
        record = {**earlier, "resumed": [*lives, {"after_epoch": epoch, **record}]}
    write_record(run, "environment.json", record)


def describe_environment(**choices: Any) -> dict[str, Any]:
    """Where and with what a run was made: machine, versions, command and `choices`."""
    import torch

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["mnist", *sys.argv[1:]],
        "versions": software_versions(),
        "platform": platform.platform(),
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "num_cores": num_cores(),
        "num_threads": torch.get_num_threads(),
        **choices,
    }


def write_metrics(run: Run, epochs: Sequence[EpochResult]) -> None:
    """Write `metrics.csv`, a row an epoch; raises RunError if the directory cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in epochs)
    write_file(run.path / "metrics.csv", text.getvalue().encode())


def read_metrics(run: Run) -> list[EpochResult]:
    """The epochs of a run, at least one.

    Raises:
        DataError: `metrics.csv` is missing or damaged.
    """
    path = run.path / "metrics.csv"
    try:
        require_readable(path, MAX_RECORD_BYTES)
        with path.open(encoding="utf-8", newline="") as handle:
            epochs = [_read_epoch(row) for row in csv.DictReader(handle)]
    except OSError as error:
        raise DataError(
            f"{run.path} holds no metrics.",
            why=f"metrics.csv: {error.strerror}.",
            fix="Name the directory of a run that has finished an epoch.",
        ) from error
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise damaged_file(path, str(error)) from error
    if not epochs:
        raise damaged_file(path, "It holds no epoch")
    if not all(before.epoch < after.epoch for before, after in itertools.pairwise(epochs)):
        raise damaged_file(path, "Its epochs are in no order")
    return epochs


def _read_epoch(row: Mapping[str, str]) -> EpochResult:
    number = int(row["epoch"])
    values = {name: float(row[name]) if row[name] else None for name in COLUMNS if name != "epoch"}
    # Training ends where a loss is not finite.
    known = [value for name, value in values.items() if value is not None or name[:4] != "val_"]
    in_bounds = all(value is not None and 0 <= value < math.inf for value in known)
    shares = (values["train_accuracy"] or 0, values["val_accuracy"] or 0)
    is_held_out = (values["val_loss"] is None) == (values["val_accuracy"] is None)
    if not (1 <= number <= 10_000 and in_bounds and max(shares) <= 1 and is_held_out):
        raise ValueError(f"the figures of epoch {number} make no sense")
    return EpochResult(epoch=number, **values)  # type: ignore[arg-type]


def write_score(score: Score) -> Path | None:
    """Write a score into the run whose best checkpoint it judged; None if it is no run's.

    A score with `tta` is not kept: it is not the network's alone.

    Raises:
        RunError: the run directory cannot be written.
    """
    run = run_of_best_checkpoint(Path(score.checkpoint))
    if score.tta or run is None:
        return None
    name = _score_name(score.dataset, score.split)
    write_record(run, name, {"schema_version": SCHEMA_VERSION, **asdict(score)})
    return run.path / name


def read_score(run: Run, dataset: str, split: EvalSplit) -> Score | None:
    """The score that `keep_score` wrote, or None if it has not.

    Raises:
        DataError: the record is damaged.
    """
    name = _score_name(dataset, split)
    if not (run.path / name).exists():
        return None
    record = read_record(run, name)
    record.pop("schema_version", None)
    try:
        score = _score_adapter().validate_python(record)
    except ValidationError as error:
        raise damaged_file(run.path / name, first_problem(error)) from error
    if not _is_consistent(score):
        raise damaged_file(run.path / name, "its figures make no sense")
    return score


@cache
def _score_adapter() -> TypeAdapter[Score]:
    """What checks a score. To make it takes longer than to read one."""
    return TypeAdapter(Score)


def _is_consistent(score: Score) -> bool:
    """Whether the figures of a score are in their bounds and agree with each other."""
    num_classes, counts = len(score.classes), list(itertools.chain(*score.confusion))
    if not num_classes or [len(row) for row in score.confusion] != [num_classes] * num_classes:
        return False
    num_correct = sum(score.confusion[k][k] for k in range(num_classes))
    shares = [score.accuracy, *score.interval]
    shares += [
        share for each in score.mistakes for share in (each.probability, each.label_probability)
    ]
    shares += [share for each in score.classes for share in (each.precision, each.recall, each.f1)]
    shares += [share for each in score.bins for share in (each.accuracy, each.confidence)]
    binned = [each.num_images for each in score.bins]
    places = [place for each in score.mistakes for place in (each.label, each.predicted)]
    return (
        1 <= sum(counts) == score.num_images <= MAX_IMAGES
        and min(counts) >= 0
        and num_correct == score.num_images - score.num_errors
        and (not binned or (sum(binned) == score.num_images and min(binned) >= 0))
        and not score.tta
        and all(0 <= share <= 1 for share in shares)
        and score.interval[0] <= score.interval[1]
        and 0 <= score.loss < math.inf
        and all(0 <= place < num_classes for place in places)
        and all(0 <= each.index < score.num_images for each in score.mistakes)
    )


def _score_name(dataset: str, split: EvalSplit) -> str:
    return f"eval-{dataset}-{split}.json"


def save_checkpoint(path: Path, network: "nn.Module", card: CheckpointCard) -> None:
    """Write a checkpoint; raises RunError if the file cannot be written."""
    write_file(path, pack_checkpoint(network, card))


def save_best(run: Run, network: "nn.Module", card: CheckpointCard) -> None:
    """Replace the run's best checkpoint, and remove the scores of the one before.

    Raises:
        RunError: a file cannot be written or removed.
    """
    for score in run.path.glob("eval-*.json"):
        try:
            score.unlink()
        except OSError as error:
            raise cannot_write(score, error) from error
    save_checkpoint(run.best, network, card)


def save_state(run: Run, saved: SavedState) -> None:
    """Write what a resumed run goes on from: plain types and tensors.

    Raises:
        RunError: the file cannot be written.
    """
    records = saved.model_dump(mode="json", exclude={"state"})
    write_file(run.state, pack({**records, "state": saved.state}))


def read_state(run: Run, settings: TrainSettings) -> SavedState | None:
    """What `save_state` wrote; None if the run has not finished an epoch. Runs no code.

    Raises:
        DataError: the state is damaged, missing though epochs were finished, or of other
            `settings` than those of the run.
    """
    if not run.state.exists():
        if not (run.path / "metrics.csv").exists():
            return None
        raise _not_resumable(run, "It holds no state.pth, which runs of an older version lack")
    try:
        content = load_archive(run.state)
        if not has_valid_tensors(content):
            raise damaged_file(run.state, "its tensors are not those of a training")
        saved = SavedState.model_validate(content)
    except DataError as error:
        raise _not_resumable(run, f"state.pth: {error.why}") from error
    except ValidationError as error:
        why = f"state.pth is damaged: {first_problem(error)}"
        raise _not_resumable(run, why) from error
    if changed := differing_settings(settings, saved.settings):
        why = f"settings.json is not what it was trained with: {', '.join(changed)} differs"
        raise _not_resumable(run, why)
    return saved


def _not_resumable(run: Run, why: str) -> DataError:
    return DataError(
        f"{run.path} cannot be resumed.",
        why=f"{why.rstrip('.')}.",
        fix=f"Train it anew: mnist train --config {run.path / 'settings.json'}",
    )


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


def is_multirun(path: Path) -> bool:
    return (path / MULTIRUN_RECORD).is_file() and not (path / "settings.json").exists()


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
