"""Checkpoints on the same images: alone, calibrated, on corrupted images, with doubtful labels."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mnistcli.config.choices import EvalSplit
from mnistcli.data.corruptions import corrupt, parse_corruptions
from mnistcli.data.datasets import DATASETS
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.evaluation.calibration import confidence_bins, expected_calibration_error
from mnistcli.evaluation.eval_data import EvalData, load_eval_data
from mnistcli.evaluation.evaluate import EvalOptions, check_options, evaluate_models
from mnistcli.runs.checkpoint import LoadedModel
from tests.helpers.evaluation import (
    count_errors,
    hundred_digits,
    load_models,
    probabilities,
    with_settings,
)


@pytest.fixture
def models(trained: Path) -> list[LoadedModel]:
    return load_models(trained)


def test_every_checkpoint_is_evaluated_alone(models: list[LoadedModel]) -> None:
    digits = hundred_digits()
    data = EvalData(DATASETS["digits"], "test", digits)
    evaluations = evaluate_models(models, data)
    assert evaluations == [evaluate_models([loaded], data)[0] for loaded in models]
    assert [each.num_params for each in evaluations] == [7_882, 26_698]
    assert [each.recipe for each in evaluations] == ["cnn-small", "cnn-26k"]
    for evaluation, loaded in zip(evaluations, models, strict=True):
        assert evaluation.score.checkpoint == str(loaded.path)
        assert evaluation.score.num_errors == count_errors(probabilities(loaded, digits), digits)
        assert evaluation.score.num_errors > 0
        assert sum(each.num_images for each in evaluation.score.bins) == 100


def test_a_temperature_is_fitted_on_the_images_held_out(models: list[LoadedModel]) -> None:
    loaded = models[1]
    data = load_eval_data([loaded], dataset="digits", split="test", calibrate=True, data_dir=Path())
    (evaluation,) = evaluate_models([loaded], data, options=EvalOptions(calibrate=True))
    assert evaluation.score == evaluate_models([loaded], data)[0].score
    assert evaluation.calibration
    assert evaluation.calibration.num_fitted == 144
    temperature, (held_out,) = evaluation.calibration.temperature, data.held_out

    def scaled_logits(examples: Examples, temperature: float) -> torch.Tensor:
        with torch.inference_mode():
            x_NCHW = normalize(examples.images_NHW, loaded.normalization)
            logits_NK: torch.Tensor = loaded.network(x_NCHW).double()
        return logits_NK / temperature

    def loss(factor: float) -> float:
        logits_NK = scaled_logits(held_out, factor * temperature)
        return F.cross_entropy(logits_NK, held_out.labels_N).item()

    assert loss(1) < min(loss(0.99), loss(1.01))
    logits_NK, labels_N = scaled_logits(data.examples, temperature), data.examples.labels_N
    expected = F.cross_entropy(logits_NK, labels_N).item()
    assert evaluation.calibration.loss == pytest.approx(expected, rel=1e-4)
    bins = confidence_bins(logits_NK.softmax(dim=1).numpy(), labels_N.numpy())
    ece = expected_calibration_error(evaluation.calibration.bins)
    assert ece == pytest.approx(expected_calibration_error(bins), abs=1e-5)


def test_corrupted_images_are_for_every_checkpoint_and_the_ensemble(
    models: list[LoadedModel],
) -> None:
    digits = hundred_digits()
    data = EvalData(DATASETS["digits"], "test", digits)
    noise, rotate = corruptions = parse_corruptions("noise,rotate")
    options = EvalOptions(ensemble=True, corruptions=corruptions)
    first, second, ensemble = evaluate_models(models, data, options=options)
    for evaluation in (first, second, ensemble):
        assert [(each.corruption, each.severity) for each in evaluation.corrupted] == [
            (name, severity) for name in ("noise", "rotate") for severity in (1, 2, 3)
        ]
    rotated = Examples(corrupt(digits.images_NHW, rotate, rotate.amounts[-1]), digits.labels_N)
    first_NK, second_NK = (probabilities(loaded, rotated) for loaded in models)
    strongest = first.corrupted[-1]
    assert strongest.amount == rotate.describe(30)
    assert strongest.num_errors == count_errors(first_NK, rotated) > 0
    assert strongest.accuracy == 1 - strongest.num_errors / 100
    mean_NK = (first_NK + second_NK) / 2
    assert ensemble.corrupted[-1].num_errors == count_errors(mean_NK, rotated)
    assert first.score == evaluate_models(models[:1], data)[0].score
    assert noise.amounts == (5, 10, 20)


@pytest.mark.parametrize(
    ("options", "split", "what"),
    [
        (EvalOptions(ensemble=True, calibrate=True), "test", "cannot be combined"),
        (EvalOptions(calibrate=True), "val", "on the validation split"),
        (EvalOptions(), "val", "no validation split in common"),
    ],
)
def test_unfair_evaluations_are_refused(
    options: EvalOptions, split: EvalSplit, what: str, models: list[LoadedModel]
) -> None:
    pair = [models[1], models[1] if options.calibrate else with_settings(models[1], seed=7)]
    with pytest.raises(SettingsError, match=what):
        check_options(pair, options, dataset="digits", split=split)


def test_an_ensemble_of_one_is_refused(models: list[LoadedModel]) -> None:
    with pytest.raises(SettingsError, match="two checkpoints or more"):
        check_options(models[1:], EvalOptions(ensemble=True), dataset="digits", split="test")


def test_a_calibration_without_images_held_out_is_refused(models: list[LoadedModel]) -> None:
    options = EvalOptions(calibrate=True)
    without = [with_settings(models[1], val_size=0.0)]
    with pytest.raises(SettingsError, match="cannot be calibrated") as caught:
        check_options(without, options, dataset="digits", split="test")
    assert "--val-size 0.1" in caught.value.fix


def test_doubtful_labels_are_those_of_the_mnist_test_set(models: list[LoadedModel]) -> None:
    digits = hundred_digits()
    sources = (
        EvalData(DATASETS["mnist"], "test", digits),
        EvalData(DATASETS["mnist"], "val", digits),
        EvalData(DATASETS["digits"], "test", digits),
    )
    test, val, other = (evaluate_models(models[:1], data)[0] for data in sources)
    assert len(test.doubtful) == 15
    assert val.doubtful == other.doubtful == ()
    wrong = [mistake.index for mistake in test.score.mistakes]
    assert replace(test, doubtful=(wrong[0], wrong[1], 10_000)).num_doubtful_errors == 2
