"""What several commands do with data: get it ready, judge a checkpoint on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.errors import RunError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnistcli.config.choices import EvalSplit
    from mnistcli.data.datasets import Dataset
    from mnistcli.evaluation.evaluate import EvalOptions, Evaluation
    from mnistcli.evaluation.scores import Score
    from mnistcli.runs.checkpoint import LoadedModel


def ensure_downloaded(dataset: "Dataset", data_dir: Path, *, offline: bool) -> None:
    """Download what is missing of `dataset`, saying so; nothing if all is there.

    Raises:
        DataError: something is missing and `offline`, or no mirror has it.
    """
    from mnistcli.data.datasets import has_all_files, missing_dataset
    from mnistcli.data.download import download_dataset
    from mnistcli.views.console import print_note
    from mnistcli.views.download import download_progress

    if has_all_files(dataset, data_dir):
        return
    if offline:
        raise missing_dataset(dataset, data_dir)
    print_note(f"{dataset.name} is not in {data_dir}: downloading it.")
    with download_progress() as on_progress:
        on_wait = partial(note_wait, dataset)
        download_dataset(dataset, data_dir, on_progress=on_progress, on_wait=on_wait)


def note_wait(dataset: "Dataset") -> None:
    """Say why nothing happens: another process writes the files."""
    from mnistcli.views.console import print_note

    print_note(f"Another process is getting {dataset.name}: waiting for it.")


def parse_split(name: str) -> "EvalSplit":
    """`name` if it is a split to judge on; raises SettingsError if not."""
    if name == "test":
        return "test"
    if name == "val":
        return "val"
    raise SettingsError(f"There is no split '{name}'.", fix="Use --split test or --split val")


def evaluate_checkpoints(
    models: "Sequence[LoadedModel]",
    how: "EvalOptions | None" = None,
    *,
    dataset: str | None,
    split: "EvalSplit",
    data_dir: Path,
    offline: bool,
    device: str = "auto",
) -> "list[Evaluation]":
    """What is said of checkpoints on the same images: of `dataset`, else of what all learned.

    Raises:
        SettingsError: there are no such images, or what is asked for makes no sense on them.
        DataError: a data set is missing or damaged.
    """
    from mnistcli.data.datasets import get_dataset
    from mnistcli.evaluation.evaluate import (
        EvalOptions,
        check_comparable,
        common_dataset,
        evaluate_models,
        load_eval_data,
    )
    from mnistcli.system.machine import keep_freed_memory
    from mnistcli.training.device import pick_device
    from mnistcli.views.console import print_note

    keep_freed_memory()
    how, chosen = how or EvalOptions(), pick_device(device)
    name = dataset or common_dataset(models)
    check_comparable(models, how, dataset=name, split=split)
    learned = [loaded.card.settings.dataset for loaded in models] if how.calibrate else []
    for needed in dict.fromkeys([name, *learned]):
        ensure_downloaded(get_dataset(needed), data_dir, offline=offline)
    material = load_eval_data(models, how, dataset=name, split=split, data_dir=data_dir)
    num, num_worse = len(material.examples), sum(len(each.amounts) for each in how.corruptions)
    if num_worse:
        print_note(f"Judging {num_worse} worse copies of the {num:,} pictures too.")
    return evaluate_models(models, material, how=how, device=chosen.value)


def expand_run_names(names: "Sequence[str]", out: Path, *, mark: str = "best.pth") -> list[str]:
    """The names, for a series those of its runs; says which lack the file `mark`.

    Raises:
        DataError: all runs of a series lack it.
    """
    from mnistcli.runs.find import expand_multiruns
    from mnistcli.views.console import print_note

    found, lacking = expand_multiruns(names, out, mark=mark)
    for path in lacking:
        print_note(f"Left out: {path}, which holds no {mark}.")
    return found


def find_checkpoints(names: "Sequence[str] | None", out: Path) -> list[Path]:
    """The checkpoints that are meant, of a series those of its runs; unnamed, the bundled one.

    Raises:
        DataError: there is no such file or run, or it has no checkpoint.
    """
    from mnistcli.runs.find import find_checkpoint

    found = expand_run_names(names, out) if names else [None]
    return [find_checkpoint(each, out) for each in found]


def store_score(score: "Score") -> None:
    """Keep a score in its run; where that cannot be written, say so and go on."""
    from mnistcli.evaluation.scores import write_score
    from mnistcli.views.console import print_note

    try:
        write_score(score)
    except RunError as error:
        print_note(f"Not kept: {error.what} {error.why}")
