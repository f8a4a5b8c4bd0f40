"""The images that checkpoints are evaluated on: a test set, or what training used or held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistcli.config.choices import EvalSplit
from mnistcli.config.dataset_names import data_path, dataset_title, is_own_data
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import Dataset, changed_data, get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.splits import split_examples
from mnistcli.errors import SettingsError
from mnistcli.evaluation.scores import Score
from mnistcli.runs.checkpoint import LoadedModel

_SPLIT_NAMES = {"val": "validation split", "train": "training images"}


@dataclass(frozen=True)
class EvalData:
    """Examples to evaluate checkpoints on, from the `split` of `dataset`, on the CPU.

    `held_out` are those that each checkpoint's training held out, to calibrate
    it with; empty without calibration.
    """

    dataset: Dataset
    split: EvalSplit
    examples: Examples
    held_out: tuple[Examples, ...] = ()


def common_dataset(models: Sequence[LoadedModel]) -> str:
    """The data set that all networks were trained on; raises SettingsError if they differ."""
    names = sorted({loaded.card.settings.dataset for loaded in models})
    if len({loaded.card.settings.data_key for loaded in models}) > 1:
        raise SettingsError(
            "The checkpoints were trained on different data sets.",
            why=f"They are {' and '.join(names)}; only scores on the same images can be compared.",
            fix=f"Choose one: --dataset {names[0]}",
        )
    # The data of a user may have been moved between two trainings.
    present = (name for name in names if not is_own_data(name) or data_path(name).exists())
    return next(present, names[0])


def require_same_classes(models: Sequence[LoadedModel]) -> None:
    """Raise SettingsError unless all networks have the same classes."""
    for loaded in models:
        if loaded.card.classes != models[0].card.classes:
            raise SettingsError(
                f"{loaded.path} and {models[0].path} know different classes.",
                why=f"They were trained on {dataset_title(loaded.card.settings.dataset)} and "
                f"{dataset_title(models[0].card.settings.dataset)}.",
                fix="Name networks that were trained on the same classes.",
            )


def require_classes(models: Sequence[LoadedModel], dataset: str) -> Dataset:
    """The data set called `dataset`, whose classes all networks know.

    Raises:
        SettingsError: one does not know them, or they know different ones.
        DataError: nothing usable is at its path.
    """
    source = get_dataset(dataset)
    for loaded in models:
        if not set(source.classes) <= set(loaded.card.classes):
            trained_on = loaded.card.settings.dataset
            raise SettingsError(
                f"{loaded.path} does not know the classes of {source.title}.",
                why=f"It was trained on {dataset_title(trained_on)}, which has other classes.",
                fix=f"Leave it out, or evaluate it alone: "
                f"mnist eval {loaded.path} --dataset {trained_on}",
            )
    require_same_classes(models)
    return source


def open_test_data(models: Sequence[LoadedModel], dataset: str) -> Dataset:
    """The data set, with the networks' classes, whose test images none of them was trained on.

    If a network was trained on a user's own data set that has no test part, these are the images
    that were held out then; if none was, they are all images.

    Raises:
        SettingsError: the networks do not know its classes, or held out different images.
        DataError: it is missing, or has changed since one of the networks was trained on it.
    """
    source = require_classes(models, dataset)
    seeds = set()
    for loaded in models:
        settings = loaded.card.settings
        if settings.own_data and settings.data_key == source.key:
            seeds.add(settings.own_data.test_seed)
        elif settings.own_data and settings.dataset == source.name:
            raise changed_data(source)
    if len(seeds) > 1:
        raise SettingsError(
            f"The checkpoints held out different test images of {source.title}.",
            why="It has no test part, so each run held out some by its --seed.",
            fix="Train them with the same --seed, or together with --seeds; or evaluate one alone.",
        )
    if seeds:
        source = get_dataset(dataset, test_seed=seeds.pop())
    return source.with_classes(models[0].card.classes)


def load_eval_data(
    models: Sequence[LoadedModel],
    *,
    dataset: str,
    split: EvalSplit,
    calibrate: bool = False,
    data_dir: Path,
) -> EvalData:
    """The examples to evaluate on and, to `calibrate`, those that each training held out.

    Raises:
        SettingsError: there is no such validation split, or its classes are others.
        DataError: a data set is missing or damaged.
    """
    source = open_test_data(models, dataset)
    if split == "test":
        examples = load_dataset(source, "test", data_dir)
    else:
        examples = load_eval_split(models[0], dataset=dataset, split=split, data_dir=data_dir)
    held_out = tuple(
        load_eval_split(
            loaded, dataset=loaded.card.settings.dataset, split="val", data_dir=data_dir
        )
        for loaded in models
        if calibrate
    )
    return EvalData(source, split, examples, held_out)


def load_eval_split(
    loaded: LoadedModel, *, dataset: str, split: EvalSplit, data_dir: Path
) -> Examples:
    """The test examples of `dataset`; for "train" those that the network was trained on.

    For "val" they are those that its training held out. Examples that were composed for training
    are left out.

    Raises:
        SettingsError: there is no such split, or its classes are others.
        DataError: the data set is missing, damaged, or has changed since it was trained on.
    """
    source, settings = open_test_data([loaded], dataset), loaded.card.settings
    if split == "test":
        return load_dataset(source, "test", data_dir)
    is_other = source.key != settings.data_key
    if is_other or (split == "val" and not settings.holds_out):
        trained_on = dataset_title(settings.dataset)
        raise SettingsError(
            f"{loaded.path} has no {_SPLIT_NAMES[split]} of {source.title}.",
            why=f"It was trained on {trained_on} with {_describe_held_out(settings)}.",
            fix="Evaluate it on the test set: --split test",
        )
    train, val = split_examples(load_dataset(source, "train", data_dir), settings)
    return val if split == "val" else train


def _describe_held_out(settings: TrainSettings) -> str:
    if settings.fold:
        return f"fold {settings.fold.number} of {settings.fold.of} held out"
    return f"--val-size {settings.val_size:g}"


def load_scored_images(loaded: LoadedModel, score: Score, data_dir: Path) -> Examples:
    """The images that a score of a network is of, in the order of its indices.

    Raises:
        DataError: the data set is missing, damaged, or has changed.
    """
    if score.split != "test":
        return load_eval_split(loaded, dataset=score.dataset, split=score.split, data_dir=data_dir)
    source = get_dataset(score.dataset, test_seed=score.test_seed)
    if source.digest != score.digest:
        raise changed_data(source)
    return load_dataset(source.with_classes(loaded.card.classes), "test", data_dir)
