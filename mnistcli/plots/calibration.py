"""Reliability diagrams."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mnistcli.evaluation.calibration import ConfidenceBin, expected_calibration_error
from mnistcli.evaluation.metrics import wilson_interval
from mnistcli.evaluation.scores import Score
from mnistcli.plots.headings import score_heading, wrap_heading
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import BLUE, GRAY, MARK, STYLE


def draw_calibration(inputs: PlotInputs) -> Figure:
    """The reliability diagram of the named checkpoint."""
    return calibration(inputs.find_score())


@mpl.rc_context(STYLE)
def calibration(score: Score) -> Figure:
    """Accuracy against confidence for each bin, above the number of images in it.

    Each point is at the mean confidence of its bin, with the 95 % Wilson interval of its
    accuracy. Those of a perfectly calibrated network are on the diagonal.
    """
    ece_percent = 100 * expected_calibration_error(score.bins)
    figure = Figure(figsize=(4.8, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    heading = f"{score_heading(score)}\nexpected calibration error {ece_percent:.2f} %"
    figure.suptitle(wrap_heading(heading, 4.8), x=0.02, ha="left", fontsize=10)
    filled = [(k, each) for k, each in enumerate(score.bins) if each.num_images]
    _draw_reliability(upper, [each for _, each in filled])
    width = 100 / len(score.bins)
    middles = [width * (k + 0.5) for k, _ in filled]
    counts = [each.num_images for _, each in filled]
    lower.bar(middles, counts, 0.9 * width, color=GRAY)
    lower.set(xlabel="confidence (%)", ylabel="images", yscale="log", ylim=(0.7, 2 * max(counts)))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def _draw_reliability(ax: Axes, bins: Sequence[ConfidenceBin]) -> None:
    """Draw a point with its interval for each bin, and the diagonal."""
    confidence = [100 * each.confidence for each in bins]
    accuracy = [100 * each.accuracy for each in bins]
    intervals = [
        wilson_interval(round(each.accuracy * each.num_images), each.num_images) for each in bins
    ]
    below = [
        max(0, percent - 100 * low) for percent, (low, _) in zip(accuracy, intervals, strict=True)
    ]
    above = [
        max(0, 100 * high - percent) for percent, (_, high) in zip(accuracy, intervals, strict=True)
    ]
    ax.plot([0, 100], [0, 100], "--", color=GRAY, lw=1, label="perfect calibration")
    ax.errorbar(confidence, accuracy, (below, above), ls="", color=BLUE, lw=1.2, capsize=2.5)
    ax.plot(
        confidence, accuracy, color=BLUE, ls="", marker="o", label="bin with 95 % interval", **MARK
    )
    ax.set(ylabel="accuracy (%)", xlim=(0, 102), ylim=(-3, 104))
    ax.grid(axis="y")
