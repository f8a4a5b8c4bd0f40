"""Accuracy against parameters or time: the runs of one network, by seed or fold, make a point."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal

from mnistcli.config.differences import changes_from_recipe, flatten_settings, repetition_key
from mnistcli.config.settings import TrainSettings
from mnistcli.data.csv_table import read_csv_rows
from mnistcli.errors import SettingsError
from mnistcli.evaluation.metrics import sample_sd
from mnistcli.evaluation.scores import Score

POINT_COLUMNS = ("parameters", "accuracy", "name")
# What makes the size of a network.
_SIZES = {"max_params", "width", "channels", "hidden"}
_NAMES = f"{', '.join(POINT_COLUMNS[:-1])} and {POINT_COLUMNS[-1]}"


@dataclass(frozen=True)
class TradeoffPoint:
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
        return sample_sd(self.accuracies)


def group_repetitions(settings: Sequence[TrainSettings]) -> list[list[int]]:
    """The places of settings that differ in their seed or fold alone, a list for each network.

    Of several with the same seed and fold the first counts: a copy of a run is
    no repetition, and its place is in no list.
    """
    groups: dict[str, dict[tuple[int, int], int]] = {}
    for place, each in enumerate(settings):
        which = (each.seed, each.fold.number if each.fold else 0)
        groups.setdefault(repetition_key(each), {}).setdefault(which, place)
    return [list(places.values()) for places in groups.values()]


def network_names(settings: Sequence[TrainSettings]) -> list[str]:
    """What networks are called beside each other: by their recipe, if no other has it.

    Those that share a recipe are told apart by as few of their settings as do.
    """
    return _distinct_names([(each.recipe, flatten_settings(each)) for each in settings])


def tradeoff_points(
    judged: Iterable[tuple[TrainSettings, float, Score]], *, over: Literal["sizes", "epochs"]
) -> list[TradeoffPoint]:
    """One point for all that `repetitions` takes together, one name for the points of a line.

    A line joins the sizes of a network, each trained as its recipe says; or
    trainings that differ in their epochs alone. `judged` holds the settings,
    the cost and the score of every checkpoint; the cost of a point is their
    mean. The cheapest of the first line comes first.
    """
    found = list(judged)
    lines: list[tuple[str, dict[str, object]]] = []
    made: list[tuple[int, TradeoffPoint]] = []
    for places in group_repetitions([settings for settings, _, _ in found]):
        (settings, *_), costs, scores = zip(*(found[place] for place in places), strict=True)
        line = settings.recipe, _line_key(settings, over)
        if line not in lines:
            lines.append(line)
        accuracies = tuple(score.accuracy for score in scores)
        made.append((lines.index(line), TradeoffPoint("", fmean(costs), accuracies)))
    called = _distinct_names(lines)
    made.sort(key=lambda each: (each[0], each[1].cost))
    return [replace(point, name=called[number]) for number, point in made]


def _line_key(settings: TrainSettings, over: Literal["sizes", "epochs"]) -> dict[str, object]:
    """The settings that the points of a line have in common."""
    apart = _SIZES if over == "sizes" else {"epochs"}
    # A budget brings more than a size.
    values = changes_from_recipe(settings) if over == "sizes" else flatten_settings(settings)
    return {name: value for name, value in values.items() if name not in apart}


def _distinct_names(lines: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """By the recipe and, where several have it, the first settings that tell all of them apart."""
    called = [recipe for recipe, _ in lines]
    for recipe in set(called):
        mine = [place for place, (each, _) in enumerate(lines) if each == recipe]
        chosen: list[str] = []
        num_apart = 1
        for name in dict.fromkeys(name for place in mine for name in lines[place][1]):
            num = len({_format_settings(lines[place][1], [*chosen, name]) for place in mine})
            if num > num_apart:
                chosen, num_apart = [*chosen, name], num
        for place in mine:
            called[place] = ", ".join([recipe, *_format_settings(lines[place][1], chosen)])
    return called


def _format_settings(values: Mapping[str, object], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name} {_format_value(values[name])}" for name in names if name in values)


def _format_value(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def read_published_points(path: Path) -> list[TradeoffPoint]:
    """Points from a CSV file with the columns parameters, accuracy (in %) and name.

    Lines that begin with # are left out.

    Raises:
        SettingsError: the file cannot be read, or a line is no point.
    """
    rows = read_csv_rows(
        path, POINT_COLUMNS, refuse=partial(_invalid_points_file, path), comment="#"
    )
    return [_parse_point(path, row) for row in rows]


def _invalid_points_file(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{path} holds no points.",
        why=why,
        fix=f"Give a CSV file whose first line names the columns {_NAMES}.",
    )


def _parse_point(path: Path, row: dict[str, str]) -> TradeoffPoint:
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
    return TradeoffPoint(row["name"], num_params, (percent / 100,))
