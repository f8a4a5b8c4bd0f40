"""What a checkpoint is judged on, and the figures of what it answers there.

Shapes: N images, K classes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistcli.config.choices import EvalSplit
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.splits import split_examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.calibration import confidence_bins
from mnistcli.evaluation.inference import Predictions
from mnistcli.evaluation.metrics import class_scores, confusion_matrix, wilson_interval
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.runs.checkpoint import LoadedModel


def check_classes(loaded: LoadedModel, dataset: str) -> None:
    """Raise SettingsError unless a checkpoint tells the classes of `dataset` apart."""
    if get_dataset(dataset).classes != loaded.card.classes:
        trained_on = loaded.card.settings.dataset
        raise SettingsError(
            f"{loaded.path} cannot be judged on {dataset}.",
            why=f"It was trained on {trained_on}, whose classes are others.",
            fix=f"Judge it on --dataset {trained_on}",
        )


def load_eval_split(
    loaded: LoadedModel, *, dataset: str, split: EvalSplit, data_dir: Path
) -> Examples:
    """The examples to judge a checkpoint on; "val" is what its training held out.

    Raises:
        SettingsError: there is no such validation split, or its classes are others.
        DataError: the data set is missing or damaged.
    """
    source = get_dataset(dataset)
    settings = loaded.card.settings
    check_classes(loaded, dataset)
    if split == "test":
        return load_dataset(source, "test", data_dir)
    if dataset != settings.dataset or not settings.holds_out:
        raise SettingsError(
            f"{loaded.path} has no validation split of {dataset}.",
            why=f"It was trained on {settings.dataset} with {_describe_held_out(settings)}.",
            fix="Judge it on the test set: --split test",
        )
    examples = load_dataset(source, "train", data_dir)
    return split_examples(examples, settings)[1]


def _describe_held_out(settings: TrainSettings) -> str:
    if settings.fold:
        return f"fold {settings.fold.number} of {settings.fold.of} held out"
    return f"--val-size {settings.val_size:g}"


def score_predictions(
    answer: Predictions,
    classes: tuple[str, ...],
    *,
    checkpoint: str,
    dataset: str,
    split: EvalSplit,
    tta: bool = False,
) -> Score:
    """The figures of what was answered to the images of a split."""
    probabilities_NK = answer.probabilities_NK.numpy()
    labels_N, predicted_N = answer.labels_N.numpy(), probabilities_NK.argmax(axis=1)
    confusion_KK = confusion_matrix(labels_N, predicted_N, num_classes=len(classes))
    num_correct = int(np.trace(confusion_KK))
    return Score(
        checkpoint=checkpoint,
        dataset=dataset,
        split=split,
        num_images=len(labels_N),
        num_errors=len(labels_N) - num_correct,
        loss=answer.loss,
        accuracy=num_correct / len(labels_N),
        interval=wilson_interval(num_correct, len(labels_N)),
        classes=class_scores(confusion_KK, classes),
        confusion=confusion_KK.tolist(),
        mistakes=_mistakes(labels_N, predicted_N, probabilities_NK),
        bins=confidence_bins(probabilities_NK, labels_N),
        tta=tta,
    )


def _mistakes(
    labels_N: NDArray[np.int64],
    predicted_N: NDArray[np.int64],
    probabilities_NK: NDArray[np.float32],
) -> list[Mistake]:
    """Every misread image, the most confident first."""
    found = [
        Mistake(
            index=int(i),
            label=int(labels_N[i]),
            predicted=int(predicted_N[i]),
            probability=float(probabilities_NK[i, predicted_N[i]]),
            label_probability=float(probabilities_NK[i, labels_N[i]]),
        )
        for i in np.flatnonzero(labels_N != predicted_N)
    ]
    return sorted(found, key=lambda mistake: mistake.probability, reverse=True)
