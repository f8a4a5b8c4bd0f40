"""The validation split: by size, by fold, by a run's settings."""

import itertools

import pytest
import torch

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import Fold
from mnistcli.data.examples import Examples
from mnistcli.data.splits import hold_out, split_by_fold, split_by_size, split_examples
from mnistcli.errors import DataError, SettingsError
from tests.helpers.examples import numbered


def val_labels(split: tuple[Examples, Examples]) -> list[int]:
    return split[1].labels_N.tolist()


@pytest.mark.parametrize(("val_size", "num_val"), [(0.1, 10), (0, 0), (1, 1), (99, 99), (0.006, 1)])
def test_a_split_is_disjoint_and_complete(val_size: float, num_val: int) -> None:
    train, val = split_by_size(numbered(100), val_size, seed=0)
    assert (len(train), len(val)) == (100 - num_val, num_val)
    assert sorted([*train.labels_N.tolist(), *val.labels_N.tolist()]) == list(range(100))
    for part in (train, val):
        assert torch.equal(part.images_NHW[:, 0, 0].long(), part.labels_N)


def test_a_split_is_a_permutation_by_the_seed_alone() -> None:
    before = torch.get_rng_state()
    labels = val_labels(split_by_size(numbered(100), 0.2, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    order_N = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    assert labels == order_N[:20].tolist()
    fold = Fold(number=2, of=5)
    assert val_labels(split_by_fold(numbered(100), fold, seed=1)) == order_N[20:40].tolist()


@pytest.mark.parametrize(
    ("val_size", "problem"),
    [
        (100, "nothing to train on"),
        (0.999, "nothing to train on"),
        (0.001, "nothing to validate on"),
        (2.5, "not a whole number"),
    ],
)
def test_a_useless_split_is_refused(val_size: float, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        split_by_size(numbered(100), val_size, seed=0)
    assert f"--val-size {val_size:g}" in caught.value.what
    assert "100 images" in caught.value.why


def test_one_image_cannot_be_held_out() -> None:
    train, test = hold_out(numbered(2), 0.1, seed=0)
    assert (len(train), len(test)) == (1, 1)
    with pytest.raises(DataError):
        hold_out(numbered(1), 0.1, seed=0)


@pytest.mark.parametrize(("num_all", "num_folds"), [(100, 5), (101, 3), (7, 7)])
def test_folds_are_disjoint_and_complete(num_all: int, num_folds: int) -> None:
    everything = list(range(num_all))
    parts = []
    for number in range(1, num_folds + 1):
        train, val = split_by_fold(numbered(num_all), Fold(number=number, of=num_folds), seed=0)
        assert sorted([*train.labels_N.tolist(), *val.labels_N.tolist()]) == everything
        assert torch.equal(val.images_NHW[:, 0, 0].long(), val.labels_N)
        parts.append(val.labels_N.tolist())
    assert sorted(itertools.chain(*parts)) == everything
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_folds_than_examples_are_refused() -> None:
    with pytest.raises(SettingsError, match="100 folds") as caught:
        split_by_fold(numbered(99), Fold(number=1, of=100), seed=0)
    assert "--folds 99" in caught.value.fix


def test_the_settings_split_by_fold_or_by_val_size() -> None:
    fold = {"number": 3, "of": 4}
    settings = resolve_settings({"fold": fold, "val_size": 0, "seed": 6}, environ={}).settings
    expected = split_by_fold(numbered(50), Fold.model_validate(fold), seed=6)
    assert val_labels(split_examples(numbered(50), settings)) == val_labels(expected)
    settings = resolve_settings({"val_size": 9, "seed": 6}, environ={}).settings
    expected = split_by_size(numbered(50), 9, seed=6)
    assert val_labels(split_examples(numbered(50), settings)) == val_labels(expected)
