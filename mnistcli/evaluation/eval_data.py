"""The images that checkpoints are evaluated on: a test set, or what training held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistcli.config.choices import EvalSplit
from mnistcli.config.settings import TrainSettings
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.splits import split_examples
from mnistcli.errors import SettingsError
from mnistcli.runs.checkpoint import LoadedModel


@dataclass(frozen=True)
class EvalData:
    """Examples to evaluate checkpoints on, from the `split` of `dataset`, on the CPU.

    `held_out` are those that each checkpoint's training held out, to calibrate
    it with; empty without calibration.
    """

    dataset: str
    split: EvalSplit
    examples: Examples
    held_out: tuple[Examples, ...] = ()


def common_dataset(models: Sequence[LoadedModel]) -> str:
    """The data set that all networks were trained on; raises SettingsError if they differ."""
    names = sorted({loaded.card.settings.dataset for loaded in models})
    if len(names) > 1:
        raise SettingsError(
            "The checkpoints were trained on different data sets.",
            why=f"They are {' and '.join(names)}; only scores on the same images can be compared.",
            fix=f"Choose one: --dataset {names[0]}",
        )
    return names[0]


def require_classes(models: Sequence[LoadedModel], dataset: str) -> None:
    """Raise SettingsError unless all networks were trained on the classes of `dataset`."""
    classes = get_dataset(dataset).classes
    for loaded in models:
        if loaded.card.classes != classes:
            trained_on = loaded.card.settings.dataset
            raise SettingsError(
                f"{loaded.path} does not know the classes of {dataset}.",
                why=f"It was trained on {trained_on}, which has other classes.",
                fix=f"Leave it out, or evaluate it alone: "
                f"mnist eval {loaded.path} --dataset {trained_on}",
            )


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
    examples = load_eval_split(models[0], dataset=dataset, split=split, data_dir=data_dir)
    held_out = tuple(
        load_eval_split(
            loaded, dataset=loaded.card.settings.dataset, split="val", data_dir=data_dir
        )
        for loaded in models
        if calibrate
    )
    return EvalData(dataset, split, examples, held_out)


def load_eval_split(
    loaded: LoadedModel, *, dataset: str, split: EvalSplit, data_dir: Path
) -> Examples:
    """The test examples of `dataset`, or for "val" those that the network's training held out.

    Raises:
        SettingsError: there is no such validation split, or its classes are others.
        DataError: the data set is missing or damaged.
    """
    require_classes([loaded], dataset)
    source, settings = get_dataset(dataset), loaded.card.settings
    if split == "test":
        return load_dataset(source, "test", data_dir)
    if dataset != settings.dataset or not settings.holds_out:
        raise SettingsError(
            f"{loaded.path} has no validation split of {dataset}.",
            why=f"It was trained on {settings.dataset} with {_describe_held_out(settings)}.",
            fix="Evaluate it on the test set: --split test",
        )
    return split_examples(load_dataset(source, "train", data_dir), settings)[1]


def _describe_held_out(settings: TrainSettings) -> str:
    if settings.fold:
        return f"fold {settings.fold.number} of {settings.fold.of} held out"
    return f"--val-size {settings.val_size:g}"
