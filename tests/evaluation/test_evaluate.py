"""Several checkpoints on the same pictures: averaged, shifted, calibrated, on worse pictures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mnistcli.config.choices import EvalSplit
from mnistcli.data.corruptions import corrupt, parse_corruptions
from mnistcli.data.datasets import DATASETS, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.evaluation.calibration import confidence_bins, expected_calibration_error
from mnistcli.evaluation.eval_data import load_eval_split
from mnistcli.evaluation.evaluate import (
    EvalData,
    EvalOptions,
    Evaluation,
    check_comparable,
    common_dataset,
    evaluate_models,
)
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.evaluation.scores import read_score, write_score
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, LoadedModel, load_checkpoint
from mnistcli.runs.directory import Run

DIGITS = DATASETS["digits"]


@pytest.fixture
def models(trained: Path) -> list[LoadedModel]:
    """The bundled network, which knows MNIST, and one that has learned three epochs of digits."""
    return [load_checkpoint(BUNDLED_CHECKPOINT), load_checkpoint(trained / "best.pth")]


@pytest.fixture
def few() -> Examples:
    """A part of the test digits that both networks misread some of."""
    test = load_dataset(DIGITS, "test", Path())
    return Examples(test.images_NHW[100:200], test.labels_N[100:200])


def judged(models: list[LoadedModel], few: Examples, how: EvalOptions) -> list[Evaluation]:
    return evaluate_models(models, EvalData("digits", "test", few), how=how)


def probabilities(loaded: LoadedModel, examples: Examples) -> torch.Tensor:
    return evaluate_network(loaded.network, examples, loaded.normalization).probabilities_NK


def changed(loaded: LoadedModel, **settings: object) -> LoadedModel:
    """The same network with other settings on its card."""
    card = loaded.card
    new = card.settings.model_copy(update=settings)
    return replace(loaded, card=card.model_copy(update={"settings": new}))


def test_every_checkpoint_is_judged_as_it_is_alone(
    models: list[LoadedModel], few: Examples
) -> None:
    both = judged(models, few, EvalOptions())
    assert both == [judged([loaded], few, EvalOptions())[0] for loaded in models]
    assert [each.num_params for each in both] == [7_894, 26_698]
    assert [each.recipe for each in both] == ["cnn-small", "cnn-26k"]
    for each, loaded in zip(both, models, strict=True):
        assert each.score.checkpoint == str(loaded.path)
        wrong_N = probabilities(loaded, few).argmax(dim=1) != few.labels_N
        assert each.score.num_errors == int(wrong_N.sum()) > 0
        assert sum(part.num_images for part in each.score.bins) == 100


def test_an_ensemble_is_the_mean_of_the_probabilities(
    models: list[LoadedModel], few: Examples
) -> None:
    *alone, together = judged(models, few, EvalOptions(ensemble=True))
    assert alone == judged(models, few, EvalOptions())
    mean_NK = (probabilities(models[0], few) + probabilities(models[1], few)) / 2
    predicted_N = mean_NK.argmax(dim=1)
    assert together.score.num_errors == int((predicted_N != few.labels_N).sum())
    assert together.score.loss == pytest.approx(
        F.nll_loss(mean_NK.double().log(), few.labels_N).item(), rel=1e-5
    )
    for mistake in together.score.mistakes:
        assert mistake.probability == pytest.approx(mean_NK[mistake.index].max().item())
    assert together.num_params == 7_894 + 26_698
    assert together.members == tuple(str(loaded.path) for loaded in models)
    assert (together.score.checkpoint, together.recipe) == ("ensemble", "")


def test_tta_is_the_mean_over_nine_shifts(models: list[LoadedModel], few: Examples) -> None:
    # Their border is empty, so that turning round is shifting.
    assert not few.images_NHW[:, [0, -1]].any()
    assert not few.images_NHW[:, :, [0, -1]].any()
    expected_NK = torch.stack(
        [
            probabilities(
                models[0], Examples(few.images_NHW.roll((down, across), (1, 2)), few.labels_N)
            )
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
        ]
    ).mean(dim=0)
    plain, shifted = (
        judged(models[:1], few, EvalOptions(tta=tta))[0].score for tta in (False, True)
    )
    assert (plain.tta, shifted.tta) == (False, True)
    assert shifted.num_errors == int((expected_NK.argmax(dim=1) != few.labels_N).sum())
    loss = F.nll_loss(expected_NK.double().log(), few.labels_N).item()
    assert shifted.loss == pytest.approx(loss, rel=1e-5)
    assert shifted.loss != pytest.approx(plain.loss, rel=1e-2)


def test_what_is_shifted_out_is_gone_and_background_comes_in(models: list[LoadedModel]) -> None:
    """A picture with ink up to its border, judged as its nine shifts cut by hand are."""
    full = Examples(torch.full((1, 28, 28), 255, dtype=torch.uint8), torch.tensor([8]))
    seen_NK = []
    for rows in (slice(0, 28), slice(0, 27), slice(1, 28)):
        for columns in (slice(0, 28), slice(0, 27), slice(1, 28)):
            cut_NHW = torch.zeros_like(full.images_NHW)
            cut_NHW[:, rows, columns] = 255
            seen_NK.append(probabilities(models[0], Examples(cut_NHW, full.labels_N)))
    score = judged(models[:1], full, EvalOptions(tta=True))[0].score
    expected = torch.cat(seen_NK).mean(dim=0)[8].item()
    assert score.loss == pytest.approx(-torch.tensor(expected).log().item(), rel=1e-4)


def test_a_score_of_shifted_copies_is_never_kept(trained: Path, few: Examples) -> None:
    models = [load_checkpoint(trained / "best.pth")]
    shifted = judged(models, few, EvalOptions(tta=True))[0].score
    assert write_score(shifted) is None
    assert write_score(replace(shifted, tta=False)) is not None


def test_a_temperature_is_fitted_on_what_was_held_out(
    models: list[LoadedModel], few: Examples
) -> None:
    loaded = models[1]
    held_out = load_eval_split(loaded, dataset="digits", split="val", data_dir=Path())
    material = EvalData("digits", "test", few, (held_out,))
    (found,) = evaluate_models([loaded], material, how=EvalOptions(calibrate=True))
    assert found.score == judged([loaded], few, EvalOptions())[0].score
    assert found.calibration
    with torch.inference_mode():
        held_out_NK, few_NK = (
            loaded.network(normalize(each.images_NHW, loaded.normalization)).double()
            for each in (held_out, few)
        )
    temperature = found.calibration.temperature

    def loss(factor: float) -> float:
        logits_NK = held_out_NK / (factor * temperature)
        return F.cross_entropy(logits_NK, held_out.labels_N).item()

    assert loss(1) < min(loss(0.99), loss(1.01))
    assert found.calibration.num_fitted == 144
    warm_NK = few_NK / temperature
    expected = F.cross_entropy(warm_NK, few.labels_N).item()
    assert found.calibration.loss == pytest.approx(expected, rel=1e-4)
    bins = confidence_bins(warm_NK.softmax(dim=1).numpy(), few.labels_N.numpy())
    assert expected_calibration_error(found.calibration.bins) == pytest.approx(
        expected_calibration_error(bins), abs=1e-5
    )


def test_worse_pictures_are_judged_for_every_checkpoint_and_the_ensemble(
    models: list[LoadedModel], few: Examples
) -> None:
    noise, rotate = chosen = parse_corruptions("noise,rotate")
    rows = judged(models, few, EvalOptions(ensemble=True, corruptions=chosen))
    assert len(rows) == 3
    for each in rows:
        assert [(one.corruption, one.severity) for one in each.corrupted] == [
            (name, severity) for name in ("noise", "rotate") for severity in (1, 2, 3)
        ]
    strongest = rows[0].corrupted[-1]
    assert strongest.amount == "30 degrees, either way"
    turned = Examples(corrupt(few.images_NHW, rotate, 30), few.labels_N)
    wrong_N = probabilities(models[0], turned).argmax(dim=1) != few.labels_N
    assert strongest.num_errors == int(wrong_N.sum()) > 0
    assert strongest.accuracy == 1 - strongest.num_errors / 100
    mean_NK = (probabilities(models[0], turned) + probabilities(models[1], turned)) / 2
    wrong_N = mean_NK.argmax(dim=1) != few.labels_N
    assert rows[2].corrupted[-1].num_errors == int(wrong_N.sum())
    assert rows[0].score == judged(models[:1], few, EvalOptions())[0].score
    assert noise.amounts == (5, 10, 20)


def test_the_data_set_is_the_one_that_all_have_learned(models: list[LoadedModel]) -> None:
    assert common_dataset(models[1:]) == "digits"
    with pytest.raises(SettingsError, match="trained on different data sets") as refused:
        common_dataset(models)
    assert refused.value.fix == "Say on which: --dataset digits"
    clothes = replace(
        changed(models[0], dataset="fashion-mnist"),
        card=models[0].card.model_copy(
            update={
                "classes": DATASETS["fashion-mnist"].classes,
                "settings": models[0].card.settings.model_copy(update={"dataset": "fashion-mnist"}),
            }
        ),
    )
    with pytest.raises(SettingsError, match="trained on different data sets") as refused:
        common_dataset([models[0], clothes])
    assert refused.value.fix == "Judge them one by one."
    with pytest.raises(SettingsError, match="cannot be judged on digits"):
        check_comparable([models[0], clothes], EvalOptions(), dataset="digits", split="test")


@pytest.mark.parametrize(
    ("how", "split", "what"),
    [
        (EvalOptions(ensemble=True, calibrate=True), "test", "do not go together"),
        (EvalOptions(calibrate=True), "val", "not judged on the validation split"),
        (EvalOptions(), "val", "no validation split in common"),
    ],
)
def test_what_cannot_be_judged_fairly_is_refused(
    how: EvalOptions, split: EvalSplit, what: str, models: list[LoadedModel]
) -> None:
    together = [models[1], models[1] if how.calibrate else changed(models[1], seed=7)]
    with pytest.raises(SettingsError, match=what) as refused:
        check_comparable(together, how, dataset="digits", split=split)
    assert refused.value.why
    assert refused.value.fix


def test_an_ensemble_of_one_and_a_calibration_on_nothing_are_refused(
    models: list[LoadedModel],
) -> None:
    with pytest.raises(SettingsError, match="two checkpoints or more"):
        check_comparable(models[1:], EvalOptions(ensemble=True), dataset="digits", split="test")
    with pytest.raises(SettingsError, match="cannot be calibrated") as refused:
        check_comparable(
            [changed(models[1], val_size=0.0)],
            EvalOptions(calibrate=True),
            dataset="digits",
            split="test",
        )
    assert "--val-size 0.1" in refused.value.fix


def test_doubtful_labels_are_those_of_the_test_set_of_mnist(
    models: list[LoadedModel], few: Examples
) -> None:
    tests = {
        split: evaluate_models(models, EvalData("mnist", split, few))[0]
        for split in ("test", "val")
    }
    assert len(tests["test"].doubtful) == 15
    assert tests["val"].doubtful == ()
    assert judged(models, few, EvalOptions())[0].doubtful == ()
    wrong = [mistake.index for mistake in tests["test"].score.mistakes]
    two = replace(tests["test"], doubtful=(wrong[0], wrong[1], 10_000))
    assert two.num_doubtful_errors == 2


@pytest.mark.mnist
def test_the_labels_called_doubtful_are_those_of_the_published_list(mnist_dir: Path) -> None:
    """Of github.com/cleanlab/label-errors, mturk/mnist_mturk.json: the given labels in order."""
    mnist = DATASETS["mnist"]
    labels_N = load_dataset(mnist, "test", mnist_dir).labels_N
    assert labels_N[list(mnist.doubtful)].tolist() == [8, 0, 9, 4, 2, 5, 6, 6, 5, 5, 0, 1, 4, 6, 5]


def test_a_score_that_an_older_version_kept_is_read(trained: Path, few: Examples) -> None:
    score = judged([load_checkpoint(trained / "best.pth")], few, EvalOptions())[0].score
    kept = write_score(score)
    assert kept
    record = json.loads(kept.read_text())
    del record["bins"], record["tta"]
    kept.write_text(json.dumps(record))
    assert read_score(Run(trained), "digits", "test") == replace(score, bins=[])
