"""Accuracy against parameters and against training time."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mnistcli.config.dataset_names import dataset_title
from mnistcli.errors import SettingsError
from mnistcli.evaluation.pareto import TradeoffPoint, read_published_points, tradeoff_points
from mnistcli.evaluation.scores import Score
from mnistcli.models.registry import count_parameters
from mnistcli.plots.headings import empty_figure, text_width_inches, wrap_heading
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import COLORS, CROSS, GRAY, MARK, MARKERS, STYLE
from mnistcli.runs.checkpoint import LoadedModel
from mnistcli.runs.find import run_of_checkpoint
from mnistcli.runs.history import read_metrics, training_seconds


def draw_frontier(inputs: PlotInputs) -> Figure:
    """The named checkpoints, or those of all runs, and the published results of `beside`."""
    # First, because an evaluation takes a while.
    published = read_published_points(inputs.beside) if inputs.beside else []
    return frontier(inputs.find_scores(), beside=published)


def draw_time(inputs: PlotInputs) -> Figure:
    """The named runs, or all runs."""
    return time(inputs.find_scores())


def frontier(
    scores: Sequence[tuple[LoadedModel, Score]], *, beside: Sequence[TradeoffPoint] = ()
) -> Figure:
    """Accuracy against parameters; runs of one network by seed or fold are one point.

    Args:
        scores: one or more checkpoints with their scores on one data set and split.
        beside: published results, as `pareto.read_published_points` reads them.
    """
    return _draw_scores(
        scores,
        _num_parameters,
        line="sizes",
        axis="parameters",
        title="accuracy against parameters",
        published=beside,
    )


def time(scores: Sequence[tuple[LoadedModel, Score]]) -> Figure:
    """Accuracy against the seconds that the runs of the checkpoints were trained.

    Raises:
        SettingsError: a checkpoint is not in a run.
    """
    return _draw_scores(
        scores,
        _seconds_of_training,
        line="epochs",
        axis="training time (s)",
        title="accuracy against training time",
    )


def _draw_scores(
    scores: Sequence[tuple[LoadedModel, Score]],
    cost: Callable[[LoadedModel], float],
    *,
    line: Literal["sizes", "epochs"],
    axis: str,
    title: str,
    published: Sequence[TradeoffPoint] = (),
) -> Figure:
    points = tradeoff_points(
        [(model.card.settings, cost(model), score) for model, score in scores], over=line
    )
    datasets, splits = (
        {dataset_title(score.dataset) for _, score in scores},
        {score.split for _, score in scores},
    )
    images = ", ".join([*sorted(datasets), *sorted(splits)])
    return draw_points(points, published, title=f"{images}: {title}", axis=axis)


def _num_parameters(model: LoadedModel) -> float:
    return count_parameters(model.card.settings.arch, model.card.settings.network)


def _seconds_of_training(model: LoadedModel) -> float:
    run = run_of_checkpoint(model.path)
    if run is None:
        raise SettingsError(
            f"The training time of {model.path} is unknown.",
            why="The file is not in a run's directory, where metrics.csv holds the time.",
            fix="Name runs, or draw accuracy against parameters: --kind frontier",
        )
    return training_seconds(read_metrics(run))


@mpl.rc_context(STYLE)
def draw_points(
    points: Sequence[TradeoffPoint], published: Sequence[TradeoffPoint], *, title: str, axis: str
) -> Figure:
    """Accuracy in % against `axis`: points of one name joined, with error bars of one SD.

    Both axes are logarithmic, that of the accuracy in the error rate. A single point is stated.

    Args:
        points: at least one.
        published: shown as numbered gray crosses, which the legend names.
        title: of the figure.
        axis: the label of the horizontal axis.
    """
    if len(points) + len(published) == 1:
        (point,) = points
        cost = f"{point.cost:,.0f}" if point.cost >= 100 else f"{point.cost:.3g}"
        result = f"{point.name}: {100 * point.mean:.2f} %, {axis} {cost}"
        return empty_figure(title, f"{result}.\nA second point makes it a comparison.")
    figure = Figure(figsize=(7.2, 4))
    ax = figure.add_subplot()
    figure.suptitle(wrap_heading(title, 7.2), x=0.01, ha="left", fontsize=10)
    legend: dict[str, Line2D] = {}
    for number, name in enumerate(dict.fromkeys(point.name for point in points)):
        line = [point for point in points if point.name == name]
        legend[_line_label(name, line)] = _draw_line(ax, line, number)
    for number, point in enumerate(published, start=1):
        # Names would overlap in the plot.
        position = (point.cost, _error_percent(point))
        ax.plot(*position, **CROSS)
        ax.annotate(
            str(number), position, (5, 0), textcoords="offset points", color=GRAY, va="center"
        )
        label = f"{number}  {point.cost:,.0f}: {100 * point.mean:.2f} %, {point.name}"
        legend[label] = Line2D([], [], **CROSS)
    _set_axes(ax, [*points, *published], axis=axis)
    longest = max(text_width_inches(label, 8) for label in legend)
    columns = max(1, int(7.2 / (longest + 0.5)))
    figure.set_figheight(3.9 + 0.18 * math.ceil(len(legend) / columns))
    figure.legend(legend.values(), legend.keys(), loc="outside lower left", ncols=columns)
    return figure


def _line_label(name: str, line: Sequence[TradeoffPoint]) -> str:
    sizes = sorted({len(point.accuracies) for point in line})
    count = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    return f"{name}, {'mean ± SD, ' if sizes[-1] > 1 else ''}{count}"


def _draw_line(ax: Axes, points: Sequence[TradeoffPoint], number: int) -> Line2D:
    """Draw the points of one name with their error bars; returns their legend entry."""
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    costs = [point.cost for point in points]
    errors = [_error_percent(point) for point in points]
    bars = [_error_bar(point) for point in points]
    # NaN draws no bar.
    below = [error - low or math.nan for error, (low, _) in zip(errors, bars, strict=True)]
    above = [high - error or math.nan for error, (_, high) in zip(errors, bars, strict=True)]
    ax.errorbar(costs, errors, (below, above), ls="", color=color, lw=1.2, capsize=2.5)
    ax.plot(costs, errors, color=color, lw=1.2, marker=marker, **MARK)
    return Line2D([], [], color=color, marker=marker, lw=1.2, **MARK)


def _error_percent(point: TradeoffPoint) -> float:
    """The mean error rate in %, at least half an error in 10,000: a log scale has no 0."""
    return max(100 * (1 - point.mean), 0.005)


def _error_bar(point: TradeoffPoint) -> tuple[float, float]:
    """The ends of a point's error bar, in % of errors; both the point itself without an SD."""
    error, deviation = _error_percent(point), 100 * (point.deviation or 0)
    # Positive, for the log scale.
    return max(error - deviation, 0.1 * error), error + deviation


def _set_axes(ax: Axes, points: Sequence[TradeoffPoint], *, axis: str) -> None:
    """Scale, limit and label both axes."""
    ax.set(xlabel=axis, ylabel="accuracy (%)", xscale="log", yscale="log")
    costs = [point.cost for point in points]
    ends = [end for point in points for end in _error_bar(point)]
    ax.set_xlim(min(costs) / 1.5, max(costs) * 1.5)
    ax.set_ylim(max(ends) * 1.4, min(ends) / 1.4)
    ax.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if max(costs) < 300 * min(costs) else (1,))
    )
    is_narrow = max(ends) < 20 * min(ends)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7) if is_narrow else (1, 2, 5)))
    for each in (ax.xaxis, ax.yaxis):
        each.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 - value:.6g}"))
    ax.grid(axis="y")
