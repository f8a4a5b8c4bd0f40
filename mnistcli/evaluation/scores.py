"""The score of a checkpoint on a split: computed from predictions, saved in its run, read back.

No torch. Shapes: N images, K classes.
"""

import hashlib
import itertools
import re
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from mnistcli.config.choices import EvalSplit
from mnistcli.config.dataset_names import dataset_title, is_own_data
from mnistcli.config.validate import first_problem
from mnistcli.errors import GateError
from mnistcli.evaluation.calibration import ConfidenceBin, confidence_bins
from mnistcli.evaluation.metrics import (
    ClassScore,
    Proportion,
    class_scores,
    confusion_matrix,
    wilson_interval,
)
from mnistcli.runs.directory import Run, damaged_file, read_record, write_record
from mnistcli.runs.find import run_of_best_checkpoint
from mnistcli.runs.history import meets_accuracy
from mnistcli.version import SCHEMA_VERSION

if TYPE_CHECKING:
    from mnistcli.evaluation.inference import Predictions

# More than any data set has; a record with more is damaged.
MAX_IMAGES = 10**7


@dataclass(frozen=True)
class Mistake:
    """A misclassified image: its index in the split, its true class and the predicted one.

    The probabilities are those of the predicted and of the true class.
    """

    index: NonNegativeInt
    label: NonNegativeInt
    predicted: NonNegativeInt
    probability: Proportion
    label_probability: Proportion


@dataclass(frozen=True)
class Score:
    """The figures of a checkpoint on a split.

    `loss` is the mean cross-entropy in nats and `interval` the 95 % Wilson
    interval of the accuracy. Rows of `confusion` are true classes.
    `mistakes` are sorted by probability, highest first. `bins` are empty in
    records of older versions. `tta`: the probabilities are means over shifted
    copies of each image. `digest` and `test_seed` are a user's own data set's (see `Dataset`).
    """

    checkpoint: str
    dataset: str
    split: EvalSplit
    num_images: Annotated[int, Field(ge=1, le=MAX_IMAGES)]
    num_errors: NonNegativeInt
    loss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    accuracy: Proportion
    interval: tuple[Proportion, Proportion]
    classes: Annotated[list[ClassScore], Field(min_length=1)]
    confusion: list[list[NonNegativeInt]]
    mistakes: list[Mistake]
    bins: list[ConfidenceBin] = field(default_factory=list)
    tta: bool = False
    digest: str = ""
    test_seed: int | None = None

    def __repr__(self) -> str:
        """The accuracy with its interval, the images and the errors."""
        low, high = self.interval
        return (
            f"<Score {self.accuracy:.2%} ({low:.2%} to {high:.2%}) on {self.num_images:,} "
            f"{self.split} images of {self.dataset}, {self.num_errors:,} errors>"
        )


@dataclass(frozen=True)
class CorruptedScore:
    """The accuracy of a checkpoint on a split with one corruption of every image.

    Severities count from 1, the mildest; `amount` describes them.
    """

    corruption: str
    severity: int
    amount: str
    num_errors: int
    accuracy: Proportion


def score_predictions(
    predictions: "Predictions",
    classes: tuple[str, ...],
    *,
    checkpoint: str,
    dataset: str,
    split: EvalSplit,
    tta: bool = False,
    digest: str = "",
    test_seed: int | None = None,
) -> Score:
    """The score that predictions for the images of a split give."""
    probabilities_NK = predictions.probabilities_NK.numpy()
    labels_N, predicted_N = predictions.labels_N.numpy(), probabilities_NK.argmax(axis=1)
    confusion_KK = confusion_matrix(labels_N, predicted_N, num_classes=len(classes))
    num_correct = int(np.trace(confusion_KK))
    return Score(
        checkpoint=checkpoint,
        dataset=dataset,
        split=split,
        num_images=len(labels_N),
        num_errors=len(labels_N) - num_correct,
        loss=predictions.loss,
        accuracy=num_correct / len(labels_N),
        interval=wilson_interval(num_correct, len(labels_N)),
        classes=class_scores(confusion_KK, classes),
        confusion=confusion_KK.tolist(),
        mistakes=_mistakes(labels_N, predicted_N, probabilities_NK),
        bins=confidence_bins(probabilities_NK, labels_N),
        tta=tta,
        digest=digest,
        test_seed=test_seed,
    )


def _mistakes(
    labels_N: NDArray[np.int64],
    predicted_N: NDArray[np.int64],
    probabilities_NK: NDArray[np.float32],
) -> list[Mistake]:
    """Every misclassified image, the most confident mistake first."""
    mistakes = [
        Mistake(
            index=int(i),
            label=int(labels_N[i]),
            predicted=int(predicted_N[i]),
            probability=float(probabilities_NK[i, predicted_N[i]]),
            label_probability=float(probabilities_NK[i, labels_N[i]]),
        )
        for i in np.flatnonzero(labels_N != predicted_N)
    ]
    return sorted(mistakes, key=lambda mistake: mistake.probability, reverse=True)


def require_accuracy(*scores: Score, min_percent: float | None) -> None:
    """Raise GateError if the accuracy of any score is below `min_percent` (0..100)."""
    if min_percent is None:
        return
    missed = [score for score in scores if not meets_accuracy(score.accuracy, min_percent)]
    if not missed:
        return
    worst = min(missed, key=lambda score: score.accuracy)
    what = f"The accuracy is {100 * worst.accuracy:.2f} %, below {min_percent:g} %."
    why = f"{worst.num_errors:,} of {worst.num_images:,} images were misclassified."
    if len(scores) > 1:
        what = f"{len(missed)} of {len(scores)} checkpoints are below {min_percent:g} %."
        why = f"The lowest accuracy is {100 * worst.accuracy:.2f} %, of {worst.checkpoint}: {why}"
    fix = "Train for more epochs (--epochs), with --augment, or try another --arch."
    raise GateError(what, why=why, fix=fix)


def write_score(score: Score) -> Path | None:
    """Save a score in the run whose best checkpoint it is of; None if there is no such run.

    Scores with TTA are not saved: a run's score is that of its network alone.

    Raises:
        RunError: the run directory cannot be written.
    """
    run = run_of_best_checkpoint(Path(score.checkpoint))
    if score.tta or run is None:
        return None
    name = _file_name(score.dataset, score.split)
    write_record(run, name, {"schema_version": SCHEMA_VERSION, **asdict(score)})
    return run.path / name


def read_score(run: Run, dataset: str, split: EvalSplit) -> Score | None:
    """The score that `write_score` saved in a run; None if there is none.

    Raises:
        DataError: the record is damaged.
    """
    name = _file_name(dataset, split)
    if not (run.path / name).exists():
        return None
    record = read_record(run, name)
    record.pop("schema_version", None)
    try:
        score = _score_adapter().validate_python(record)
    except ValidationError as error:
        raise damaged_file(run.path / name, first_problem(error)) from error
    if not _is_consistent(score):
        raise damaged_file(run.path / name, "its figures contradict each other")
    return score


@cache
def _score_adapter() -> TypeAdapter[Score]:
    """Made once, when needed: making it takes longer than reading a score."""
    return TypeAdapter(Score)


def _is_consistent(score: Score) -> bool:
    """Whether the figures of a score agree with each other."""
    num_classes, num_images = len(score.classes), score.num_images
    if [len(row) for row in score.confusion] != [num_classes] * num_classes:
        return False
    num_correct = sum(score.confusion[k][k] for k in range(num_classes))
    return (
        sum(itertools.chain(*score.confusion)) == num_images
        and num_correct == num_images - score.num_errors
        and (not score.bins or sum(bin_.num_images for bin_ in score.bins) == num_images)
        and not score.tta
        and score.interval[0] <= score.interval[1]
        and all(
            mistake.index < num_images and max(mistake.label, mistake.predicted) < num_classes
            for mistake in score.mistakes
        )
    )


def _file_name(dataset: str, split: EvalSplit) -> str:
    if is_own_data(dataset):
        title = re.sub(r"[^\w.-]+", "_", dataset_title(dataset))[:40]
        dataset = f"{title}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}"
    return f"eval-{dataset}-{split}.json"
