"""Which images checkpoints are evaluated on, and which networks are refused there."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.config.settings import Fold
from mnistcli.data.datasets import DATASETS, load_dataset
from mnistcli.errors import SettingsError
from mnistcli.evaluation.eval_data import common_dataset, load_eval_split, require_classes
from tests.helpers.evaluation import load_models, with_settings


def test_the_data_set_is_the_one_that_all_were_trained_on(trained: Path) -> None:
    models = load_models(trained)
    assert common_dataset(models[1:]) == "digits"
    with pytest.raises(SettingsError, match="trained on different data sets") as caught:
        common_dataset(models)
    assert caught.value.fix == "Choose one: --dataset digits"


def test_networks_with_other_classes_are_refused(trained: Path) -> None:
    models = load_models(trained)
    require_classes(models, "digits")
    clothes = with_settings(models[0], dataset="fashion-mnist")
    card = clothes.card.model_copy(update={"classes": DATASETS["fashion-mnist"].classes})
    clothes = replace(clothes, path=Path("clothes.pth"), card=card)
    require_classes([clothes], "fashion-mnist")
    with pytest.raises(SettingsError, match=r"clothes.pth does not know the classes of digits"):
        require_classes([models[0], clothes], "digits")
    with pytest.raises(SettingsError, match="classes of digits"):
        load_eval_split(clothes, dataset="digits", split="test", data_dir=Path())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"val_size": 0.0}, "--val-size 0"),
        ({"dataset": "mnist"}, "trained on mnist with --val-size 0.1"),
        (
            {"dataset": "mnist", "val_size": 0.0, "fold": Fold(number=2, of=5)},
            "trained on mnist with fold 2 of 5",
        ),
    ],
)
def test_a_validation_split_needs_images_held_out(
    trained: Path, settings: dict[str, object], why: str
) -> None:
    loaded = with_settings(load_models(trained)[1], **settings)
    with pytest.raises(SettingsError, match="has no validation split of digits") as caught:
        load_eval_split(loaded, dataset="digits", split="val", data_dir=Path())
    assert why in caught.value.why


@pytest.mark.mnist
def test_doubtful_labels_are_those_of_the_published_list(mnist_dir: Path) -> None:
    """Of github.com/cleanlab/label-errors, mturk/mnist_mturk.json: the given labels in order."""
    mnist = DATASETS["mnist"]
    labels_N = load_dataset(mnist, "test", mnist_dir).labels_N
    assert labels_N[list(mnist.doubtful)].tolist() == [8, 0, 9, 4, 2, 5, 6, 6, 5, 5, 0, 1, 4, 6, 5]
