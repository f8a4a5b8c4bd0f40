"""The score of a checkpoint on a split, and its record in a run."""

import itertools
import math
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from pydantic import (
    TypeAdapter,
    ValidationError,
)

from mnistcli.config.choices import EvalSplit
from mnistcli.config.validate import first_problem
from mnistcli.errors import GateError
from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.runs.directory import Run, damaged_file, read_record, write_record
from mnistcli.runs.find import run_of_best_checkpoint
from mnistcli.runs.history import meets_accuracy
from mnistcli.version import SCHEMA_VERSION


@dataclass(frozen=True)
class Mistake:
    """An image that was misread: its place in the split, what it is, what it was taken for.

    The probabilities (0..1) are those of the predicted and of the true class.
    """

    index: int
    label: int
    predicted: int
    probability: float
    label_probability: float


@dataclass(frozen=True)
class Score:
    """How a checkpoint fares on a split.

    `loss` is the mean cross-entropy in nats, `interval` the 95 % Wilson
    interval of the accuracy; `confusion` has a row a true class. Mistakes come
    most confident first. `bins` are empty in scores that older versions kept;
    `tta` says that the probabilities are means over shifted copies.
    """

    checkpoint: str
    dataset: str
    split: EvalSplit
    num_images: int
    num_errors: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    classes: list[ClassScore]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    bins: list[ConfidenceBin] = field(default_factory=list)
    tta: bool = False


@dataclass(frozen=True)
class CorruptedScore:
    """How a checkpoint fares on a split whose every image was made worse by `amount`.

    Severities count from 1, the mildest; the accuracy lies in 0..1.
    """

    corruption: str
    severity: int
    amount: str
    num_errors: int
    accuracy: float


def require_accuracy(*scores: Score, min_percent: float | None) -> None:
    """Raise GateError if the accuracy of any score is below `min_percent` (0..100)."""
    if min_percent is None:
        return
    missed = [score for score in scores if not meets_accuracy(score.accuracy, min_percent)]
    if not missed:
        return
    worst = min(missed, key=lambda score: score.accuracy)
    what = f"The accuracy is {100 * worst.accuracy:.2f} %, below {min_percent:g} %."
    why = f"{worst.num_errors:,} of {worst.num_images:,} images were misread."
    if len(scores) > 1:
        what = f"{len(missed)} of {len(scores)} checkpoints are below {min_percent:g} %."
        why = f"The worst, {worst.checkpoint}, reaches {100 * worst.accuracy:.2f} %: {why}"
    fix = "Train longer (--epochs), with --augment, or another --arch."
    raise GateError(what, why=why, fix=fix)


# No data set has as many.
MAX_IMAGES = 10**7


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
