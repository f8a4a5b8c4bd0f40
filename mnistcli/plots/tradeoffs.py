"""Accuracy against what it costs: parameters or time."""

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mnistcli.evaluation.pareto import TradeoffPoint
from mnistcli.plots.style import (
    COLORS,
    CROSS,
    GRAY,
    MARK,
    MARKERS,
    STYLE,
    text_width_inches,
    wrap_heading,
)


@mpl.rc_context(STYLE)
def frontier(
    points: Sequence[TradeoffPoint], *, beside: Sequence[TradeoffPoint] = (), title: str
) -> Figure:
    """Accuracy in % against parameters: points of one name joined, bars of one SD.

    Both axes are logarithmic, the accuracy's in the errors: halving them is one
    step everywhere.

    Args:
        points: what was judged; at least one.
        beside: what others have published, in grey by number.
        title: on which images.
    """
    return _figure(points, beside, title=title, axis="parameters")


@mpl.rc_context(STYLE)
def time(points: Sequence[TradeoffPoint], *, title: str) -> Figure:
    """Accuracy in % against seconds of training, drawn as `frontier` draws parameters."""
    return _figure(points, (), title=title, axis="training time (s)")


def _figure(
    points: Sequence[TradeoffPoint], beside: Sequence[TradeoffPoint], *, title: str, axis: str
) -> Figure:
    figure = Figure(figsize=(7.2, 4))
    ax = figure.add_subplot()
    figure.suptitle(wrap_heading(title, 7.2), x=0.01, ha="left", fontsize=10)
    marks: dict[str, Line2D] = {}
    for number, name in enumerate(dict.fromkeys(each.name for each in points)):
        mine = [each for each in points if each.name == name]
        seeds = sorted({len(each.accuracies) for each in mine})
        count = f"n = {seeds[0]}" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]}"
        label = f"{name}, {'mean ± SD, ' if seeds[-1] > 1 else ''}{count}"
        marks[label] = _draw_line(ax, mine, number)
    for number, each in enumerate(beside, start=1):
        # Their names would run into each other, so that they stand below, by number.
        place = (each.cost, _error_percent(each))
        ax.plot(*place, **CROSS)
        ax.annotate(str(number), place, (5, 0), textcoords="offset points", color=GRAY, va="center")
        label = f"{number}  {each.cost:,.0f}: {100 * each.mean:.2f} %, {each.name}"
        marks[label] = Line2D([], [], **CROSS)
    _finish(ax, [*points, *beside], axis=axis)
    longest = max(text_width_inches(label, 8) for label in marks)
    columns = max(1, int(7.2 / (longest + 0.5)))
    figure.set_figheight(3.9 + 0.18 * math.ceil(len(marks) / columns))
    figure.legend(marks.values(), marks.keys(), loc="outside lower left", ncols=columns)
    return figure


def _draw_line(ax: Axes, points: Sequence[TradeoffPoint], number: int) -> Line2D:
    """Draw the points of one name with their bars; returns what a legend shows for it."""
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    costs = [each.cost for each in points]
    errors = [_error_percent(each) for each in points]
    bars = [_bar(each) for each in points]
    # NaN draws no bar.
    below = [error - low or math.nan for error, (low, _) in zip(errors, bars, strict=True)]
    above = [high - error or math.nan for error, (_, high) in zip(errors, bars, strict=True)]
    ax.errorbar(costs, errors, (below, above), ls="", color=color, lw=1.2, capsize=2.5)
    ax.plot(costs, errors, color=color, lw=1.2, marker=marker, **MARK)
    return Line2D([], [], color=color, marker=marker, lw=1.2, **MARK)


def _error_percent(point: TradeoffPoint) -> float:
    """The mean share of errors in %; of none, half an error in 10,000, which has a logarithm."""
    return max(100 * (1 - point.mean), 0.005)


def _bar(point: TradeoffPoint) -> tuple[float, float]:
    """Where the bar of a point begins and ends, in errors in %; the point itself without one."""
    error, deviation = _error_percent(point), 100 * (point.deviation or 0)
    # A bar to below no errors has no place on a logarithmic axis.
    return max(error - deviation, 0.1 * error), error + deviation


def _finish(ax: Axes, points: Sequence[TradeoffPoint], *, axis: str) -> None:
    ax.set_xlabel(axis)
    ax.set_ylabel("accuracy (%)")
    ax.set(xscale="log", yscale="log")
    costs = [each.cost for each in points]
    ends = [end for each in points for end in _bar(each)]
    ax.set_xlim(min(costs) / 1.5, max(costs) * 1.5)
    ax.set_ylim(max(ends) * 1.4, min(ends) / 1.4)
    ax.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if max(costs) < 300 * min(costs) else (1,))
    )
    is_near = max(ends) < 20 * min(ends)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7) if is_near else (1, 2, 5)))
    for each in (ax.xaxis, ax.yaxis):
        each.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 - value:.6g}"))
    ax.grid(axis="y")
