"""Accuracy against parameters or time: the runs of one network, by seed or fold, make a point."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from mnistcli import metrics
from mnistcli.errors import SettingsError
from mnistcli.metrics import Score
from mnistcli.settings import TrainSettings, apart_from_seed_and_fold
from mnistcli.tables import read_rows

COLUMNS = ("parameters", "accuracy", "name")
_NAMES = f"{', '.join(COLUMNS[:-1])} and {COLUMNS[-1]}"


@dataclass(frozen=True)
class Point:
    """A network, trained once or by several seeds or folds; accuracies 0..1.

    `cost` is what it has or takes: parameters, or seconds of training.
    """

    name: str
    cost: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation; None of a single accuracy."""
        return metrics.deviation(self.accuracies)


def repetitions(settings: Sequence[TrainSettings]) -> list[list[int]]:
    """The places of settings that differ in their seed or fold alone, a list for each network.

    Of several with the same seed and fold the first counts: a copy of a run is
    no repetition, and its place is in no list.
    """
    groups: dict[str, dict[tuple[int, int], int]] = {}
    for place, each in enumerate(settings):
        which = (each.seed, each.fold.number if each.fold else 0)
        groups.setdefault(apart_from_seed_and_fold(each), {}).setdefault(which, place)
    return [list(places.values()) for places in groups.values()]


def points(judged: Iterable[tuple[TrainSettings, float, Score]]) -> list[Point]:
    """One point for all that `repetitions` takes together, each named by its recipe.

    `judged` holds the settings, the cost and the score of every checkpoint; the
    cost of a point is their mean. The cheapest of the first recipe comes first.
    """
    found = list(judged)
    made = []
    for places in repetitions([settings for settings, _, _ in found]):
        settings, costs, scores = zip(*(found[place] for place in places), strict=True)
        accuracies = tuple(score.accuracy for score in scores)
        made.append(Point(settings[0].recipe, fmean(costs), accuracies))
    names = list(dict.fromkeys(each.name for each in made))
    return sorted(made, key=lambda each: (names.index(each.name), each.cost))


def read_points(path: Path) -> list[Point]:
    """Points from a CSV file with the columns parameters, accuracy (in %) and name.

    Lines that begin with # are left out.

    Raises:
        SettingsError: the file cannot be read, or a line is no point.
    """
    rows = read_rows(path, COLUMNS, refuse=partial(_no_points, path), comment="#")
    return [_point(path, row) for row in rows]


def _no_points(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path} holds no points.",
        why=why,
        fix=f"Give a CSV file whose first line names the columns {_NAMES}.",
    )


def _point(path: Path, row: dict[str, str]) -> Point:
    try:
        num_params, percent = int(row["parameters"]), float(row["accuracy"])
    except ValueError:
        num_params, percent = 0, math.nan
    if num_params < 1 or not 0 <= percent <= 100:
        raise SettingsError(
            f"{path} holds a line that is no point.",
            why=f"It reads '{','.join(row.values())}'.",
            fix="Parameters are a whole number, an accuracy is a number of percent.",
        )
    return Point(row["name"], num_params, (percent / 100,))
