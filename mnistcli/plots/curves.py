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

from mnistcli.plots.style import COLORS, GRAY, MARK, MARKERS, STYLE, text_width_inches, wrap_heading
from mnistcli.runs.history import EpochResult, best_epoch

# The accuracy axis reaches down to so many times the error of the worst curve at its best:
# at 99.5 % it starts at 98.5 %. Lower, and a first epoch at 60 % would flatten all that matters.
AXIS_ERROR_FACTOR: Final = 3
# In inches: of a figure, and of the learning rate in it.
WIDTH: Final = 7.2
RATE_HEIGHT: Final = 0.95
# How opaque a band is.
BAND_ALPHA: Final = 0.2


@dataclass(frozen=True)
class Curve:
    """The epochs of one run as float64 columns; accuracies in %, NaN where there is none.

    `best` is the index of the epoch that was kept, None without a validation
    split. Of several seeds or folds, the columns are their means; `spread` are
    the standard deviations of `val_loss` and `val_percent`, and `peaks` each
    one's best validation accuracy.
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
        """The means of at least two histories, over the epochs that all have."""
        common = min(len(epochs) for epochs in histories)
        runs = [cls.read(name, epochs[:common]) for epochs in histories]

        def stacked(column: str) -> NDArray[np.float64]:
            return np.array([getattr(run, column) for run in runs])

        peaks = tuple(itertools.chain(*(cls.read(name, epochs).peaks for epochs in histories)))
        epoch, lr, train_loss, train, val_loss, val = (
            stacked(column).mean(axis=0) for column in _COLUMNS
        )
        # As `metrics.best` decides between equal accuracies.
        best = int(np.lexsort((val_loss, -val))[0]) if peaks else None
        spread = (
            stacked("val_loss").std(axis=0, ddof=1),
            stacked("val_percent").std(axis=0, ddof=1),
        )
        name = f"{name}, n = {len(histories)}"
        return cls(name, epoch, lr, train_loss, train, val_loss, val, best, peaks, spread)

    @property
    def bands(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """From where to where `val_loss` and `val_percent` are spread; empty of one run."""
        if not (self.peaks and self.spread):
            return []
        loss, percent = self.spread
        return [
            # A band down to no loss has no place on a logarithmic axis.
            (np.maximum(self.val_loss - loss, 0.1 * self.val_loss), self.val_loss + loss),
            (self.val_percent - percent, np.minimum(self.val_percent + percent, 100)),
        ]

    @property
    def label(self) -> str:
        """The best validation accuracy, then the name, its middle cut out of a long one."""
        name = self.name if len(self.name) <= 48 else f"{self.name[:23]} … {self.name[-22:]}"
        if not self.peaks:
            return name
        if self.spread:
            return f"best epochs: {fmean(self.peaks):.2f} ± {stdev(self.peaks):.2f} %  {name}"
        return f"{self.peaks[0]:.2f} %  {name}"


_COLUMNS = ("epoch", "lr", "train_loss", "train_percent", "val_loss", "val_percent")


@mpl.rc_context(STYLE)
def curves(histories: Mapping[str, Sequence[EpochResult]]) -> Figure:
    """Loss (left, logarithmic) and accuracy in % (right) over the epochs of one or more runs.

    Validation is solid, training dashed and lighter, one color a run; a marker
    sits on the epoch with the best validation accuracy. The accuracy axis may
    begin above the first epochs (see `REACH`); a note over the panel then says
    how far down they go. Below a single run stands its learning rate.

    Args:
        histories: the epochs of each run by the run's name. Runs without an
            epoch are left out; one run must have some.
    """
    return _figure([Curve.read(name, epochs) for name, epochs in histories.items() if epochs])


@mpl.rc_context(STYLE)
def curves_with_spread(series: Mapping[str, Sequence[Sequence[EpochResult]]]) -> Figure:
    """The curves of runs that were repeated by seed or fold: their means, as `curves` draws them.

    Validation has a band of one standard deviation (of the sample) to both
    sides. A mean ends with the shortest of its runs.

    Args:
        series: the epochs of each run, by what the runs have in common. None
            is without an epoch; a single one is drawn as it is.
    """
    return _figure(
        [
            Curve.read(name, histories[0]) if len(histories) == 1 else Curve.mean(name, histories)
            for name, histories in series.items()
        ]
    )


def _figure(runs: Sequence[Curve]) -> Figure:
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
    # The title of the legend, which a title of the figure would be drawn over.
    title = {"title": wrap_heading(runs[0].name, WIDTH), "title_fontsize": 10} if is_single else {}
    kinds = _line_kinds(runs)
    figure.legend(handles=kinds, loc="outside upper left", ncols=4, alignment="left", **title)
    if rows:
        labels = [run.label for run in runs]
        figure.legend(marks, labels, loc="outside lower left", ncols=columns)
    return figure


def _draw_rate(ax: Axes, run: Curve) -> None:
    """The learning rate as each epoch began."""
    dot = "." if len(run.epoch) <= 12 else ""
    ax.plot(run.epoch, run.lr, color=GRAY, lw=1, marker=dot)
    _finish_panel(ax, "learning rate")
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_run(left: Axes, right: Axes, run: Curve, number: int, *, bold: float) -> Line2D:
    """Draw the curves of a run and mark its best epoch; returns what a legend shows for it."""
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
    """What lines, bands and markers mean: in the color of a single run, grey for several."""
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
    ax.set_xlim(first - min(pad, 0.9), last + pad)  # no tick at an epoch 0
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def _finish_loss(ax: Axes, runs: Sequence[Curve]) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5; a linear one where a loss is 0."""
    _finish_panel(ax, "loss (nats)")
    losses = np.concatenate([[*run.train_loss, *run.val_loss] for run in runs])
    low, high = np.nanmin(losses), np.nanmax(losses)
    if low <= 0:
        ax.set_ylim(bottom=0)
        return
    # At least a factor of 6 from bottom to top holds two of the ticks.
    room = max(1.15, math.sqrt(6 * low / high))
    ax.set_yscale("log")
    ax.set_ylim(low / room, high * room)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _finish_accuracy(ax: Axes, runs: Sequence[Curve]) -> None:
    """Limits that keep the last tenths of a percent legible, and a note on what they hide."""
    _finish_panel(ax, "accuracy (%)")
    curves = [curve for run in runs for curve in (run.train_percent, run.val_percent)]
    curves = [curve[~np.isnan(curve)] for curve in curves if not np.isnan(curve).all()]
    bands = [high for run in runs for _, high in run.bands[1:]]
    points = np.concatenate([*curves, *bands])
    worst_peak = min(curve.max() for curve in curves)
    # At least one point of accuracy, or a curve that ends at 100 % would hide all others.
    low = max(points.min(), min(100 - AXIS_ERROR_FACTOR * (100 - worst_peak), points.max() - 1))
    span = points.max() - low
    pad = max(0.05 * span, 0.1) if span else 0.5
    ax.set_ylim(low - pad, min(points.max(), 100) + pad)
    hidden = points[points < low - pad]
    if hidden.size:
        note = f"points down to {hidden.min():.1f} % cut off"
        ax.set_title(note, loc="right", color=GRAY, fontsize=8)
