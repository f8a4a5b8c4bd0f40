"""`--composed`: examples composed for reading pictures are added, and "no digit" is learned."""

from pathlib import Path

import pytest
import torch

from mnistcli.data.examples import Examples
from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run
from mnistcli.runs.history import read_metrics
from mnistcli.synthesis.examples import NO_DIGIT
from mnistcli.training.trainer import load_training_data, make_plan, split_for_training
from tests.helpers.runs import ONE, assert_same_run, resume, train
from tests.helpers.settings import resolve
from tests.helpers.training import digits_normalization, make_settings, some_digits, train_network


def marks(num: int) -> Examples:
    """Noise that is no digit."""
    images_NHW = torch.randint(0, 256, (num, 28, 28), generator=torch.Generator().manual_seed(0))
    return Examples(images_NHW.to(torch.uint8), torch.full((num,), NO_DIGIT))


def joined(first: Examples, second: Examples) -> Examples:
    return Examples(
        torch.cat([first.images_NHW, second.images_NHW]),
        torch.cat([first.labels_N, second.labels_N]),
    )


def test_composed_examples_are_added_to_the_training_split_only() -> None:
    settings = make_settings(composed=20)
    examples = some_digits(100)
    train, val = split_for_training(make_plan(settings), examples)
    plain, plain_val = split_for_training(make_plan(make_settings()), examples)
    assert (len(train), len(val)) == (len(plain) + 20, len(plain_val))
    assert torch.equal(train.images_NHW[:-20], plain.images_NHW)
    assert torch.equal(train.labels_N[:-20], plain.labels_N)
    assert torch.equal(val.images_NHW, plain_val.images_NHW)
    assert (train.labels_N[-20:] == NO_DIGIT).any()
    again, _ = split_for_training(make_plan(settings), examples)
    assert torch.equal(again.images_NHW, train.images_NHW)


def test_training_learns_no_digit_and_counts_it() -> None:
    settings = make_settings(composed=1, epochs=8, batch_size=32)
    state, results = train_network(settings, joined(some_digits(200), marks(200)), some_digits(50))
    assert results[-1].train_accuracy > 0.9
    assert results[-1].val_accuracy is not None
    assert results[-1].val_accuracy > 0.9
    normalization = digits_normalization(settings)

    def median_log_odds(examples: Examples) -> float:
        """Of being a digit."""
        with torch.inference_mode():
            x_NCHW = normalize(examples.images_NHW, normalization)
            return float(state.eval_model.eval()(x_NCHW).logsumexp(dim=1).median())

    assert median_log_odds(some_digits(100)) > 0 > median_log_odds(marks(100))


def test_other_data_sets_than_digits_are_refused() -> None:
    plan = make_plan(resolve(recipe="mlp-50-50", dataset="fashion-mnist", composed=10))
    with pytest.raises(SettingsError, match="--composed"):
        split_for_training(plan, some_digits(50))


def test_the_recipe_of_the_reader_composes_examples() -> None:
    assert resolve(recipe="reader").composed > 0
    assert resolve(recipe="cnn-small").composed == 0


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one() -> None:
    whole = train("whole", composed=40)
    train("one", 2, composed=40)
    assert len(read_metrics(Run(ONE))) == 2
    assert_same_run(resume("one"), whole)
    loaded = load_checkpoint(whole / "best.pth")
    assert loaded.card.settings.composed == 40
    assert len(loaded.card.classes) == 10
    other = train("plain")
    assert (other / "last.pth").read_bytes() != (whole / "last.pth").read_bytes()
    train_split, _ = load_training_data(make_plan(loaded.card.settings), Path())
    assert train_split.labels_N.max() == NO_DIGIT
