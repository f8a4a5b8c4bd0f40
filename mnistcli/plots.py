"""Records and arrays become matplotlib figures. Draws on no screen and never loads torch.

Every figure is built and saved under `STYLE`, without pyplot: a person's own
matplotlib settings stay as they are, and the same input gives the same bytes.

Shapes: N images, H rows, W columns, K classes.
"""

import io
import itertools
import math
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mnistcli.errors import RunError, SettingsError
from mnistcli.files import write_atomically
from mnistcli.frontier import Point
from mnistcli.metrics import EpochResult, Mistake, best, class_scores

FORMATS: Final = ("png", "svg", "pdf")

INK, GREY, PALE, FAINT = "#1a1a1a", "#6b6b6b", "#e6e6e6", "#f7f7f7"
BLUE, VERMILLION = "#0072b2", "#d55e00"
# Okabe and Ito's palette without its yellow, which vanishes on white, then five of Paul Tol's
# "muted". No twelve colours stay apart for every eye, so each run has a marker shape too.
COLOURS: Final = (
    *(BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    *("#882255", "#999933", "#332288", "#44aa99", "#888888"),
)
MARKERS: Final = ("o", "s", "^", "D", "v", "<", ">")
MARK: Final[dict[str, Any]] = {"ms": 6.5, "mec": "white", "mew": 0.8, "zorder": 3}
CROSS: Final[dict[str, Any]] = {"ls": "", "marker": "x", "ms": 5, "mew": 1.2, "color": GREY}
CENTRED: Final[dict[str, Any]] = {"ha": "center", "va": "center"}

STYLE: Final[dict[Any, Any]] = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    **{f"figure.constrained_layout.{side}_pad": 0.08 for side in "hw"},  # inches
    "savefig.facecolor": "white",
    "savefig.bbox": "standard",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 9,
    "text.color": INK,
    "text.usetex": False,
    "text.parse_math": False,  # a run may be called "$5"
    "axes.facecolor": "white",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.formatter.useoffset": False,
    **{f"{axis}tick.color": GREY for axis in "xy"},
    **{f"{axis}tick.labelcolor": INK for axis in "xy"},
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.6,
    "svg.hashsalt": "mnistcli",
    "pdf.fonttype": 42,  # journals refuse Type 3 fonts
}

# The accuracy axis reaches down to so many times the error of the worst curve at its best:
# at 99.5 % it starts at 98.5 %. Lower, and a first epoch at 60 % would flatten all that matters.
REACH: Final = 3


@dataclass(frozen=True)
class Run:
    """The epochs of one run as float64 columns; accuracies in %, NaN where there is none.

    `best` is the index of the epoch that was kept, None without a validation split.
    """

    name: str
    epoch: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    train_percent: NDArray[np.float64]
    val_loss: NDArray[np.float64]
    val_percent: NDArray[np.float64]
    best: int | None

    @classmethod
    def read(cls, name: str, epochs: Sequence[EpochResult]) -> "Run":
        """The columns of `epochs`, which are not empty."""
        rows = [
            (e.epoch, e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy) for e in epochs
        ]
        # None becomes NaN on the way to float.
        epoch, train_loss, train, val_loss, val = np.array(rows, dtype=float).T
        kept = None if np.isnan(val).all() else list(epochs).index(best(epochs))
        return cls(name, epoch, train_loss, 100 * train, val_loss, 100 * val, kept)

    @property
    def label(self) -> str:
        """The best validation accuracy, then the name, its middle cut out of a long one."""
        name = self.name if len(self.name) <= 48 else f"{self.name[:23]} … {self.name[-22:]}"
        return name if self.best is None else f"{self.val_percent[self.best]:.2f} %  {name}"


@mpl.rc_context(STYLE)
def curves(histories: Mapping[str, Sequence[EpochResult]]) -> Figure:
    """Loss (left, logarithmic) and accuracy in % (right) over the epochs of one or more runs.

    Validation is solid, training dashed and lighter, one colour a run; a marker
    sits on the epoch with the best validation accuracy. The accuracy axis may
    begin above the first epochs (see `REACH`); a note over the panel then says
    how far down they go.

    Args:
        histories: the epochs of each run by the run's name. Runs without an
            epoch are left out; one run must have some.
    """
    runs = [Run.read(name, epochs) for name, epochs in histories.items() if epochs]
    width = 7.2
    longest = max(_inches(run.label, 8) for run in runs)
    columns = min(len(runs), max(1, int(width / (longest + 0.5))))
    rows = math.ceil(len(runs) / columns) if len(runs) > 1 else 0
    figure = Figure(figsize=(width, 3.1 + 0.18 * rows))
    left, right = figure.subplots(1, 2)
    bold = 1 if len(runs) <= 4 else 0.7
    marks = [_draw_run(left, right, run, number, bold=bold) for number, run in enumerate(runs)]
    _finish_loss(left, runs)
    _finish_accuracy(right, runs)
    figure.legend(handles=_line_kinds(runs), loc="outside upper left", ncols=3)
    if len(runs) > 1:
        labels = [run.label for run in runs]
        figure.legend(marks, labels, loc="outside lower left", ncols=columns)
    return figure


def _draw_run(left: Axes, right: Axes, run: Run, number: int, *, bold: float) -> Line2D:
    """Draw the curves of a run and mark its best epoch; returns what a legend shows for it."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    dot = "." if len(run.epoch) <= 12 else ""
    panels = ((left, run.train_loss, run.val_loss), (right, run.train_percent, run.val_percent))
    for ax, train, val in panels:
        ax.plot(run.epoch, train, "--", color=colour, alpha=0.6 * bold, lw=bold, marker=dot)
        if run.best is not None:
            ax.plot(run.epoch, val, "-", color=colour, lw=1.5 * bold, marker=dot)
            ax.plot(run.epoch[run.best], val[run.best], color=colour, ls="", marker=marker, **MARK)
    return Line2D([], [], color=colour, marker=marker if run.best is not None else "", **MARK)


def _line_kinds(runs: Sequence[Run]) -> list[Line2D]:
    """What solid, dashed and the marker mean: in the colour of a single run, grey for several."""
    colour = COLOURS[0] if len(runs) == 1 else GREY
    training = Line2D([], [], ls="--", lw=1, color=colour, alpha=0.6, label="training")
    if all(run.best is None for run in runs):
        return [training]
    validation = Line2D([], [], lw=1.5, color=colour, label="validation")
    label, run = "best validation epoch", runs[0]
    if len(runs) == 1 and run.best is not None:
        label = f"best: {run.val_percent[run.best]:.2f} % in epoch {run.epoch[run.best]:.0f}"
    best = Line2D([], [], ls="", color=colour, marker=MARKERS[0], label=label, **MARK)
    return [validation, training, best]


def _finish_panel(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left")
    ax.set_xlabel("epoch")
    ax.grid(axis="y")
    ax.autoscale_view()
    first, last = ax.dataLim.intervalx
    pad = 0.03 * (last - first) or 0.5
    ax.set_xlim(first - min(pad, 0.9), last + pad)  # no tick at an epoch 0
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def _finish_loss(ax: Axes, runs: Sequence[Run]) -> None:
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


def _finish_accuracy(ax: Axes, runs: Sequence[Run]) -> None:
    """Limits that keep the last tenths of a percent legible, and a note on what they hide."""
    _finish_panel(ax, "accuracy (%)")
    curves = [curve for run in runs for curve in (run.train_percent, run.val_percent)]
    curves = [curve[~np.isnan(curve)] for curve in curves if not np.isnan(curve).all()]
    points = np.concatenate(curves)
    worst_peak = min(curve.max() for curve in curves)
    # At least one point of accuracy, or a curve that ends at 100 % would hide all others.
    low = max(points.min(), min(100 - REACH * (100 - worst_peak), points.max() - 1))
    span = points.max() - low
    pad = max(0.05 * span, 0.1) if span else 0.5
    ax.set_ylim(low - pad, min(points.max(), 100) + pad)
    hidden = points[points < low - pad]
    if hidden.size:
        note = f"points down to {hidden.min():.1f} % cut off"
        ax.set_title(note, loc="right", color=GREY, fontsize=8)


@mpl.rc_context(STYLE)
def frontier(points: Sequence[Point], *, beside: Sequence[Point] = (), title: str) -> Figure:
    """Accuracy in % against parameters: each recipe a line over its sizes, bars of one SD.

    Both axes are logarithmic, the accuracy's in the errors: halving them is one
    step everywhere.

    Args:
        points: what was judged; at least one.
        beside: what others have published, in grey by number.
        title: on which images.
    """
    figure = Figure(figsize=(7.2, 4))
    ax = figure.add_subplot()
    figure.suptitle(_wrapped(title, 7.2), x=0.01, ha="left", fontsize=10)
    marks: dict[str, Line2D] = {}
    for number, name in enumerate(dict.fromkeys(each.name for each in points)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        mine = [each for each in points if each.name == name]
        sizes = [each.num_params for each in mine]
        errors = [_error_percent(each) for each in mine]
        spread = [100 * (each.deviation or math.nan) for each in mine]
        # A bar to below no errors has no place on a logarithmic axis.
        lower = [min(sd, 0.9 * error) for sd, error in zip(spread, errors, strict=True)]
        ax.errorbar(sizes, errors, (lower, spread), ls="", color=colour, lw=1.2, capsize=2.5)
        ax.plot(sizes, errors, color=colour, lw=1.2, marker=marker, **MARK)
        seeds = sorted({len(each.accuracies) for each in mine})
        count = f"n = {seeds[0]}" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]}"
        label = f"{name}, {'mean ± SD, ' if seeds[-1] > 1 else ''}{count}"
        marks[label] = Line2D([], [], color=colour, marker=marker, lw=1.2, **MARK)
    for number, each in enumerate(beside, start=1):
        # Their names would run into each other, so that they stand below, by number.
        place = (each.num_params, _error_percent(each))
        ax.plot(*place, **CROSS)
        ax.annotate(str(number), place, (5, 0), textcoords="offset points", color=GREY, va="center")
        label = f"{number}  {each.num_params:,}: {100 * each.mean:.2f} %, {each.name}"
        marks[label] = Line2D([], [], **CROSS)
    _finish_frontier(ax, [*points, *beside])
    longest = max(_inches(label, 8) for label in marks)
    columns = max(1, int(7.2 / (longest + 0.5)))
    figure.set_figheight(3.9 + 0.18 * math.ceil(len(marks) / columns))
    figure.legend(marks.values(), marks.keys(), loc="outside lower left", ncols=columns)
    return figure


def _error_percent(point: Point) -> float:
    """The mean share of errors in %; of none, half an error in 10,000, which has a logarithm."""
    return max(100 * (1 - point.mean), 0.005)


def _finish_frontier(ax: Axes, points: Sequence[Point]) -> None:
    ax.set_xlabel("parameters")
    ax.set_ylabel("accuracy (%)")
    ax.set(xscale="log", yscale="log")
    errors = [_error_percent(each) for each in points]
    sizes = [each.num_params for each in points]
    ax.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    ax.set_ylim(max(errors) * 1.4, min(errors) / 1.4)
    ax.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if max(sizes) < 300 * min(sizes) else (1,))
    )
    is_near = max(errors) < 20 * min(errors)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7) if is_near else (1, 2, 5)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 - value:.6g}"))
    ax.grid(axis="y")


@mpl.rc_context(STYLE)
def confusion(counts_KK: NDArray[np.int64], *, classes: Sequence[str], title: str) -> Figure:
    """A confusion matrix in which the errors have the colours to themselves.

    Args:
        counts_KK: int64 (K, K); row is the true class, column the predicted one.
        classes: K names.
        title: what was judged, and on which images.
    """
    num, longest = len(classes), max(_inches(name, 9) for name in classes)
    side = min(max(0.46 * num, 2.5), 12)
    is_slanted = longest > 0.9 * side / num
    below = 0.9 + 0.7 * longest if is_slanted else 1
    figure = Figure(figsize=(side + 1.3 + longest, side + below))
    ax = figure.add_subplot(aspect="equal")
    figure.suptitle(_wrapped(title, figure.get_figwidth()), x=0.01, ha="left", fontsize=10)
    _draw_cells(ax, counts_KK, font_size=min(8.5, 19 * side / num))
    ax.invert_yaxis()
    recall = ax.secondary_yaxis("right")
    middles = np.arange(num) + 0.5
    ax.set_xticks(middles, classes)
    if is_slanted:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(middles, classes)
    scores = class_scores(counts_KK, tuple(classes))
    # A dash for a class without images, which has no recall.
    recall.set_yticks(middles, [f"{100 * s.recall:.1f}" if s.num_images else "—" for s in scores])
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    recall.set_ylabel("recall (%)", rotation=270, va="bottom")
    for axes in (ax, recall):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure


def _draw_cells(ax: Axes, counts_KK: NDArray[np.int64], *, font_size: float) -> None:
    """The cells with their counts: errors on a scale of their own, right answers in one grey."""
    is_right_KK = np.eye(len(counts_KK), dtype=bool)
    errors_KK = np.ma.masked_where(is_right_KK | (counts_KK == 0), counts_KK)
    # Where the worst cell holds one error, it should not look like a disaster.
    scale = Normalize(0, max(4, int(np.where(is_right_KK, 0, counts_KK).max())))
    ax.pcolormesh(is_right_KK, cmap=ListedColormap([FAINT, PALE]), edgecolors="white", lw=0.8)
    mesh = ax.pcolormesh(errors_KK, cmap="Oranges", norm=scale, edgecolors="white", lw=0.8)
    mesh.set_gid("errors")
    for row, column in np.argwhere(counts_KK):
        count = int(counts_KK[row, column])
        colour = "white" if row != column and scale(count) > 0.7 else INK
        place = (column + 0.5, row + 0.5)
        ax.text(*place, str(count), color=colour, fontsize=font_size, **CENTRED)


@mpl.rc_context(STYLE)
def mistakes(
    images_NHW: NDArray[np.uint8],
    misread: Sequence[Mistake],
    *,
    classes: Sequence[str],
    title: str,
    total: int,
) -> Figure:
    """Images read wrongly, in the order given: most confident first.

    Over each stands "true → predicted", under it the probabilities of the
    predicted and of the true class.

    Args:
        images_NHW: uint8 (N, H, W), 0 background to 255 ink; N may be 0.
        misread: what each was and what it was taken for.
        classes: K names.
        title: what was judged, and on which images.
        total: mistakes made in all, N or more.
    """
    if not len(images_NHW):
        none = (
            f"None of {total:,} mistakes is shown." if total else "No mistakes: all read correctly."
        )
        return _nothing(title, none)
    captions = [f"{classes[each.label]} → {classes[each.predicted]}" for each in misread]
    notes = [
        [
            f"{classes[each.predicted]}  {100 * each.probability:.1f} %",
            f"{classes[each.label]}  {100 * each.label_probability:.1f} %",
        ]
        for each in misread
    ]
    num = len(captions)
    count = "The most" if num == 1 else f"The {num} most"
    which = f"{count} confident of {total:,} mistakes" if num < total else "Every mistake"
    heading = f"{title}\n{which}: true → predicted"
    return _picture_grid(images_NHW, captions, heading=heading, widest=6, notes=notes)


@mpl.rc_context(STYLE)
def samples(
    images_NHW: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    *,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Images with their classes, row by row in the order given.

    Args:
        images_NHW: uint8 (N, H, W), 0 background to 255 ink; N may be 0.
        labels_N: classes in 0..K-1.
        classes: K names.
        title: which images these are.
    """
    if not len(images_NHW):
        return _nothing(title, "No images.")
    captions = [classes[label] for label in labels_N]
    return _picture_grid(images_NHW, captions, heading=title, widest=10)


def _picture_grid(
    images_NHW: NDArray[np.uint8],
    captions: Sequence[str],
    *,
    heading: str,
    widest: int,
    notes: Sequence[Sequence[str]] = (),
) -> Figure:
    """Images in cells of one size, captions above, notes below.

    Laid out by hand, in inches: matplotlib's layout engine takes seconds for a
    hundred images and spaces them unevenly.
    """
    longest = max(_inches(text, 9) for text in [*captions, *itertools.chain(*notes)])
    cell_width, cell_height = max(0.95, longest + 0.15), 1.42 if notes else 1.12
    columns = _num_columns(len(captions), widest)
    rows = math.ceil(len(captions) / columns)
    width = max(columns * cell_width + 0.1, 4.5)
    heading = _wrapped(heading, width)
    height = rows * cell_height + 0.17 * (heading.count("\n") + 1) + 0.2
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    figure.text(0.1 / width, 1 - 0.08 / height, heading, va="top", fontsize=10)
    for n, (image_HW, caption) in enumerate(zip(images_NHW, captions, strict=True)):
        x = 0.05 + (n % columns + 0.5) * cell_width - 0.4
        y = 0.05 + (rows - n // columns) * cell_height - 1.07
        ax = figure.add_axes((x / width, y / height, 0.8 / width, 0.8 / height))
        _draw_picture(ax, image_HW, caption, notes[n] if notes else ())
    return figure


def _draw_picture(
    ax: Axes, image_HW: NDArray[np.uint8], caption: str, notes: Sequence[str]
) -> None:
    """One image, dark ink on white."""
    ax.imshow(image_HW, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(caption, pad=3)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=PALE)
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    for note, colour, y in zip(notes, (VERMILLION, BLUE), (-3, -13), strict=False):
        ax.annotate(note, (0.5, 0), (0, y), ha="center", va="top", size=8, color=colour, **below)


def _num_columns(num: int, widest: int) -> int:
    """The number of columns, at most `widest`, that leaves the fewest empty cells."""
    if num <= widest // 2:
        return num
    return min(range(widest, widest // 2 - 1, -1), key=lambda columns: -num % columns)


def _inches(text: str, size: float) -> float:
    """The width of a line of text in the figures' font, `size` in points."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72 if text else 0.0


def _wrapped(heading: str, width: float) -> str:
    """A heading whose lines are broken where they would leave a figure `width` inches wide."""
    pieces = []
    for line in heading.splitlines():
        share = 0.95 * (width - 0.2) / (_inches(line, 10) or 1)
        pieces += textwrap.wrap(line, max(1, int(len(line) * share))) if share < 1 else [line]
    return "\n".join(pieces)


def _nothing(heading: str, message: str) -> Figure:
    figure = Figure(figsize=(4.5, 1.2))
    figure.suptitle(_wrapped(heading, 4.5), x=0.02, ha="left", fontsize=10)
    figure.text(0.5, 0.35, message, color=GREY, **CENTRED)
    return figure


def pick_format(target: Path | BinaryIO, *, format: str | None = None) -> str:  # noqa: A002
    """The format asked for, else the one that the suffix of a path names, else png.

    Raises:
        SettingsError: it is none of `FORMATS`.
    """
    suffix = target.suffix[1:] if isinstance(target, Path) else "png"
    chosen = (suffix if format is None else format).lower()
    if chosen in FORMATS:
        return chosen
    raise SettingsError(
        f"Cannot draw '{chosen}' files." if chosen else f"Cannot tell the format of '{target}'.",
        why="Pictures are written as png, svg or pdf.",
        fix="End the file name in .png, .svg or .pdf.",
    )


@mpl.rc_context(STYLE)
def save(figure: Figure, target: Path | BinaryIO, *, format: str | None = None) -> None:  # noqa: A002
    """Write a figure as png (200 dpi), svg or pdf; the same figure gives the same bytes.

    A path appears complete or not at all: an older file stays until the new one
    is whole. Without a format, the suffix of the path says which, and a stream
    gets png.

    Raises:
        SettingsError: the format is none of `FORMATS`.
        RunError: the target cannot be written.
    """
    chosen = pick_format(target, format=format)
    # No dates. Through memory, because a pipe cannot tell its position and pdf asks for it.
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    picture = io.BytesIO()
    figure.savefig(picture, format=chosen, dpi=200, metadata=undated[chosen])
    try:
        if isinstance(target, Path):
            write_atomically(target, lambda handle: handle.write(picture.getvalue()))
        else:
            target.write(picture.getvalue())
            target.flush()
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(target: Path | BinaryIO, error: OSError) -> RunError:
    fix = "Write to another place."
    if isinstance(target, Path) and not target.parent.exists():
        fix = f"Make the directory first: mkdir -p {shlex.quote(str(target.parent))}"
    place = target if isinstance(target, Path) else "the output"
    return RunError(f"Cannot write the picture to {place}.", why=f"{error.strerror}.", fix=fix)
