"""Accuracy against parameters or time: the runs of one network, by seed or fold, make a point."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from mnistcli.errors import SettingsError
from mnistcli.metrics import Score
from mnistcli.settings import TrainSettings, apart_from_seed
from mnistcli.tables import read_rows

COLUMNS = ("parameters", "accuracy", "name")
_NAMES = f"{', '.join(COLUMNS[:-1])} and {COLUMNS[-1]}"


@dataclass(frozen=True)
class Point:
    """A network, trained once or by several seeds; accuracies 0..1.

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
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None


def points(judged: Iterable[tuple[TrainSettings, float, Score]]) -> list[Point]:
    """One point for all that differ in their seed or fold alone, each named by its recipe.

    `judged` holds the settings, the cost and the score of every checkpoint; the
    cost of a point is their mean. The cheapest of the first recipe comes first.
    """
    found: dict[str, tuple[str, list[float], list[float]]] = {}
    for settings, cost, score in judged:
        same = apart_from_seed(settings)
        _, costs, accuracies = found.setdefault(same, (settings.recipe, [], []))
        costs.append(cost)
        accuracies.append(score.accuracy)
    made = [Point(name, fmean(costs), tuple(shares)) for name, costs, shares in found.values()]
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
