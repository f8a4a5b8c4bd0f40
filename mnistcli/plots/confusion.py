"""Confusion matrices.

Shapes: K classes.
"""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistcli.evaluation.scores import Score
from mnistcli.plots.headings import score_heading, text_width_inches, wrap_heading
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import CENTERED, FAINT, INK, PALE, STYLE


def draw_confusion(inputs: PlotInputs) -> Figure:
    """The confusion matrix of the named checkpoint."""
    return confusion(inputs.find_score())


@mpl.rc_context(STYLE)
def confusion(score: Score) -> Figure:
    """The confusion matrix with the recall of each class; only the errors are colored."""
    classes = [each.name for each in score.classes]
    num, longest = len(classes), max(text_width_inches(name, 9) for name in classes)
    side = min(max(0.46 * num, 2.5), 12)
    is_slanted = longest > 0.9 * side / num
    below = 0.9 + 0.7 * longest if is_slanted else 1
    figure = Figure(figsize=(side + 1.3 + longest, side + below))
    ax = figure.add_subplot(aspect="equal")
    heading = wrap_heading(score_heading(score), figure.get_figwidth())
    figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
    _draw_cells(ax, np.array(score.confusion), font_size=min(8.5, 19 * side / num))
    ax.invert_yaxis()
    recall = ax.secondary_yaxis("right")
    middles = np.arange(num) + 0.5
    ax.set_xticks(middles, classes)
    if is_slanted:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(middles, classes)
    # A class without images has no recall.
    recalls = [f"{100 * each.recall:.1f}" if each.num_images else "—" for each in score.classes]
    recall.set_yticks(middles, recalls)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    recall.set_ylabel("recall (%)", rotation=270, va="bottom")
    for axes in (ax, recall):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure


def _draw_cells(ax: Axes, counts_KK: NDArray[np.int64], *, font_size: float) -> None:
    """Draw the counts: errors on a color scale, correct predictions in gray.

    Args:
        ax: where to draw.
        counts_KK: int64 (K, K); rows are true classes, columns predicted ones.
        font_size: of the counts, in points.
    """
    is_correct_KK = np.eye(len(counts_KK), dtype=bool)
    errors_KK = np.ma.masked_where(is_correct_KK | (counts_KK == 0), counts_KK)
    # A single error should not get the strongest color.
    scale = Normalize(0, max(4, int(np.where(is_correct_KK, 0, counts_KK).max())))
    ax.pcolormesh(is_correct_KK, cmap=ListedColormap([FAINT, PALE]), edgecolors="white", lw=0.8)
    mesh = ax.pcolormesh(errors_KK, cmap="Oranges", norm=scale, edgecolors="white", lw=0.8)
    mesh.set_gid("errors")
    for row, column in np.argwhere(counts_KK):
        count = int(counts_KK[row, column])
        color = "white" if row != column and scale(count) > 0.7 else INK
        place = (column + 0.5, row + 0.5)
        ax.text(*place, str(count), color=color, fontsize=font_size, **CENTERED)
