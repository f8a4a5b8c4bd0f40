"""Loss and accuracy over the epochs of runs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mnistcli.evaluation.pareto import group_repetitions, network_names
from mnistcli.plots.headings import empty_figure, text_width_inches, wrap_heading
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import COLORS, GRAY, MARK, MARKERS, STYLE
from mnistcli.runs.directory import Run, read_settings
from mnistcli.runs.find import display_names
from mnistcli.runs.history import EpochResult, best_epoch, read_metrics

# The accuracy axis begins at this multiple of the worst curve's lowest error: at 98.5 % where
# that curve reaches 99.5 %. Otherwise a first epoch at 60 % would flatten all others.
AXIS_ERROR_FACTOR: Final = 3
# Of the figure and of the panel with the learning rate, in inches.
WIDTH: Final = 7.2
RATE_HEIGHT: Final = 0.95
# Opacity.
BAND_ALPHA: Final = 0.2


@dataclass(frozen=True)
class Curve:
    """The epochs of a run as float64 columns, or the means of several runs.

    Accuracies are in %; validation figures are NaN without a validation set.

    Attributes:
        best: the index of the best epoch; None without a validation set.
        peaks: the best validation accuracy of each run, in %.
        spread: of several runs, the standard deviations of `val_loss` and `val_percent`.
    """

    name: str
    epoch: NDArray[np.float64]
    lr: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    train_percent: NDArray[np.float64]
    val_loss: NDArray[np.float64]
    val_percent: NDArray[np.float64]
    best: int | None
    peaks: tuple[float, ...]
    spread: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @classmethod
    def read(cls, name: str, epochs: Sequence[EpochResult]) -> "Curve":
        """The columns of `epochs`, which are not empty."""
        rows = [
            (e.epoch, e.lr, e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy)
            for e in epochs
        ]
        # None becomes NaN on the way to float.
        epoch, lr, train_loss, train, val_loss, val = np.array(rows, dtype=float).T
        kept = None if np.isnan(val).all() else list(epochs).index(best_epoch(epochs))
        peaks = () if kept is None else (100 * float(val[kept]),)
        return cls(name, epoch, lr, train_loss, 100 * train, val_loss, 100 * val, kept, peaks)

    @classmethod
    def mean(cls, name: str, histories: Sequence[Sequence[EpochResult]]) -> "Curve":
        """The means of two or more histories, up to the last epoch that all have."""
        common = min(len(epochs) for epochs in histories)
        runs = [cls.read(name, epochs[:common]) for epochs in histories]

        def stack(column: str) -> NDArray[np.float64]:
            return np.array([getattr(run, column) for run in runs])

        peaks = tuple(itertools.chain(*(cls.read(name, epochs).peaks for epochs in histories)))
        epoch, lr, train_loss, train, val_loss, val = (
            stack(column).mean(axis=0) for column in _COLUMNS
        )
        # Of equal accuracies the one with the lowest loss, as `best_epoch` decides.
        best = int(np.lexsort((val_loss, -val))[0]) if peaks else None
        spread = (
            stack("val_loss").std(axis=0, ddof=1),
            stack("val_percent").std(axis=0, ddof=1),
        )
        name = f"{name}, n = {len(histories)}"
        return cls(name, epoch, lr, train_loss, train, val_loss, val, best, peaks, spread)

    @property
    def bands(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The lower and upper edges of the bands of `val_loss` and `val_percent`, if any."""
        if not (self.peaks and self.spread):
            return []
        loss, percent = self.spread
        return [
            # Positive, for the log scale.
            (np.maximum(self.val_loss - loss, 0.1 * self.val_loss), self.val_loss + loss),
            (self.val_percent - percent, np.minimum(self.val_percent + percent, 100)),
        ]

    @property
    def label(self) -> str:
        """The best validation accuracy and the name, a long one without its middle."""
        name = self.name if len(self.name) <= 48 else f"{self.name[:23]} … {self.name[-22:]}"
        if not self.peaks:
            return name
        if self.spread:
            return f"best epochs: {fmean(self.peaks):.2f} ± {stdev(self.peaks):.2f} %  {name}"
        return f"{self.peaks[0]:.2f} %  {name}"


_COLUMNS = ("epoch", "lr", "train_loss", "train_percent", "val_loss", "val_percent")


def draw_curves(inputs: PlotInputs) -> Figure:
    """The curves of the named runs; those that repeat each other become one."""
    runs = dict(zip(display_names(inputs.runs), inputs.runs, strict=True))
    histories = {name: read_metrics(run) for name, run in runs.items()}
    if len(runs) == 1:
        return curves(histories)
    groups = _group_repetitions(runs)
    return seeds({name: [histories[each] for each in group] for name, group in groups.items()})


def _group_repetitions(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """The names of runs that differ in seed or fold alone, by a name for all of them.

    That is the network's name, or the first run's where another run has that name.
    """
    names, settings = list(runs), [read_settings(run) for run in runs.values()]
    groups = group_repetitions(settings)
    # A copy of a run is not in any group.
    copies = set(range(len(names))) - {*itertools.chain(*groups)}
    groups = sorted([*groups, *([index] for index in copies)])
    network_of_group = iter(network_names([settings[first] for first, *rest in groups if rest]))
    named_groups = {}
    for group in groups:
        name = names[group[0]]
        if len(group) > 1 and (network := next(network_of_group)) not in names:
            name = network
        named_groups[name] = [names[index] for index in group]
    return named_groups


@mpl.rc_context(STYLE)
def curves(histories: Mapping[str, Sequence[EpochResult]]) -> Figure:
    """Loss (left, logarithmic) and accuracy in % (right) by epoch, of one or more runs.

    Validation is solid, training dashed and lighter, one color per run; a marker shows the epoch
    with the best validation accuracy. The accuracy axis may cut off the first epochs (see
    `AXIS_ERROR_FACTOR`); a note above it then gives the lowest value. A single run has its
    learning rate below.

    Args:
        histories: the epochs of each run by its name. Runs without an epoch are left out; at
            least one has some.
    """
    return _draw([Curve.read(name, epochs) for name, epochs in histories.items() if epochs])


@mpl.rc_context(STYLE)
def seeds(series: Mapping[str, Sequence[Sequence[EpochResult]]]) -> Figure:
    """The mean curves of runs that were repeated by seed or fold, drawn as `curves` does.

    Validation has a band of one (sample) standard deviation to each side. A mean ends with the
    shortest of its runs.

    Args:
        series: the epochs of each run, at least one, by a name for all that repeat each other.
            The curves of a run without repetitions are its own.
    """
    return _draw(
        [
            Curve.read(name, histories[0]) if len(histories) == 1 else Curve.mean(name, histories)
            for name, histories in series.items()
        ]
    )


def _draw(runs: Sequence[Curve]) -> Figure:
    if all(len(run.epoch) == 1 for run in runs):
        return empty_figure("One epoch, which makes no curve", "\n".join(map(_only_epoch, runs)))
    is_single = len(runs) == 1 and not runs[0].spread
    longest = max(text_width_inches(run.label, 8) for run in runs)
    columns = min(len(runs), max(1, int(WIDTH / (longest + 0.5))))
    rows = 0 if is_single else math.ceil(len(runs) / columns)
    figure = Figure(figsize=(WIDTH, 3.1 + 0.18 * rows + (RATE_HEIGHT + 0.2) * is_single))
    grid = figure.add_gridspec(2 if is_single else 1, 2, height_ratios=[3, 1][: 1 + is_single])
    left, right = (figure.add_subplot(grid[0, column]) for column in range(2))
    bold = 1 if len(runs) <= 4 else 0.7
    marks = [_draw_run(left, right, run, number, bold=bold) for number, run in enumerate(runs)]
    _finish_loss(left, runs)
    _finish_accuracy(right, runs)
    if is_single:
        _draw_rate(figure.add_subplot(grid[1, :]), runs[0])
    # A title of the figure would overlap the legend, so it is the legend's title.
    title = {"title": wrap_heading(runs[0].name, WIDTH), "title_fontsize": 10} if is_single else {}
    kinds = _line_kinds(runs)
    figure.legend(handles=kinds, loc="outside upper left", ncols=4, alignment="left", **title)
    if rows:
        labels = [run.label for run in runs]
        figure.legend(marks, labels, loc="outside lower left", ncols=columns)
    return figure


def _only_epoch(run: Curve) -> str:
    """The figures of a run's only epoch in a line."""
    training = f"training {run.train_percent[0]:.2f} %, loss {run.train_loss[0]:.4f}"
    if run.best is None:
        return f"{run.name}: {training}"
    if run.spread:
        return run.label
    return (
        f"{run.name}: validation {run.val_percent[0]:.2f} %, loss {run.val_loss[0]:.4f}; {training}"
    )


def _draw_rate(ax: Axes, run: Curve) -> None:
    """Draw the learning rate at the start of each epoch."""
    dot = "." if len(run.epoch) <= 12 else ""
    ax.plot(run.epoch, run.lr, color=GRAY, lw=1, marker=dot)
    _finish_panel(ax, "learning rate")
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_run(left: Axes, right: Axes, run: Curve, number: int, *, bold: float) -> Line2D:
    """Draw the curves of a run and mark its best epoch; returns its legend entry."""
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    dot = "." if len(run.epoch) <= 12 else ""
    panels = ((left, run.train_loss, run.val_loss), (right, run.train_percent, run.val_percent))
    for ax, (low, high) in zip((left, right), run.bands, strict=False):
        ax.fill_between(run.epoch, low, high, color=color, alpha=BAND_ALPHA, lw=0)
    for ax, train, val in panels:
        ax.plot(run.epoch, train, "--", color=color, alpha=0.6 * bold, lw=bold, marker=dot)
        if run.best is not None:
            ax.plot(run.epoch, val, "-", color=color, lw=1.5 * bold, marker=dot)
            ax.plot(run.epoch[run.best], val[run.best], color=color, ls="", marker=marker, **MARK)
    return Line2D([], [], color=color, marker=marker if run.best is not None else "", **MARK)


def _line_kinds(runs: Sequence[Curve]) -> list[Line2D | Patch]:
    """Legend entries for lines, bands and markers: in a single run's color, else gray."""
    color = COLORS[0] if len(runs) == 1 else GRAY
    training = Line2D([], [], ls="--", lw=1, color=color, alpha=0.6, label="training")
    if all(run.best is None for run in runs):
        return [training]
    validation = Line2D([], [], lw=1.5, color=color, label="validation")
    band = Patch(color=color, alpha=BAND_ALPHA, lw=0, label="mean ± SD, n runs")
    label, run = "best validation epoch", runs[0]
    if len(runs) == 1 and run.best is not None and not run.spread:
        label = f"best: {run.val_percent[run.best]:.2f} % in epoch {run.epoch[run.best]:.0f}"
    best = Line2D([], [], ls="", color=color, marker=MARKERS[0], label=label, **MARK)
    return [validation, *([band] if any(run.spread for run in runs) else []), training, best]


def _finish_panel(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left")
    ax.set_xlabel("epoch")
    ax.grid(axis="y")
    ax.autoscale_view()
    first, last = ax.dataLim.intervalx
    pad = 0.03 * (last - first) or 0.5
    ax.set_xlim(first - min(pad, 0.9), last + pad)  # no tick at epoch 0
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def _finish_loss(ax: Axes, runs: Sequence[Curve]) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5; a linear one where a loss is 0."""
    _finish_panel(ax, "loss (nats)")
    losses = np.concatenate([[*run.train_loss, *run.val_loss] for run in runs])
    low, high = np.nanmin(losses), np.nanmax(losses)
    if low <= 0:
        ax.set_ylim(bottom=0)
        return
    # An axis over a factor of 6 has at least two ticks.
    room = max(1.15, math.sqrt(6 * low / high))
    ax.set_yscale("log")
    ax.set_ylim(low / room, high * room)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _finish_accuracy(ax: Axes, runs: Sequence[Curve]) -> None:
    """Limit the axis so that tenths of a percent stay legible; note what that cuts off."""
    _finish_panel(ax, "accuracy (%)")
    curves = [curve for run in runs for curve in (run.train_percent, run.val_percent)]
    curves = [curve[~np.isnan(curve)] for curve in curves if not np.isnan(curve).all()]
    bands = [high for run in runs for _, high in run.bands[1:]]
    points = np.concatenate([*curves, *bands])
    worst_peak = min(curve.max() for curve in curves)
    # At least one percentage point, or a curve that ends at 100 % would hide all others.
    low = max(points.min(), min(100 - AXIS_ERROR_FACTOR * (100 - worst_peak), points.max() - 1))
    span = points.max() - low
    pad = max(0.05 * span, 0.1) if span else 0.5
    ax.set_ylim(low - pad, min(points.max(), 100) + pad)
    hidden = points[points < low - pad]
    if hidden.size:
        note = f"points down to {hidden.min():.1f} % cut off"
        ax.set_title(note, loc="right", color=GRAY, fontsize=8)
