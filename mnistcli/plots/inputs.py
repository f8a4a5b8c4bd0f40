"""Finds what a plot is drawn from: runs, checkpoints, scores, training images."""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mnistcli.config.choices import EvalSplit
from mnistcli.config.dataset_names import dataset_title, is_own_data
from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError, SettingsError, count_noun
from mnistcli.evaluation.scores import Score, read_score
from mnistcli.runs.checkpoint import LoadedModel, load_checkpoint
from mnistcli.runs.directory import Run, read_settings
from mnistcli.runs.find import (
    all_runs,
    find_bundled,
    find_checkpoint,
    find_run,
    run_of_best_checkpoint,
)

if TYPE_CHECKING:
    from mnistcli.data.datasets import Dataset
    from mnistcli.data.examples import Examples

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_own_pictures(dataset: str) -> None:
    """Read the pictures of a user's own data set, if it is one and that has not been done."""
    if is_own_data(dataset):
        from mnistcli.reading.picture_data import read_picture_data

        read_picture_data(dataset)


@dataclass(frozen=True)
class PlotInputs:
    """What `mnist plot` was asked to draw, and the way to what that needs.

    Attributes:
        names: of runs or checkpoint files.
        out: the directory of the runs.
        split: what scores are of.
        dataset: unset, the one that a network was trained on.
        data_dir: the directory of the data sets; unset, the default one.
        first: the index of the first training image to show.
        beside: a CSV file with published results.
        evaluate: gives the score of a checkpoint that has none stored.
        report_omission: tells the user which run is left out, and why.
    """

    names: Sequence[str]
    out: Path
    split: EvalSplit
    dataset: str | None
    data_dir: Path | None
    first: int
    beside: Path | None
    evaluate: Callable[[LoadedModel], Score]
    report_omission: Callable[[str], None]

    @cached_property
    def runs(self) -> list[Run]:
        """The named runs.

        Raises:
            DataError: there is no such run.
            SettingsError: a name is that of a checkpoint.
        """
        for name in filter(self._is_checkpoint, self.names):
            raise SettingsError(
                f"'{name}' is a checkpoint, not a run.",
                why="The epochs are in the directory of a run.",
                fix="Name a run, or draw something else, such as --kind mistakes",
            )
        return [find_run(name, self.out) for name in self.names]

    def _is_checkpoint(self, name: str) -> bool:
        return Path(name).is_file() or find_bundled(name, self.out) is not None

    @property
    def settings(self) -> TrainSettings | None:
        """The settings of the first named run or checkpoint; None if none is named."""
        if not self.names:
            return None
        if self._is_checkpoint(self.names[0]):
            return self.load_network().card.settings
        return read_settings(self.runs[0])

    def load_network(self) -> LoadedModel:
        """The network of the named checkpoint file or run."""
        return load_checkpoint(find_checkpoint(self.names[0], self.out))

    def find_score(self) -> Score:
        """The score of the named checkpoint file or run, evaluated now if none is stored.

        A stored score does not need the checkpoint any more.
        """
        is_checkpoint = self._is_checkpoint(self.names[0])
        path = find_checkpoint(self.names[0], self.out) if is_checkpoint else self.runs[0].best
        return self._stored_score(path) or self.evaluate(self.load_network())

    def _stored_score(self, checkpoint: Path) -> Score | None:
        run = run_of_best_checkpoint(checkpoint)
        if run is None:
            return None
        score = read_score(run, self.dataset or read_settings(run).dataset, self.split)
        # Scores of older versions have no bins.
        return score if score and score.bins else None

    def find_scores(self) -> list[tuple[LoadedModel, Score]]:
        """The named checkpoints with their scores, all on one data set.

        Without names these are all runs on `dataset`, unset that of the newest run; if none was
        trained on `dataset`, all are evaluated on it. The others, and those that cannot be read,
        are left out.

        Raises:
            DataError: a named run cannot be read, or there is none that can.
            SettingsError: the named networks were trained on different data sets.
        """
        if self.names:
            paths = [find_checkpoint(name, self.out) for name in self.names]
            models = [load_checkpoint(path) for path in paths]
            self._require_one_dataset(models)
            return [(model, self._score(model)) for model in models]
        paths = [run.best for run in all_runs(self.out, required_file="best.pth")]
        # Without any run, the search for the newest one raises the error.
        paths = paths or [find_checkpoint("last", self.out)]
        models = self._readable(load_checkpoint, paths)
        chosen = self.dataset or models[0].card.settings.dataset
        models = self._trained_on(chosen, models) or models
        return self._readable(lambda model: (model, self._score(model)), models)

    def _trained_on(self, dataset: str, models: Sequence[LoadedModel]) -> list[LoadedModel]:
        """The networks that were trained on `dataset`; unless it was asked for, reports others."""
        others = Counter(each.card.settings.dataset for each in models)
        del others[dataset]
        for other, num in others.items() if self.dataset is None else ():
            option = f"--dataset {shlex.quote(other)}"
            self.report_omission(
                f"{count_noun(num, 'run')} on {dataset_title(other)}, drawn with {option}."
            )
        return [each for each in models if each.card.settings.dataset == dataset]

    def _score(self, model: LoadedModel) -> Score:
        return self._stored_score(model.path) or self.evaluate(model)

    def _require_one_dataset(self, models: Sequence[LoadedModel]) -> None:
        names = sorted({model.card.settings.dataset for model in models})
        if self.dataset is None and len(names) > 1:
            raise SettingsError(
                "These runs were trained on different data sets: "
                f"{', '.join(map(dataset_title, names))}.",
                why="Their accuracies cannot be compared.",
                fix=f"Name runs of one data set, or draw all of one: --dataset {names[0]}",
            )

    def _readable(self, read: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """The results of `read` for the items that it can read; reports the others.

        Raises:
            DataError, SettingsError: it can read none; the error of the first.
        """
        results: list[Result] = []
        errors: list[DataError | SettingsError] = []
        for item in items:
            try:
                results.append(read(item))
            except (DataError, SettingsError) as error:
                errors.append(error)
        if not results:
            raise errors[0]
        for problem in errors:
            self.report_omission(f"{problem.what} {problem.why}".rstrip())
        return results

    def resolved_data_dir(self) -> Path:
        """The directory of the data sets."""
        from mnistcli.data.datasets import resolve_data_dir  # torch, which curves do not need

        return resolve_data_dir(self.data_dir, os.environ)

    def load_scored_images(self, model: LoadedModel, score: Score) -> "Examples":
        """The images that a score of `model` is of, in the order of its indices.

        Raises:
            DataError: the data set is missing, damaged, or has changed.
        """
        from mnistcli.evaluation.eval_data import load_scored_images

        read_own_pictures(score.dataset)
        return load_scored_images(model, score, self.resolved_data_dir())

    def load_training_images(self, settings: TrainSettings | None) -> "tuple[Dataset, Examples]":
        """The training set from image `first` on: of `dataset`, or else of a run with `settings`.

        Without either, of MNIST. The images that a run held out for testing are not among them.

        Raises:
            DataError: the data set is missing or damaged.
            SettingsError: it has fewer images.
        """
        from mnistcli.data.datasets import get_dataset, load_dataset, open_dataset
        from mnistcli.data.examples import Examples

        if settings and self.dataset in (None, settings.dataset):
            read_own_pictures(settings.dataset)
            dataset = open_dataset(settings)
        else:
            dataset = get_dataset(self.dataset or "mnist")
        examples = load_dataset(dataset, "train", self.resolved_data_dir())
        if self.first >= len(examples):
            raise SettingsError(
                f"{dataset.title} has no training image {self.first:,}.",
                why=f"Its training set has {len(examples):,} images, counted from 0.",
                fix=f"Use --first {len(examples) - 1} or less.",
            )
        images_NHW, labels_N = examples.images_NHW[self.first :], examples.labels_N[self.first :]
        return dataset, Examples(images_NHW, labels_N)
