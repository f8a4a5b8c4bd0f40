"""What commands work on: checkpoints by name, data sets that are downloaded when missing."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mnistcli.config.choices import EvalSplit, values
from mnistcli.errors import DataError, RunError, SettingsError, require_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnistcli.data.datasets import Dataset
    from mnistcli.evaluation.eval_data import EvalData
    from mnistcli.evaluation.evaluate import EvalOptions, Evaluation
    from mnistcli.evaluation.scores import Score
    from mnistcli.runs.checkpoint import LoadedModel


def ensure_downloaded(dataset: "Dataset", data_dir: Path, *, offline: bool) -> None:
    """Download the missing files of a data set, with a note and a progress bar.

    Raises:
        DataError: a file is missing and `offline` is set, or no mirror has it.
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


def prepare_option(dataset: str | None, *, raw: bool) -> str | None:
    """`prepare_dataset` of the option --dataset with --raw, if it is given."""
    if dataset is None and raw:
        raise SettingsError(
            "--raw needs --dataset.",
            why="It is for your own pictures.",
            fix="Name them: --dataset PATH",
        )
    return prepare_dataset(dataset, raw=raw) if dataset else None


def prepare_dataset(name: str, *, raw: bool = False) -> str:
    """The name of a data set as settings hold it; the pictures of a user's own are read before.

    Raises:
        SettingsError: it is neither a known name nor a path, or `raw` and no pictures.
        DataError: nothing is at the path, or none of its pictures can be read.
    """
    from mnistcli.config.dataset_names import RAW, is_own_data, is_raw, require_dataset_name

    name = require_dataset_name(name)
    if raw and not is_own_data(name):
        raise SettingsError(
            "--raw is for your own pictures.",
            why=f"The images of {name} are always taken as they are.",
            fix="Leave --raw out, or name your pictures: --dataset PATH",
        )
    if raw and not is_raw(name):
        name = f"{RAW}{name}"
    if is_own_data(name):
        from mnistcli.reading.picture_data import read_picture_data
        from mnistcli.views.console import print_note
        from mnistcli.views.progress import picture_progress

        with picture_progress() as on_picture:
            notes = read_picture_data(name, on_picture=on_picture)
        for note in notes:
            print_note(note)
    return name


def note_wait(dataset: "Dataset") -> None:
    """Print that another process is downloading the data set."""
    from mnistcli.views.console import print_note

    print_note(f"Another process is downloading {dataset.name}: waiting for it.")


def parse_split(name: str) -> EvalSplit:
    """`name` as a split to evaluate on; raises SettingsError if not."""
    return cast("EvalSplit", require_known("split", name, values(EvalSplit)))


def expand_run_names(
    names: "Sequence[str]", out: Path, *, required_file: str = "best.pth"
) -> list[str]:
    """The names, each multi-run replaced by its runs that have the file `required_file`.

    Runs without it are left out with a note.

    Raises:
        DataError: no run of a multi-run has the file.
    """
    from mnistcli.runs.find import expand_multiruns
    from mnistcli.views.console import print_note

    expanded, left_out = expand_multiruns(names, out, required_file=required_file)
    for path in left_out:
        print_note(f"Left out: {path}, which has no {required_file}.")
    return expanded


def default_checkpoint(out: Path, *, action: str, needs_run: bool = False) -> Path:
    """What is meant where nothing is named: the newest run, or without one the bundled network.

    Prints which one it is; `action` is what is done with it, such as "evaluating".

    Raises:
        DataError: there is no run, and `needs_run` is set.
    """
    from mnistcli.runs.find import all_runs, find_checkpoint, find_run
    from mnistcli.views.console import print_note

    if needs_run or all_runs(out):
        newest = find_run("last", out).path
        print_note(f"No run was named: {action} the newest, {newest}.")
        return newest
    print_note(f"No run was named and there is none in {out}: {action} the bundled network.")
    return find_checkpoint(None, out)


def find_checkpoints(names: "Sequence[str]", out: Path) -> list[Path]:
    """The checkpoint files of runs, multi-runs and paths.

    Raises:
        DataError: there is no such file or run, or the run has no checkpoint.
    """
    from mnistcli.runs.find import find_checkpoint

    return [find_checkpoint(name, out) for name in expand_run_names(names, out)]


def load_models(paths: "Sequence[Path]") -> "list[LoadedModel]":
    """The networks of checkpoint files, which must know the same classes.

    Raises:
        DataError: one of them is missing or damaged.
        SettingsError: they were trained on different classes.
    """
    from mnistcli.evaluation.eval_data import require_same_classes
    from mnistcli.runs.checkpoint import load_checkpoint

    models = [load_checkpoint(path) for path in paths]
    require_same_classes(models)
    return models


def evaluate_checkpoints(
    models: "Sequence[LoadedModel]",
    options: "EvalOptions | None" = None,
    *,
    dataset: str | None,
    split: EvalSplit,
    data_dir: Path,
    offline: bool,
    device: str = "auto",
) -> "list[Evaluation]":
    """Evaluate checkpoints on the same images, after downloading what is missing.

    `dataset` is as `prepare_dataset` returns it, or None for the one that all were trained on.

    Raises:
        SettingsError: there are no such images, or an option cannot be used on them.
        DataError: a data set is missing or damaged.
        DeviceError: the device does not work here.
    """
    from mnistcli.data.datasets import get_dataset
    from mnistcli.evaluation.eval_data import common_dataset, load_eval_data
    from mnistcli.evaluation.evaluate import EvalOptions, check_options, evaluate_models
    from mnistcli.system.machine import keep_freed_memory
    from mnistcli.training.device import pick_device
    from mnistcli.views.console import print_note

    keep_freed_memory()
    options, target = options or EvalOptions(), pick_device(device)
    dataset = dataset or prepare_dataset(common_dataset(models))
    check_options(models, options, dataset=dataset, split=split)
    calibration_sets = {loaded.card.settings.dataset for loaded in models if options.calibrate}
    others = [prepare_dataset(name) for name in sorted(calibration_sets - {dataset})]
    for name in (dataset, *others):
        try:
            ensure_downloaded(get_dataset(name), data_dir, offline=offline)
        except DataError as error:
            digits = set(get_dataset("digits").classes)
            if name != dataset or not all(digits <= set(each.card.classes) for each in models):
                raise
            raise DataError(
                error.what,
                why=error.why,
                fix=f"{error.fix}; or evaluate on scikit-learn's digits: --dataset digits",
            ) from error
    data = load_eval_data(
        models, dataset=dataset, split=split, calibrate=options.calibrate, data_dir=data_dir
    )
    if data.dataset.digest:
        print_note(_describe_own_images(data))
    if options.corruptions:
        num_sets = sum(len(corruption.amounts) for corruption in options.corruptions)
        print_note(f"Evaluating on {num_sets} corrupted copies of the images too.")
    return evaluate_models(models, data, options=options, device=target.value)


def _describe_own_images(data: "EvalData") -> str:
    """Which images of a user's own data set are evaluated."""
    title, seed, num = data.dataset.title, data.dataset.test_seed, f"{len(data.examples):,}"
    if data.split != "test" or data.dataset.has_test_part:
        return f"{title}: {num} {data.split} images."
    if seed is None:
        return (
            f"{title} has no test part: all {num} images are evaluated. "
            "Any that a network was trained on make its accuracy too high."
        )
    return f"{title} has no test part: {num} images, held out by --seed {seed}."


def store_score(score: "Score") -> None:
    """Save a score in its run; print a note if that cannot be written."""
    from mnistcli.evaluation.scores import write_score
    from mnistcli.views.console import print_note

    try:
        write_score(score)
    except RunError as error:
        print_note(f"The score was not saved: {error.what} {error.why}")
