"""Checkpoints judged on the same split: as they are, averaged, calibrated, on worse pictures.

Shapes: N images, H rows, W columns, K classes.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.config.choices import EvalSplit
from mnistcli.config.settings import TrainSettings
from mnistcli.data.corruptions import Corruption, corrupt
from mnistcli.data.datasets import get_dataset
from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.calibration import (
    Calibration,
    apply_temperature,
    confidence_bins,
    cross_entropy,
    fit_temperature,
)
from mnistcli.evaluation.eval_data import check_classes, load_eval_split, score_predictions
from mnistcli.evaluation.inference import Predictions, evaluate_network
from mnistcli.evaluation.scores import CorruptedScore, Score
from mnistcli.models.registry import count_parameters
from mnistcli.runs.checkpoint import LoadedModel

# How far down and across pictures are shifted for test-time augmentation.
SHIFTS_PX = tuple(product((0, -1, 1), repeat=2))


@dataclass(frozen=True)
class EvalOptions:
    """In which ways to judge, beside every checkpoint as it is."""

    tta: bool = False
    ensemble: bool = False
    calibrate: bool = False
    corruptions: tuple[Corruption, ...] = ()


@dataclass(frozen=True)
class EvalData:
    """What checkpoints are judged on: examples on the CPU, the `split` of `dataset`.

    `held_out` are those to calibrate with, for every checkpoint its own.
    """

    dataset: str
    split: EvalSplit
    examples: Examples
    held_out: tuple[Examples, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All that is said of a checkpoint, or of the ensemble of several.

    An ensemble has `members`, the parameters of all of them and no settings.
    `doubtful` are the images of the split whose label people doubt.
    """

    score: Score
    settings: TrainSettings | None
    num_params: int
    doubtful: tuple[int, ...]
    members: tuple[str, ...] = ()
    calibration: Calibration | None = None
    corrupted: tuple[CorruptedScore, ...] = ()

    @property
    def recipe(self) -> str:
        """The recipe it was trained by; empty for an ensemble."""
        return self.settings.recipe if self.settings else ""

    @property
    def num_doubtful_errors(self) -> int:
        """How many of the misread images have a doubtful label."""
        return sum(mistake.index in self.doubtful for mistake in self.score.mistakes)


def common_dataset(models: Sequence[LoadedModel]) -> str:
    """The data set that all were trained on; raises SettingsError where there are several."""
    names = sorted({loaded.card.settings.dataset for loaded in models})
    if len(names) == 1:
        return names[0]
    are_alike = len({loaded.card.classes for loaded in models}) == 1
    raise SettingsError(
        "The checkpoints were trained on different data sets.",
        why=f"{' and '.join(names)}: they can be compared on the same images only.",
        fix=f"Say on which: --dataset {names[0]}" if are_alike else "Judge them one by one.",
    )


def check_comparable(
    models: Sequence[LoadedModel], how: EvalOptions, *, dataset: str, split: EvalSplit
) -> None:
    """Raise SettingsError unless all can be judged on the same images, and in these ways."""
    for loaded in models:
        check_classes(loaded, dataset)
    settings = [loaded.card.settings for loaded in models]
    splits = {(each.dataset, each.division) for each in settings}
    if split == "val" and len(splits) > 1:
        raise SettingsError(
            "The checkpoints have no validation split in common.",
            why="They were trained with another --dataset, --val-size, fold or --seed.",
            fix="Judge them on the test set: --split test",
        )
    if how.ensemble and len(models) < 2:
        raise SettingsError(
            "An ensemble needs two checkpoints or more.",
            why="--ensemble averages what they answer.",
            fix="Name more checkpoints, or leave --ensemble out.",
        )
    if how.calibrate:
        _check_calibration(models, how, split)


def _check_calibration(models: Sequence[LoadedModel], how: EvalOptions, split: EvalSplit) -> None:
    """Raise SettingsError unless every checkpoint held out images that say something of others."""
    without = [loaded for loaded in models if not loaded.card.settings.holds_out]
    if without:
        raise SettingsError(
            f"{without[0].path} cannot be calibrated.",
            why="It was trained with --val-size 0: it held out no images to fit a temperature on.",
            fix="Leave --calibrate out, or train anew with images held out: --val-size 0.1",
        )
    if split == "val":
        raise SettingsError(
            "--calibrate is not judged on the validation split.",
            why="The temperature is fitted there, and would look better than it is.",
            fix="Judge it on the test set: --split test",
        )
    if how.ensemble:
        raise SettingsError(
            "--calibrate and --ensemble do not go together.",
            why="What one checkpoint held out, another may have been trained on.",
            fix="Use one of them.",
        )


def load_eval_data(
    models: Sequence[LoadedModel],
    how: EvalOptions,
    *,
    dataset: str,
    split: EvalSplit,
    data_dir: Path,
) -> EvalData:
    """The examples to judge on; and, to calibrate, those that each checkpoint held out.

    Raises:
        DataError: a data set is missing or damaged.
    """
    examples = load_eval_split(models[0], dataset=dataset, split=split, data_dir=data_dir)
    held_out = tuple(
        load_eval_split(
            loaded, dataset=loaded.card.settings.dataset, split="val", data_dir=data_dir
        )
        for loaded in models
        if how.calibrate
    )
    return EvalData(dataset, split, examples, held_out)


def evaluate_models(
    models: Sequence[LoadedModel],
    material: EvalData,
    *,
    how: EvalOptions | None = None,
    device: str = "cpu",
) -> list[Evaluation]:
    """What is said of checkpoints on the same material; an ensemble comes last."""
    how, target = how or EvalOptions(), torch.device(device)
    examples = material.examples
    # Copies, since a loaded network stays on the CPU.
    models = [
        replace(loaded, network=copy.deepcopy(loaded.network).to(target)) for loaded in models
    ]
    rows = [(loaded,) for loaded in models] + ([tuple(models)] if how.ensemble else [])
    answers = _predict_all(models, examples.to(target), how)
    fitted: list[Calibration | None] = [None] * len(rows)
    if how.calibrate:
        fitted = [
            _calibration(answer, _predict(loaded, each.to(target), how))
            for answer, loaded, each in zip(answers, models, material.held_out, strict=True)
        ]
    corrupted = list(zip(*_corrupted_scores(models, examples, how, target), strict=True))
    return [
        replace(
            _evaluation(row, answer, material, tta=how.tta),
            calibration=calibration,
            corrupted=scores,
        )
        for row, answer, calibration, scores in zip(
            rows,
            answers,
            fitted,
            corrupted or [()] * len(rows),
            strict=True,
        )
    ]


def _evaluation(
    row: tuple[LoadedModel, ...], answer: Predictions, material: EvalData, *, tta: bool
) -> Evaluation:
    names = tuple(str(loaded.path) for loaded in row)
    is_one, classes = len(row) == 1, row[0].card.classes
    name = names[0] if is_one else "ensemble"
    dataset, split = material.dataset, material.split
    settings = [loaded.card.settings for loaded in row]
    return Evaluation(
        score_predictions(answer, classes, checkpoint=name, dataset=dataset, split=split, tta=tta),
        settings=settings[0] if is_one else None,
        num_params=sum(count_parameters(each.arch, each.network) for each in settings),
        doubtful=get_dataset(dataset).doubtful if split == "test" else (),
        members=() if is_one else names,
    )


def _predict_all(
    models: Sequence[LoadedModel], examples: Examples, how: EvalOptions
) -> list[Predictions]:
    """What every checkpoint answers, and last the ensemble if it is asked for."""
    answers = [_predict(loaded, examples, how) for loaded in models]
    return [*answers, _mean_predictions(answers)] if how.ensemble else answers


def _predict(loaded: LoadedModel, examples: Examples, how: EvalOptions) -> Predictions:
    if not how.tta:
        return evaluate_network(loaded.network, examples, loaded.normalization)
    return _mean_predictions(
        [
            evaluate_network(
                loaded.network,
                Examples(_shifted(examples.images_NHW, down_px, across_px), examples.labels_N),
                loaded.normalization,
            )
            for down_px, across_px in SHIFTS_PX
        ]
    )


def _shifted(images_NHW: Tensor, down_px: int, across_px: int) -> Tensor:
    """The pictures moved by at most a pixel, with background where nothing comes in."""
    height, width = images_NHW.shape[1:]
    padded_NHW = F.pad(images_NHW, (1, 1, 1, 1))
    top, left = 1 - down_px, 1 - across_px
    return padded_NHW[:, top : top + height, left : left + width]


def _mean_predictions(answers: Sequence[Predictions]) -> Predictions:
    """The mean of the probabilities of several answers to the same images."""
    probabilities_NK = torch.stack([each.probabilities_NK for each in answers]).mean(dim=0)
    labels_N = answers[0].labels_N
    loss = cross_entropy(probabilities_NK.numpy(), labels_N.numpy())
    return Predictions(loss, probabilities_NK, labels_N)


def _calibration(answer: Predictions, held_out: Predictions) -> Calibration:
    """The temperature that suits the images held out, and what it makes of those judged."""
    temperature = fit_temperature(held_out.probabilities_NK.numpy(), held_out.labels_N.numpy())
    labels_N = answer.labels_N.numpy()
    probabilities_NK = apply_temperature(answer.probabilities_NK.numpy(), temperature)
    return Calibration(
        temperature=temperature,
        num_fitted=len(held_out.labels_N),
        loss=cross_entropy(probabilities_NK, labels_N),
        bins=confidence_bins(probabilities_NK, labels_N),
    )


def _corrupted_scores(
    models: Sequence[LoadedModel], examples: Examples, how: EvalOptions, target: torch.device
) -> Iterator[list[CorruptedScore]]:
    """For every corruption and severity the scores of all checkpoints, and of the ensemble."""
    for corruption in how.corruptions:
        for severity, amount in enumerate(corruption.amounts, start=1):
            worse_NHW = corrupt(examples.images_NHW, corruption, amount)
            worse = Examples(worse_NHW, examples.labels_N).to(target)
            accuracies = [answer.accuracy for answer in _predict_all(models, worse, how)]
            yield [
                CorruptedScore(
                    corruption=corruption.name,
                    severity=severity,
                    amount=corruption.describe(amount),
                    num_errors=len(worse) - round(accuracy * len(worse)),
                    accuracy=accuracy,
                )
                for accuracy in accuracies
            ]
