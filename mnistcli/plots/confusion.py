"""What a network got right and wrong: confusion matrix, calibration.

Shapes: K classes.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistcli.evaluation.metrics import class_scores
from mnistcli.plots.style import (
    CENTERED,
    FAINT,
    INK,
    PALE,
    STYLE,
    text_width_inches,
    wrap_heading,
)


@mpl.rc_context(STYLE)
def confusion(counts_KK: NDArray[np.int64], *, classes: Sequence[str], title: str) -> Figure:
    """A confusion matrix in which the errors have the colors to themselves.

    Args:
        counts_KK: int64 (K, K); row is the true class, column the predicted one.
        classes: K names.
        title: what was judged, and on which images.
    """
    num, longest = len(classes), max(text_width_inches(name, 9) for name in classes)
    side = min(max(0.46 * num, 2.5), 12)
    is_slanted = longest > 0.9 * side / num
    below = 0.9 + 0.7 * longest if is_slanted else 1
    figure = Figure(figsize=(side + 1.3 + longest, side + below))
    ax = figure.add_subplot(aspect="equal")
    figure.suptitle(wrap_heading(title, figure.get_figwidth()), x=0.01, ha="left", fontsize=10)
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
        color = "white" if row != column and scale(count) > 0.7 else INK
        place = (column + 0.5, row + 0.5)
        ax.text(*place, str(count), color=color, fontsize=font_size, **CENTERED)
