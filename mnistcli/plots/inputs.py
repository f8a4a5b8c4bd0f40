"""What each kind of plot is drawn from: records, scores, weights, pictures."""

import itertools
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mnistcli.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from mnistcli.config.choices import EvalSplit
    from mnistcli.config.settings import TrainSettings
    from mnistcli.data.datasets import Dataset
    from mnistcli.data.examples import Examples
    from mnistcli.evaluation.scores import Score
    from mnistcli.runs.checkpoint import LoadedModel
    from mnistcli.runs.directory import Run

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class PlotInputs:
    """What a figure is drawn from; `first` is the first picture of the training set that is."""

    names: list[str]
    out: Path
    beside: Path | None
    split: "EvalSplit"
    dataset: str | None
    wanted_data_dir: Path | None
    first: int

    @cached_property
    def found(self) -> "list[Run]":
        """The runs that were named."""
        from mnistcli.runs.find import find_run

        return [find_run(name, self.out) for name in self.names]

    @cached_property
    def settings(self) -> "TrainSettings | None":
        """The settings of the run that was named, if one was."""
        from mnistcli.runs.directory import read_settings

        return read_settings(self.found[0]) if self.names else None

    @property
    def folder(self) -> Path:
        """The directory of the one run that was named; else the one we are in."""
        is_run = len(self.names) == 1 and not Path(self.names[0]).is_file()
        return self.found[0].path if is_run else Path()

    @property
    def data_dir(self) -> Path:
        """Where data sets lie. Asking loads torch, which a plot of curves does not need."""
        from mnistcli.data.datasets import resolve_data_dir

        return resolve_data_dir(self.wanted_data_dir, os.environ)


def _curves(source: PlotInputs) -> "Figure":
    from mnistcli.plots import figures
    from mnistcli.runs.find import display_names
    from mnistcli.runs.history import read_metrics

    found = dict(zip(display_names(source.found), source.found, strict=True))
    histories = {name: read_metrics(run) for name, run in found.items()}
    series = _group_seeds_and_folds(found) if len(found) > 1 else {}
    if all(len(members) == 1 for members in series.values()):
        return figures.curves(histories)
    return figures.seeds(
        {name: [histories[each] for each in members] for name, members in series.items()}
    )


def _group_seeds_and_folds(found: "dict[str, Run]") -> dict[str, list[str]]:
    """The runs that differ in seed or fold alone, by a name for all; each other run by its own."""
    from mnistcli.evaluation.pareto import group_repetitions, network_names
    from mnistcli.runs.directory import read_settings

    names = list(found)
    settings = [read_settings(run) for run in found.values()]
    groups = group_repetitions(settings)
    copies = set(range(len(names))) - {*itertools.chain(*groups)}
    groups = sorted([*groups, *([place] for place in copies)])
    common = iter(network_names([settings[first] for first, *others in groups if others]))
    named = {}
    for first, *others in groups:
        name = names[first]
        # A run may be called as its recipe.
        if others and (together := next(common)) not in names:
            name = together
        named[name] = [names[place] for place in (first, *others)]
    return named


def _confusion(source: PlotInputs) -> "Figure":
    from mnistcli.plots import figures

    return figures.confusion(_score(source, source.found[0].best))


def _mistakes(source: PlotInputs) -> "Figure":
    from mnistcli.evaluation.eval_data import load_eval_split
    from mnistcli.plots import figures
    from mnistcli.runs.checkpoint import load_checkpoint

    score = _score(source, source.found[0].best)
    loaded = load_checkpoint(source.found[0].best)
    examples = load_eval_split(
        loaded, dataset=score.dataset, split=score.split, data_dir=source.data_dir
    )
    return figures.mistakes(score, examples)


def _samples(source: PlotInputs) -> "Figure":
    from mnistcli.plots import figures

    dataset, examples = _training_set(source, _trained_on(source))
    return figures.samples(examples, dataset=dataset.name)


def _augmented(source: PlotInputs) -> "Figure":
    from mnistcli.config.resolve import resolve_settings
    from mnistcli.plots import figures

    run = source.settings
    how = (run or resolve_settings({}, environ={}).settings).augmentation
    if run and not run.augment:
        raise SettingsError(
            f"{source.found[0].path} was trained without augmentation.",
            why="It saw each picture as it is.",
            fix="Name a run that was trained with --augment, or no run.",
        )
    dataset, examples = _training_set(source, _trained_on(source))
    return figures.augmented(examples, how, dataset=dataset.name)


def _trained_on(source: PlotInputs) -> str:
    return source.settings.dataset if source.settings else "mnist"


def _training_set(source: PlotInputs, trained_on: str) -> "tuple[Dataset, Examples]":
    """The data set that is meant, and its training set from the first picture on that is."""
    from mnistcli.cli.inputs import ensure_downloaded
    from mnistcli.data.datasets import get_dataset, load_dataset
    from mnistcli.data.examples import Examples

    dataset = get_dataset(source.dataset or trained_on)
    ensure_downloaded(dataset, source.data_dir, offline=True)
    examples = load_dataset(dataset, "train", source.data_dir)
    if source.first >= len(examples):
        raise SettingsError(
            f"{dataset.name} has no picture {source.first:,}.",
            why=f"Its training set has {len(examples):,}, counted from 0.",
            fix=f"Use --first {len(examples) - 1} or less.",
        )
    first = source.first
    return dataset, Examples(examples.images_NHW[first:], examples.labels_N[first:])


def _filters(source: PlotInputs) -> "Figure":
    from mnistcli.plots import figures

    return figures.filters(_load_model(source))


def _features(source: PlotInputs) -> "Figure":
    from mnistcli.evaluation.features import require_convolutions
    from mnistcli.plots import figures

    loaded = _load_model(source)
    require_convolutions(loaded)  # before data are asked for
    dataset, examples = _training_set(source, loaded.card.settings.dataset)
    which = f"a {dataset.classes[int(examples.labels_N[0])]} of {dataset.name}"
    what = f"{which} (picture {source.first:,} of the training set)"
    return figures.features(loaded, examples.images_NHW[0], what=what)


def _calibration(source: PlotInputs) -> "Figure":
    from mnistcli.plots import figures

    return figures.calibration(_score(source, _find_checkpoint(source)))


def _find_checkpoint(source: PlotInputs) -> Path:
    """The checkpoint of the run or file that was named."""
    from mnistcli.runs.find import find_checkpoint

    return find_checkpoint(source.names[0], source.out)


def _load_model(source: PlotInputs) -> "LoadedModel":
    from mnistcli.runs.checkpoint import load_checkpoint

    return load_checkpoint(_find_checkpoint(source))


def _frontier(source: PlotInputs) -> "Figure":
    from mnistcli.evaluation.pareto import read_published_points
    from mnistcli.plots import figures

    # First, for judging takes a while.
    beside = read_published_points(source.beside) if source.beside else []
    return figures.frontier(_evaluated_checkpoints(source), beside=beside)


def _time(source: PlotInputs) -> "Figure":
    from mnistcli.plots import figures

    return figures.time(_evaluated_checkpoints(source))


def _evaluated_checkpoints(source: PlotInputs) -> "list[tuple[LoadedModel, Score]]":
    """The checkpoints of all that was named, with their scores on one data set.

    Nothing named means all runs, those that learnt the data set if one is named;
    of these, what cannot be read is left out.
    """
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.runs.find import all_runs, find_checkpoint

    if source.names:
        each = _each
        paths = [find_checkpoint(name, source.out) for name in source.names]
        models = each(load_checkpoint, paths)
    else:
        each = _each_readable
        paths = [run.best for run in all_runs(source.out, marks=("best.pth",))]
        # Where there is no run, the last one's error says so.
        models = each(load_checkpoint, paths or [find_checkpoint("last", source.out)])
        same = [loaded for loaded in models if loaded.card.settings.dataset == source.dataset]
        models = same or models
    sets = sorted({loaded.card.settings.dataset for loaded in models})
    if source.dataset is None and len(sets) > 1:
        raise SettingsError(
            f"These runs learnt different data sets: {', '.join(sets)}.",
            why="Accuracies on one do not compare with those on another.",
            fix=f"Name the runs of one, or draw all of one: --dataset {sets[0]}",
        )
    return each(lambda loaded: (loaded, _score(source, loaded.path, loaded)), models)


def _each(read: "Callable[[Item], Result]", items: "Sequence[Item]") -> "list[Result]":
    return [read(item) for item in items]


def _each_readable(read: "Callable[[Item], Result]", items: "Sequence[Item]") -> "list[Result]":
    """What is read of each; says which are left out.

    Raises:
        DataError, SettingsError: none can be read; what is wrong with the first.
    """
    from mnistcli.views.console import print_note

    found, problems = [], []
    for item in items:
        try:
            found.append(read(item))
        except (DataError, SettingsError) as error:
            problems.append(error)
    if not found:
        raise problems[0]
    for problem in problems:
        print_note(f"Left out: {problem.what} {problem.why}".rstrip())
    return found


def _score(source: PlotInputs, checkpoint: Path, loaded: "LoadedModel | None" = None) -> "Score":
    """What `mnist eval` has kept of a run's best checkpoint; else the checkpoint judged now.

    It is loaded to be judged, unless it is `loaded` already.
    """
    from mnistcli.cli.inputs import ensure_downloaded, evaluate_checkpoints, store_score
    from mnistcli.data.datasets import get_dataset
    from mnistcli.evaluation.scores import read_score
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.runs.directory import read_settings
    from mnistcli.runs.find import find_checkpoint, run_of_best_checkpoint
    from mnistcli.views.console import print_note

    if run := run_of_best_checkpoint(checkpoint):
        learnt = loaded.card.settings if loaded else read_settings(run)
        kept = read_score(run, source.dataset or learnt.dataset, source.split)
        if kept and kept.bins:  # which older versions did not keep
            return kept
        find_checkpoint(str(run.path), run.path.parent)  # says so if there is none
    loaded = loaded or load_checkpoint(checkpoint)
    name = source.dataset or loaded.card.settings.dataset
    ensure_downloaded(get_dataset(name), source.data_dir, offline=True)
    print_note(f"{checkpoint} has no score on {source.split} images of {name}: judging it.")
    judged = evaluate_checkpoints(
        [loaded], dataset=name, split=source.split, data_dir=source.data_dir, offline=True
    )
    score = judged[0].score
    store_score(score)
    return score


# By its name on the command line.
KINDS: "dict[str, Callable[[PlotInputs], Figure]]" = {
    "curves": _curves,
    "confusion": _confusion,
    "mistakes": _mistakes,
    "calibration": _calibration,
    "samples": _samples,
    "augmented": _augmented,
    "filters": _filters,
    "features": _features,
    "frontier": _frontier,
    "time": _time,
}
