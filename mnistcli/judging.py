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

from mnistcli import datasets, engine, registry, scoring
from mnistcli.batches import Examples
from mnistcli.calibration import (
    Calibration,
    at_temperature,
    confidence_bins,
    cross_entropy,
    fit_temperature,
)
from mnistcli.checkpoints import LoadedModel
from mnistcli.corruptions import Corruption, corrupt
from mnistcli.engine import Evaluation
from mnistcli.errors import SettingsError
from mnistcli.metrics import CorruptedScore, JudgedSplit, Score
from mnistcli.settings import TrainSettings

# How far down and across pictures are shifted for test-time augmentation.
SHIFTS_PX = tuple(product((0, -1, 1), repeat=2))


@dataclass(frozen=True)
class Judging:
    """In which ways to judge, beside every checkpoint as it is."""

    tta: bool = False
    ensemble: bool = False
    calibrate: bool = False
    corruptions: tuple[Corruption, ...] = ()


@dataclass(frozen=True)
class Material:
    """What checkpoints are judged on: examples on the CPU, the `split` of `dataset`.

    `held_out` are those to calibrate with, for every checkpoint its own.
    """

    dataset: str
    split: JudgedSplit
    examples: Examples
    held_out: tuple[Examples, ...] = ()


@dataclass(frozen=True)
class Judgement:
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


def pick_dataset(models: Sequence[LoadedModel]) -> str:
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


def check(models: Sequence[LoadedModel], how: Judging, *, dataset: str, split: JudgedSplit) -> None:
    """Raise SettingsError unless all can be judged on the same images, and in these ways."""
    for loaded in models:
        scoring.check_classes(loaded, dataset)
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
        _check_calibrated(models, how, split)


def _check_calibrated(models: Sequence[LoadedModel], how: Judging, split: JudgedSplit) -> None:
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


def load(
    models: Sequence[LoadedModel], how: Judging, *, dataset: str, split: JudgedSplit, data_dir: Path
) -> Material:
    """The examples to judge on; and, to calibrate, those that each checkpoint held out.

    Raises:
        DataError: a data set is missing or damaged.
    """
    examples = scoring.load_split(models[0], dataset=dataset, split=split, data_dir=data_dir)
    held_out = tuple(
        scoring.load_split(
            loaded, dataset=loaded.card.settings.dataset, split="val", data_dir=data_dir
        )
        for loaded in models
        if how.calibrate
    )
    return Material(dataset, split, examples, held_out)


def judge(
    models: Sequence[LoadedModel],
    material: Material,
    *,
    how: Judging | None = None,
    device: str = "cpu",
) -> list[Judgement]:
    """What is said of checkpoints on the same material; an ensemble comes last."""
    how, target = how or Judging(), torch.device(device)
    examples = material.examples
    # Copies, since a loaded network stays on the CPU.
    models = [
        replace(loaded, network=copy.deepcopy(loaded.network).to(target)) for loaded in models
    ]
    rows = [(loaded,) for loaded in models] + ([tuple(models)] if how.ensemble else [])
    answers = _answers(models, examples.to(target), how)
    fitted: list[Calibration | None] = [None] * len(rows)
    if how.calibrate:
        fitted = [
            _calibration(answer, _answer(loaded, each.to(target), how))
            for answer, loaded, each in zip(answers, models, material.held_out, strict=True)
        ]
    corrupted = list(zip(*_corrupted_scores(models, examples, how, target), strict=True))
    return [
        replace(
            _judgement(row, answer, material, tta=how.tta),
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


def _judgement(
    row: tuple[LoadedModel, ...], answer: Evaluation, material: Material, *, tta: bool
) -> Judgement:
    names = tuple(str(loaded.path) for loaded in row)
    is_one, classes = len(row) == 1, row[0].card.classes
    name = names[0] if is_one else "ensemble"
    dataset, split = material.dataset, material.split
    settings = [loaded.card.settings for loaded in row]
    return Judgement(
        scoring.score(answer, classes, checkpoint=name, dataset=dataset, split=split, tta=tta),
        settings=settings[0] if is_one else None,
        num_params=sum(registry.num_params(each.arch, each.network) for each in settings),
        doubtful=datasets.dataset(dataset).doubtful if split == "test" else (),
        members=() if is_one else names,
    )


def _answers(models: Sequence[LoadedModel], examples: Examples, how: Judging) -> list[Evaluation]:
    """What every checkpoint answers, and last the ensemble if it is asked for."""
    answers = [_answer(loaded, examples, how) for loaded in models]
    return [*answers, _mean(answers)] if how.ensemble else answers


def _answer(loaded: LoadedModel, examples: Examples, how: Judging) -> Evaluation:
    if not how.tta:
        return engine.evaluate(loaded.network, examples, loaded.normalisation)
    return _mean(
        [
            engine.evaluate(
                loaded.network,
                Examples(_shifted(examples.images_NHW, down_px, across_px), examples.labels_N),
                loaded.normalisation,
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


def _mean(answers: Sequence[Evaluation]) -> Evaluation:
    """The mean of the probabilities of several answers to the same images."""
    probabilities_NK = torch.stack([each.probabilities_NK for each in answers]).mean(dim=0)
    labels_N = answers[0].labels_N
    loss = cross_entropy(probabilities_NK.numpy(), labels_N.numpy())
    return Evaluation(loss, probabilities_NK, labels_N)


def _calibration(answer: Evaluation, held_out: Evaluation) -> Calibration:
    """The temperature that suits the images held out, and what it makes of those judged."""
    temperature = fit_temperature(held_out.probabilities_NK.numpy(), held_out.labels_N.numpy())
    labels_N = answer.labels_N.numpy()
    probabilities_NK = at_temperature(answer.probabilities_NK.numpy(), temperature)
    return Calibration(
        temperature=temperature,
        num_fitted=len(held_out.labels_N),
        loss=cross_entropy(probabilities_NK, labels_N),
        bins=confidence_bins(probabilities_NK, labels_N),
    )


def _corrupted_scores(
    models: Sequence[LoadedModel], examples: Examples, how: Judging, target: torch.device
) -> Iterator[list[CorruptedScore]]:
    """For every corruption and severity the scores of all checkpoints, and of the ensemble."""
    for corruption in how.corruptions:
        for severity, amount in enumerate(corruption.amounts, start=1):
            worse_NHW = corrupt(examples.images_NHW, corruption, amount)
            worse = Examples(worse_NHW, examples.labels_N).to(target)
            accuracies = [answer.accuracy for answer in _answers(models, worse, how)]
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
