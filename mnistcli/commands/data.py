"""What several commands do with data: get it ready, judge a checkpoint on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.errors import RunError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnistcli.checkpoints import LoadedModel
    from mnistcli.datasets import Dataset
    from mnistcli.judging import Judgement, Judging
    from mnistcli.metrics import JudgedSplit, Score


def ready(dataset: "Dataset", data_dir: Path, *, offline: bool) -> None:
    """Download what is missing of `dataset`, saying so; nothing if all is there.

    Raises:
        DataError: something is missing and `offline`, or no mirror has it.
    """
    from mnistcli import console, datasets, render

    if datasets.is_complete(dataset, data_dir):
        return
    if offline:
        raise datasets.missing(dataset, data_dir)
    console.note(f"{dataset.name} is not in {data_dir}: downloading it.")
    with render.download_progress() as on_progress:
        on_wait = partial(say_wait, dataset)
        datasets.download(dataset, data_dir, on_progress=on_progress, on_wait=on_wait)


def say_wait(dataset: "Dataset") -> None:
    """Say why nothing happens: another process writes the files."""
    from mnistcli import console

    console.note(f"Another process is getting {dataset.name}: waiting for it.")


def pick_split(name: str) -> "JudgedSplit":
    """`name` if it is a split to judge on; raises SettingsError if not."""
    if name == "test":
        return "test"
    if name == "val":
        return "val"
    raise SettingsError(f"There is no split '{name}'.", fix="Use --split test or --split val")


def judge(
    models: "Sequence[LoadedModel]",
    how: "Judging | None" = None,
    *,
    dataset: str | None,
    split: "JudgedSplit",
    data_dir: Path,
    offline: bool,
    device: str = "auto",
) -> "list[Judgement]":
    """What is said of checkpoints on the same images: of `dataset`, else of what all learned.

    Raises:
        SettingsError: there are no such images, or what is asked for makes no sense on them.
        DataError: a data set is missing or damaged.
    """
    from mnistcli import console, datasets, judging, machine, precision

    machine.keep_freed_memory()
    how, chosen = how or judging.Judging(), precision.pick_device(device)
    name = dataset or judging.pick_dataset(models)
    judging.check(models, how, dataset=name, split=split)
    learned = [loaded.card.settings.dataset for loaded in models] if how.calibrate else []
    for needed in dict.fromkeys([name, *learned]):
        ready(datasets.dataset(needed), data_dir, offline=offline)
    material = judging.load(models, how, dataset=name, split=split, data_dir=data_dir)
    num, num_worse = len(material.examples), sum(len(each.amounts) for each in how.corruptions)
    if num_worse:
        console.note(f"Judging {num_worse} worse copies of the {num:,} pictures too.")
    return judging.judge(models, material, how=how, device=chosen.value)


def named(names: "Sequence[str]", out: Path, *, mark: str = "best.pth") -> list[str]:
    """The names, for a series those of its runs; says which lack the file `mark`.

    Raises:
        DataError: all runs of a series lack it.
    """
    from mnistcli import console, runs

    found, lacking = runs.expanded(names, out, mark=mark)
    for path in lacking:
        console.note(f"Left out: {path}, which holds no {mark}.")
    return found


def find_checkpoints(names: "Sequence[str] | None", out: Path) -> list[Path]:
    """The checkpoints that are meant, of a series those of its runs; unnamed, the bundled one.

    Raises:
        DataError: there is no such file or run, or it has no checkpoint.
    """
    from mnistcli import runs

    found = named(names, out) if names else [None]
    return [runs.find_checkpoint(each, out) for each in found]


def keep(score: "Score") -> None:
    """Keep a score in its run; where that cannot be written, say so and go on."""
    from mnistcli import console, runs

    try:
        runs.keep_score(score)
    except RunError as error:
        console.note(f"Not kept: {error.what} {error.why}")
