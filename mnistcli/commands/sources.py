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

    from mnistcli.batches import Examples
    from mnistcli.checkpoints import LoadedModel
    from mnistcli.datasets import Dataset
    from mnistcli.metrics import JudgedSplit, Score
    from mnistcli.runs import Run
    from mnistcli.settings import TrainSettings

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass
class Source:
    """What a figure is drawn from; `first` is the first picture of the training set that is."""

    names: list[str]
    out: Path
    beside: Path | None
    split: "JudgedSplit"
    dataset: str | None
    wanted_data_dir: Path | None
    first: int

    @cached_property
    def found(self) -> "list[Run]":
        """The runs that were named."""
        from mnistcli import runs

        return [runs.find(name, self.out) for name in self.names]

    @cached_property
    def settings(self) -> "TrainSettings | None":
        """The settings of the run that was named, if one was."""
        from mnistcli import runs

        return runs.read_settings(self.found[0]) if self.names else None

    @property
    def folder(self) -> Path:
        """The directory of the one run that was named; else the one we are in."""
        is_run = len(self.names) == 1 and not Path(self.names[0]).is_file()
        return self.found[0].path if is_run else Path()

    @property
    def data_dir(self) -> Path:
        """Where data sets lie. Asking loads torch, which a plot of curves does not need."""
        from mnistcli import datasets

        return datasets.pick_data_dir(self.wanted_data_dir, os.environ)


def _curves(source: Source) -> "Figure":
    from mnistcli import figures, runs

    found = dict(zip(runs.called(source.found), source.found, strict=True))
    histories = {name: runs.read_metrics(run) for name, run in found.items()}
    series = _repetitions(found) if len(found) > 1 else {}
    if all(len(members) == 1 for members in series.values()):
        return figures.curves(histories)
    return figures.seeds(
        {name: [histories[each] for each in members] for name, members in series.items()}
    )


def _repetitions(found: "dict[str, Run]") -> dict[str, list[str]]:
    """The runs that differ in seed or fold alone, by a name for all; each other run by its own."""
    from mnistcli import frontier, runs

    names = list(found)
    settings = [runs.read_settings(run) for run in found.values()]
    groups = frontier.repetitions(settings)
    copies = set(range(len(names))) - {*itertools.chain(*groups)}
    groups = sorted([*groups, *([place] for place in copies)])
    common = iter(frontier.names([settings[first] for first, *others in groups if others]))
    named = {}
    for first, *others in groups:
        name = names[first]
        # A run may be called as its recipe.
        if others and (together := next(common)) not in names:
            name = together
        named[name] = [names[place] for place in (first, *others)]
    return named


def _confusion(source: Source) -> "Figure":
    from mnistcli import figures

    return figures.confusion(_score(source, source.found[0].best))


def _mistakes(source: Source) -> "Figure":
    from mnistcli import checkpoints, figures, scoring

    score = _score(source, source.found[0].best)
    loaded = checkpoints.load_model(source.found[0].best)
    examples = scoring.load_split(
        loaded, dataset=score.dataset, split=score.split, data_dir=source.data_dir
    )
    return figures.mistakes(score, examples)


def _samples(source: Source) -> "Figure":
    from mnistcli import figures

    dataset, examples = _training_set(source, _trained_on(source))
    return figures.samples(examples, dataset=dataset.name)


def _augmented(source: Source) -> "Figure":
    from mnistcli import figures, settings

    run = source.settings
    how = (run or settings.resolve({}, environ={}).settings).augmentation
    if run and not run.augment:
        raise SettingsError(
            f"{source.found[0].path} was trained without augmentation.",
            why="It saw each picture as it is.",
            fix="Name a run that was trained with --augment, or no run.",
        )
    dataset, examples = _training_set(source, _trained_on(source))
    return figures.augmented(examples, how, dataset=dataset.name)


def _trained_on(source: Source) -> str:
    return source.settings.dataset if source.settings else "mnist"


def _training_set(source: Source, trained_on: str) -> "tuple[Dataset, Examples]":
    """The data set that is meant, and its training set from the first picture on that is."""
    from mnistcli import datasets
    from mnistcli.batches import Examples
    from mnistcli.commands import data

    dataset = datasets.dataset(source.dataset or trained_on)
    data.ready(dataset, source.data_dir, offline=True)
    examples = datasets.load(dataset, "train", source.data_dir)
    if source.first >= len(examples):
        raise SettingsError(
            f"{dataset.name} has no picture {source.first:,}.",
            why=f"Its training set has {len(examples):,}, counted from 0.",
            fix=f"Use --first {len(examples) - 1} or less.",
        )
    first = source.first
    return dataset, Examples(examples.images_NHW[first:], examples.labels_N[first:])


def _filters(source: Source) -> "Figure":
    from mnistcli import figures

    return figures.filters(_loaded(source))


def _features(source: Source) -> "Figure":
    from mnistcli import figures, insides

    loaded = _loaded(source)
    insides.check_convolutions(loaded)  # before data are asked for
    dataset, examples = _training_set(source, loaded.card.settings.dataset)
    which = f"a {dataset.classes[int(examples.labels_N[0])]} of {dataset.name}"
    what = f"{which} (picture {source.first:,} of the training set)"
    return figures.features(loaded, examples.images_NHW[0], what=what)


def _calibration(source: Source) -> "Figure":
    from mnistcli import figures

    return figures.calibration(_score(source, _checkpoint(source)))


def _checkpoint(source: Source) -> Path:
    """The checkpoint of the run or file that was named."""
    from mnistcli import runs

    return runs.find_checkpoint(source.names[0], source.out)


def _loaded(source: Source) -> "LoadedModel":
    from mnistcli import checkpoints

    return checkpoints.load_model(_checkpoint(source))


def _frontier(source: Source) -> "Figure":
    from mnistcli import figures, frontier

    # First, for judging takes a while.
    beside = frontier.read_points(source.beside) if source.beside else []
    return figures.frontier(_judged(source), beside=beside)


def _time(source: Source) -> "Figure":
    from mnistcli import figures

    return figures.time(_judged(source))


def _judged(source: Source) -> "list[tuple[LoadedModel, Score]]":
    """The checkpoints of all that was named, with their scores on one data set.

    Nothing named means all runs, those that learnt the data set if one is named;
    of these, what cannot be read is left out.
    """
    from mnistcli import checkpoints, runs

    if source.names:
        each = _each
        paths = [runs.find_checkpoint(name, source.out) for name in source.names]
        models = each(checkpoints.load_model, paths)
    else:
        each = _each_that_can_be_read
        paths = [run.best for run in runs.all_runs(source.out, marks=("best.pth",))]
        # Where there is no run, the last one's error says so.
        models = each(checkpoints.load_model, paths or [runs.find_checkpoint("last", source.out)])
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


def _each(read: "Callable[[Item], Found]", items: "Sequence[Item]") -> "list[Found]":
    return [read(item) for item in items]


def _each_that_can_be_read(
    read: "Callable[[Item], Found]", items: "Sequence[Item]"
) -> "list[Found]":
    """What is read of each; says which are left out.

    Raises:
        DataError, SettingsError: none can be read; what is wrong with the first.
    """
    from mnistcli import console

    found, problems = [], []
    for item in items:
        try:
            found.append(read(item))
        except (DataError, SettingsError) as error:
            problems.append(error)
    if not found:
        raise problems[0]
    for problem in problems:
        console.note(f"Left out: {problem.what} {problem.why}".rstrip())
    return found


def _score(source: Source, checkpoint: Path, loaded: "LoadedModel | None" = None) -> "Score":
    """What `mnist eval` has kept of a run's best checkpoint; else the checkpoint judged now.

    It is loaded to be judged, unless it is `loaded` already.
    """
    from mnistcli import checkpoints, console, datasets, runs
    from mnistcli.commands import data

    if run := runs.run_of_best(checkpoint):
        learnt = loaded.card.settings if loaded else runs.read_settings(run)
        kept = runs.read_score(run, source.dataset or learnt.dataset, source.split)
        if kept and kept.bins:  # which older versions did not keep
            return kept
        runs.find_checkpoint(str(run.path), run.path.parent)  # says so if there is none
    loaded = loaded or checkpoints.load_model(checkpoint)
    name = source.dataset or loaded.card.settings.dataset
    data.ready(datasets.dataset(name), source.data_dir, offline=True)
    console.note(f"{checkpoint} has no score on {source.split} images of {name}: judging it.")
    judged = data.judge(
        [loaded], dataset=name, split=source.split, data_dir=source.data_dir, offline=True
    )
    score = judged[0].score
    data.keep(score)
    return score


# By its name on the command line.
KINDS: "dict[str, Callable[[Source], Figure]]" = {
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
