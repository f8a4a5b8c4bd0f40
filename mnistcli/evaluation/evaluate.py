"""Evaluate checkpoints on the same images: alone, as an ensemble, calibrated, on corrupted images.

Shapes: N images, H rows, W columns, K classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mnistcli.config.choices import EvalSplit
from mnistcli.config.settings import TrainSettings
from mnistcli.data.corruptions import Corruption, corrupt
from mnistcli.data.examples import Examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.calibration import (
    Calibration,
    apply_temperature,
    confidence_bins,
    cross_entropy,
    fit_temperature,
)
from mnistcli.evaluation.ensemble import average_predictions
from mnistcli.evaluation.eval_data import EvalData, require_classes
from mnistcli.evaluation.inference import Predictions, evaluate_network
from mnistcli.evaluation.scores import CorruptedScore, Score, score_predictions
from mnistcli.evaluation.tta import evaluate_with_tta
from mnistcli.models.registry import count_parameters
from mnistcli.runs.checkpoint import LoadedModel


@dataclass(frozen=True)
class EvalOptions:
    """What to evaluate besides every checkpoint alone."""

    tta: bool = False
    ensemble: bool = False
    calibrate: bool = False
    corruptions: tuple[Corruption, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The results of one checkpoint, or of the ensemble of all.

    An ensemble has `members` (their checkpoints), the sum of their parameters
    and no settings. `doubtful` are the indices of the split's images with a
    doubtful label.
    """

    score: Score
    settings: TrainSettings | None
    num_params: int
    doubtful: tuple[int, ...]
    members: tuple[str, ...] = ()
    calibration: Calibration | None = None
    corrupted: tuple[CorruptedScore, ...] = ()

    def __repr__(self) -> str:
        """The score in a line, with the names of what else was evaluated."""
        also = [name for name in ("calibration", "corrupted") if getattr(self, name)]
        return f"<Evaluation {self.score}{''.join(f', with {name}' for name in also)}>"

    @property
    def recipe(self) -> str:
        """The recipe it was trained by; empty for an ensemble."""
        return self.settings.recipe if self.settings else ""

    @property
    def num_doubtful_errors(self) -> int:
        """The number of misclassified images with a doubtful label."""
        return sum(mistake.index in self.doubtful for mistake in self.score.mistakes)


def check_options(
    models: Sequence[LoadedModel], options: EvalOptions, *, dataset: str, split: EvalSplit
) -> None:
    """Raise SettingsError unless all checkpoints can be evaluated this way on the same images."""
    require_classes(models, dataset)
    all_settings = [loaded.card.settings for loaded in models]
    splits = {
        (settings.data_key, settings.split_key, settings.train_size if split == "train" else None)
        for settings in all_settings
    }
    if split != "test" and len(splits) > 1:
        which = "validation split" if split == "val" else "training images"
        raise SettingsError(
            f"The checkpoints have no {which} in common.",
            why="They differ in --dataset, --val-size, --train-size, fold or --seed.",
            fix="Evaluate them on the test set: --split test",
        )
    if options.ensemble and len(models) < 2:
        raise SettingsError(
            "An ensemble needs two checkpoints or more.",
            why="--ensemble averages their probabilities.",
            fix="Name more checkpoints, or leave out --ensemble.",
        )
    if options.calibrate:
        _check_calibration(models, options, split)


def _check_calibration(
    models: Sequence[LoadedModel], options: EvalOptions, split: EvalSplit
) -> None:
    """Raise SettingsError unless every checkpoint has unseen images to fit a temperature on."""
    for loaded in models:
        if not loaded.card.settings.holds_out:
            raise SettingsError(
                f"{loaded.path} cannot be calibrated.",
                why="It was trained with --val-size 0: no images were held out to fit a "
                "temperature on.",
                fix="Leave out --calibrate, or train with images held out: --val-size 0.1",
            )
    if split != "test":
        raise SettingsError(
            "--calibrate can only be evaluated on the test set.",
            why="The temperature is fitted on the validation split, and the training images are "
            "known to the network: the result would be optimistically biased.",
            fix="Evaluate it on the test set: --split test",
        )
    if options.ensemble:
        raise SettingsError(
            "--calibrate and --ensemble cannot be combined.",
            why="One checkpoint may have been trained on the images that another held out.",
            fix="Use one of them.",
        )


def evaluate_models(
    models: Sequence[LoadedModel],
    data: EvalData,
    *,
    options: EvalOptions | None = None,
    device: str = "cpu",
) -> list[Evaluation]:
    """Evaluate checkpoints on the same images; the ensemble, if asked for, comes last."""
    options, target = options or EvalOptions(), torch.device(device)
    # Copies, since a loaded network stays on the CPU.
    models = [
        replace(loaded, network=copy.deepcopy(loaded.network).to(target)) for loaded in models
    ]
    groups = [(loaded,) for loaded in models] + ([tuple(models)] if options.ensemble else [])
    predictions = _predict_all(models, data.examples.to(target), options)
    corrupted = _score_corrupted(models, data.examples, options, target)
    evaluations = [
        replace(_evaluation(group, predicted, data, tta=options.tta), corrupted=tuple(scores))
        for group, predicted, scores in zip(groups, predictions, corrupted, strict=True)
    ]
    if not options.calibrate:
        return evaluations
    return [
        replace(
            evaluation,
            calibration=_calibrate(predicted, _predict(loaded, held_out.to(target), options)),
        )
        for evaluation, loaded, predicted, held_out in zip(
            evaluations, models, predictions, data.held_out, strict=True
        )
    ]


def _evaluation(
    group: tuple[LoadedModel, ...], predictions: Predictions, data: EvalData, *, tta: bool
) -> Evaluation:
    """The evaluation of one checkpoint, or of several as an ensemble."""
    names = [str(loaded.path) for loaded in group]
    all_settings = [loaded.card.settings for loaded in group]
    is_ensemble = len(group) > 1
    score = score_predictions(
        predictions,
        group[0].card.classes,
        checkpoint="ensemble" if is_ensemble else names[0],
        dataset=data.dataset.name,
        split=data.split,
        tta=tta,
        digest=data.dataset.digest,
        test_seed=data.dataset.test_seed,
    )
    return Evaluation(
        score,
        settings=None if is_ensemble else all_settings[0],
        num_params=sum(
            count_parameters(settings.arch, settings.network) for settings in all_settings
        ),
        doubtful=data.dataset.doubtful if data.split == "test" else (),
        members=tuple(names) if is_ensemble else (),
    )


def _predict_all(
    models: Sequence[LoadedModel], examples: Examples, options: EvalOptions
) -> list[Predictions]:
    """The predictions of every checkpoint and last, if asked for, of the ensemble."""
    predictions = [_predict(loaded, examples, options) for loaded in models]
    return [*predictions, average_predictions(predictions)] if options.ensemble else predictions


def _predict(loaded: LoadedModel, examples: Examples, options: EvalOptions) -> Predictions:
    predict = evaluate_with_tta if options.tta else evaluate_network
    return predict(loaded.network, examples, loaded.normalization)


def _calibrate(predictions: Predictions, held_out: Predictions) -> Calibration:
    """Fit a temperature on the held-out images and apply it to the predictions."""
    temperature = fit_temperature(held_out.probabilities_NK.numpy(), held_out.labels_N.numpy())
    labels_N = predictions.labels_N.numpy()
    probabilities_NK = apply_temperature(predictions.probabilities_NK.numpy(), temperature)
    return Calibration(
        temperature=temperature,
        num_fitted=len(held_out.labels_N),
        loss=cross_entropy(probabilities_NK, labels_N),
        bins=confidence_bins(probabilities_NK, labels_N),
    )


def _score_corrupted(
    models: Sequence[LoadedModel], examples: Examples, options: EvalOptions, target: torch.device
) -> list[list[CorruptedScore]]:
    """The scores of every checkpoint and of the ensemble on all corruptions and severities."""
    scores: list[list[CorruptedScore]] = [[] for _ in range(len(models) + options.ensemble)]
    for corruption in options.corruptions:
        for severity, amount in enumerate(corruption.amounts, start=1):
            images_NHW = corrupt(examples.images_NHW, corruption, amount)
            corrupted = Examples(images_NHW, examples.labels_N).to(target)
            predictions = _predict_all(models, corrupted, options)
            for row, predicted in zip(scores, predictions, strict=True):
                row.append(
                    CorruptedScore(
                        corruption=corruption.name,
                        severity=severity,
                        amount=corruption.describe(amount),
                        num_errors=len(corrupted) - predicted.num_correct,
                        accuracy=predicted.accuracy,
                    )
                )
    return scores
