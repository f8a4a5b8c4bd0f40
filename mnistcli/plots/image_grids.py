"""Layouts of many small images: cells in a grid, and labeled rows.

Laid out by hand, in inches: matplotlib's layout engine takes seconds for a hundred images and
spaces them unevenly.

Shapes: N images, H rows, W columns.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistcli.plots.headings import text_width_inches, wrap_heading
from mnistcli.plots.style import BLUE, GRAY, PALE, VERMILLION


@dataclass(frozen=True)
class ColorScale:
    """A colormap and the values at its two ends."""

    colormap: str | Colormap
    low: float
    high: float


INK_SCALE: Final = ColorScale("gray_r", 0, 255)


@dataclass(frozen=True)
class ImageRow:
    """A label and the images to its right; a gap follows the first `num_leading` of them."""

    label: str
    images: Sequence[NDArray[Any]] | NDArray[Any]
    scale: ColorScale = INK_SCALE
    num_leading: int = 0


def image_rows(rows: Sequence[ImageRow], *, heading: str) -> Figure:
    """Rows of images of one size, each to the right of its label."""
    side, gap = 0.52, 0.06
    lines = itertools.chain(*(row.label.splitlines() for row in rows))
    left = max(text_width_inches(line, 9) for line in lines) + 0.3
    apart = max(row.num_leading for row in rows) and 0.15
    longest = max(len(row.images) for row in rows)
    width = max(left + longest * (side + gap) + apart + 0.1, 4.5)
    figure = _figure_with_heading(heading, width, len(rows) * (side + gap) + 0.3)
    height = figure.get_figheight()
    for row_number, row in enumerate(rows):
        y = 0.1 + (len(rows) - 1 - row_number) * (side + gap)
        middle = (y + side / 2) / height
        figure.text((left - 0.12) / width, middle, row.label, ha="right", va="center")
        for column, image_HW in enumerate(row.images):
            x = left + column * (side + gap) + apart * (column >= row.num_leading)
            ax = figure.add_axes((x / width, y / height, side / width, side / height))
            _show_image(ax, image_HW, row.scale)
    return figure


def image_grid(
    images_NHW: NDArray[Any],
    captions: Sequence[str],
    *,
    heading: str,
    max_columns: int,
    notes: Sequence[Sequence[str]] = (),
    scale: ColorScale = INK_SCALE,
) -> Figure:
    """Images in cells of one size, captions above, up to three lines of notes below each."""
    longest = max(text_width_inches(text, 9) for text in [*captions, *itertools.chain(*notes)])
    cell_width = max(0.95, longest + 0.15)
    cell_height = 1.12 + 0.15 * max(map(len, notes), default=0)
    columns = _num_columns(len(captions), max_columns)
    rows = math.ceil(len(captions) / columns)
    width = max(columns * cell_width + 0.1, 4.5)
    figure = _figure_with_heading(heading, width, rows * cell_height + 0.2)
    height = figure.get_figheight()
    for n, (image_HW, caption) in enumerate(zip(images_NHW, captions, strict=True)):
        x = 0.05 + (n % columns + 0.5) * cell_width - 0.4
        y = 0.05 + (rows - n // columns) * cell_height - 1.07
        ax = figure.add_axes((x / width, y / height, 0.8 / width, 0.8 / height))
        _show_image(ax, image_HW, scale)
        ax.set_title(caption, pad=3)
        _draw_notes(ax, notes[n] if notes else ())
    return figure


def _figure_with_heading(heading: str, width: float, height: float) -> Figure:
    """An empty figure, `height` inches high below its wrapped heading."""
    heading = wrap_heading(heading, width)
    height += 0.17 * (heading.count("\n") + 1)
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    figure.text(0.1 / width, 1 - 0.08 / height, heading, va="top", fontsize=10)
    return figure


def _show_image(ax: Axes, image_HW: NDArray[Any], scale: ColorScale) -> None:
    ax.imshow(
        image_HW, cmap=scale.colormap, vmin=scale.low, vmax=scale.high, interpolation="nearest"
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=PALE)


def _draw_notes(ax: Axes, notes: Sequence[str]) -> None:
    """Lines below an image: the first in orange, the second in blue, the third in gray."""
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    for note, color, y in zip(notes, (VERMILLION, BLUE, GRAY), (-3, -13, -23), strict=False):
        ax.annotate(note, (0.5, 0), (0, y), ha="center", va="top", size=8, color=color, **below)


def _num_columns(num: int, max_columns: int) -> int:
    """The number of columns that leaves the fewest empty cells."""
    if num <= max_columns // 2:
        return num
    candidates = range(max_columns, max_columns // 2 - 1, -1)
    return min(candidates, key=lambda columns: -num % columns)
