"""Accuracy against parameters or training time, with runs by seed or fold as one point."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal

from mnistcli.config.differences import (
    changes_from_recipe,
    flatten_settings,
    format_value,
    repetition_key,
)
from mnistcli.config.settings import TrainSettings
from mnistcli.data.csv_table import read_csv_rows
from mnistcli.errors import SettingsError
from mnistcli.evaluation.metrics import sample_sd
from mnistcli.evaluation.scores import Score

POINT_COLUMNS = ("parameters", "accuracy", "name")
# The settings that decide the size of a network.
_SIZE_SETTINGS = {"max_params", "width", "channels", "hidden"}


@dataclass(frozen=True)
class TradeoffPoint:
    """A network, trained once or by several seeds or folds.

    Attributes:
        name: shared by the points of a line.
        cost: parameters, or seconds of training.
        accuracies: one per run, 0..1.
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
        """The standard deviation of the sample; None for a single accuracy."""
        return sample_sd(self.accuracies)


def group_repetitions(settings: Sequence[TrainSettings]) -> list[list[int]]:
    """The indices of settings that differ in seed or fold alone, one list per network.

    A copy of a run is not a repetition: of equal seeds and folds only the first is in a list.
    """
    groups: dict[str, dict[tuple[int, int], int]] = {}
    for index, each in enumerate(settings):
        seed_and_fold = (each.seed, each.fold.number if each.fold else 0)
        groups.setdefault(repetition_key(each), {}).setdefault(seed_and_fold, index)
    return [list(indices.values()) for indices in groups.values()]


def network_names(settings: Sequence[TrainSettings]) -> list[str]:
    """A distinct name for each network: its recipe, with settings where others share it."""
    return _distinct_names([(each.recipe, flatten_settings(each)) for each in settings])


def tradeoff_points(
    evaluations: Iterable[tuple[TrainSettings, float, Score]], *, over: Literal["sizes", "epochs"]
) -> list[TradeoffPoint]:
    """One point for each group of repetitions, its cost their mean; one name for each line.

    A line joins the sizes of a network, each trained as its recipe says, or trainings that
    differ in their epochs alone. Lines are in the order of their first point, the points of a
    line in the order of their costs.

    Args:
        evaluations: settings, cost and score of each checkpoint.
        over: what differs along a line.
    """
    evaluations = list(evaluations)
    lines: list[tuple[str, dict[str, object]]] = []
    points: list[tuple[int, TradeoffPoint]] = []
    for indices in group_repetitions([settings for settings, _, _ in evaluations]):
        (settings, *_), costs, scores = zip(*(evaluations[index] for index in indices), strict=True)
        line = settings.recipe, _line_settings(settings, over)
        if line not in lines:
            lines.append(line)
        accuracies = tuple(score.accuracy for score in scores)
        points.append((lines.index(line), TradeoffPoint("", fmean(costs), accuracies)))
    names = _distinct_names(lines)
    points.sort(key=lambda item: (item[0], item[1].cost))
    return [replace(point, name=names[number]) for number, point in points]


def _line_settings(settings: TrainSettings, over: Literal["sizes", "epochs"]) -> dict[str, object]:
    """The settings that the points of a line have in common."""
    if over == "epochs":
        return {k: v for k, v in flatten_settings(settings).items() if k != "epochs"}
    # A budget changes more settings than the size; those are the recipe's.
    return {k: v for k, v in changes_from_recipe(settings).items() if k not in _SIZE_SETTINGS}


def _distinct_names(lines: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """The recipe of each line, with the first settings that distinguish those that share it."""
    names = [recipe for recipe, _ in lines]
    for recipe in set(names):
        shared = {index: line for index, (name, line) in enumerate(lines) if name == recipe}
        chosen: list[str] = []
        num_distinct = 1
        for setting in dict.fromkeys(name for line in shared.values() for name in line):
            num = len({_format_settings(line, [*chosen, setting]) for line in shared.values()})
            if num > num_distinct:
                chosen, num_distinct = [*chosen, setting], num
        for index, line in shared.items():
            names[index] = ", ".join([recipe, *_format_settings(line, chosen)])
    return names


def _format_settings(values: Mapping[str, object], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name} {format_value(values[name])}" for name in names if name in values)


def read_published_points(path: Path) -> list[TradeoffPoint]:
    """Points from a CSV file with the columns parameters, accuracy (in %) and name.

    Lines that begin with # are comments.

    Raises:
        SettingsError: the file cannot be read, or a row is not a point.
    """
    refuse = partial(_invalid_points_file, path)
    return [
        _parse_point(row, refuse)
        for _, row in read_csv_rows(path, POINT_COLUMNS, refuse=refuse, comment="#")
    ]


def _invalid_points_file(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path} is not a table of published results.",
        why=why,
        fix="Give a CSV file with the columns parameters (a whole number), accuracy (in percent) "
        "and name.",
    )


def _parse_point(row: Mapping[str, str], refuse: "partial[SettingsError]") -> TradeoffPoint:
    try:
        num_params, percent = int(row["parameters"]), float(row["accuracy"])
    except ValueError:
        num_params, percent = 0, math.nan
    if num_params < 1 or not 0 <= percent <= 100:
        raise refuse(f"It has the row '{','.join(row.values())}'.")
    return TradeoffPoint(row["name"], num_params, (percent / 100,))
