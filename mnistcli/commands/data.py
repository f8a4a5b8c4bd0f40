"""What several commands do with data: get it ready, judge a checkpoint on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mnistcli.errors import RunError, SettingsError

if TYPE_CHECKING:
    from mnistcli.checkpoints import LoadedModel
    from mnistcli.datasets import Dataset
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
    loaded: "LoadedModel",
    *,
    dataset: str,
    split: "JudgedSplit",
    data_dir: Path,
    offline: bool,
    device: str = "auto",
) -> "Score":
    """The score of a checkpoint."""
    from mnistcli import datasets, machine, precision, scoring

    machine.keep_freed_memory()
    chosen = precision.pick_device(device)
    ready(datasets.dataset(dataset), data_dir, offline=offline)
    examples = scoring.load_split(loaded, dataset=dataset, split=split, data_dir=data_dir)
    return scoring.judge(loaded, examples, dataset=dataset, split=split, device=chosen.value)


def keep(score: "Score") -> None:
    """Keep a score in its run; where that cannot be written, say so and go on."""
    from mnistcli import console, runs

    try:
        runs.keep_score(score)
    except RunError as error:
        console.note(f"Not kept: {error.what} {error.why}")
