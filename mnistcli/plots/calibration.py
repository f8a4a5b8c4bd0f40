"""Reliability diagrams."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mnistcli.evaluation.calibration import ConfidenceBin, expected_calibration_error
from mnistcli.evaluation.metrics import wilson_interval
from mnistcli.plots.style import (
    BLUE,
    GRAY,
    MARK,
    STYLE,
    wrap_heading,
)


@mpl.rc_context(STYLE)
def calibration(bins: Sequence[ConfidenceBin], *, title: str) -> Figure:
    """Accuracy against confidence, bin by bin, over the number of images in each.

    A point lies at the mean confidence of its bin, with the 95 % Wilson interval
    of its accuracy: a bin of few images says little. A network that is as sure
    as it is right has its points on the diagonal.

    Args:
        bins: of equal width, what `calibration.confidence_bins` gave.
        title: what was judged, and on which images.
    """
    figure = Figure(figsize=(4.8, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    heading = f"{title}\nexpected calibration error {100 * expected_calibration_error(bins):.2f} %"
    figure.suptitle(wrap_heading(heading, 4.8), x=0.02, ha="left", fontsize=10)
    filled = [each for each in bins if each.num_images]
    _draw_reliability(upper, filled)
    width = 100 / len(bins)
    middles = [width * (k + 0.5) for k, each in enumerate(bins) if each.num_images]
    counts = [each.num_images for each in filled]
    lower.bar(middles, counts, 0.9 * width, color=GRAY)
    lower.set(xlabel="confidence (%)", ylabel="images", yscale="log", ylim=(0.7, 2 * max(counts)))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def _draw_reliability(ax: Axes, bins: Sequence[ConfidenceBin]) -> None:
    """A point a bin with its interval, and the diagonal."""
    confidence = [100 * each.confidence for each in bins]
    accuracy = [100 * each.accuracy for each in bins]
    intervals = [
        wilson_interval(round(each.accuracy * each.num_images), each.num_images) for each in bins
    ]
    below = [max(0, share - 100 * low) for share, (low, _) in zip(accuracy, intervals, strict=True)]
    above = [
        max(0, 100 * high - share) for share, (_, high) in zip(accuracy, intervals, strict=True)
    ]
    ax.plot([0, 100], [0, 100], "--", color=GRAY, lw=1, label="as sure as right")
    ax.errorbar(confidence, accuracy, (below, above), ls="", color=BLUE, lw=1.2, capsize=2.5)
    ax.plot(
        confidence, accuracy, color=BLUE, ls="", marker="o", label="a bin, 95 % interval", **MARK
    )
    ax.set(ylabel="accuracy (%)", xlim=(0, 102), ylim=(-3, 104))
    ax.grid(axis="y")
