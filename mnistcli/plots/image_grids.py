"""Pictures in grids: mistakes, samples, filters, feature maps, augmented samples.

Laid out by hand, in inches: matplotlib's layout engine takes seconds for a
hundred images and spaces them unevenly.

Shapes: N images or filters, H rows, W columns, C channels.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistcli.evaluation.scores import Mistake
from mnistcli.plots.style import (
    BLUE,
    PALE,
    SIGNED,
    STYLE,
    VERMILLION,
    empty_figure,
    text_width_inches,
    wrap_heading,
)

# Feature maps of a stage, the others being left out.
MAPS_SHOWN: Final = 16


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
        return empty_figure(title, none)
    captions = [f"{classes[each.label]} → {classes[each.predicted]}" for each in misread]
    notes = [
        [
            f"{classes[each.predicted]}  {_percent(each.probability)}",
            f"{classes[each.label]}  {_percent(each.label_probability)}",
        ]
        for each in misread
    ]
    num = len(captions)
    count = "The most" if num == 1 else f"The {num} most"
    which = f"{count} confident of {total:,} mistakes" if num < total else "Every mistake"
    heading = f"{title}\n{which}: true → predicted"
    return _image_grid(images_NHW, captions, heading=heading, widest=6, notes=notes)


def _percent(share: float) -> str:
    """A probability that is never said to be nothing or certain."""
    if share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if share >= 0.9995 else f"{100 * share:.1f} %"


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
        return empty_figure(title, "No images.")
    captions = [classes[label] for label in labels_N]
    return _image_grid(images_NHW, captions, heading=title, widest=10)


@mpl.rc_context(STYLE)
def filters(weights_NHW: NDArray[np.float32], *, total: int, title: str) -> Figure:
    """The weights of each unit of a first layer: blue below 0, orange above, white between.

    All have one scale, which the heading tells.

    Args:
        weights_NHW: the weights of each unit, float32 (N, H, W), N at least 1.
        total: how many units there are, N or more.
        title: of which network and layer.
    """
    num, limit = len(weights_NHW), float(np.abs(weights_NHW).max()) or 1.0
    which = f"The first {num} of {total:,} filters" if num < total else f"All {num} filters"
    heading = f"{title}\n{which}: weights from -{limit:.2g} (blue) to {limit:.2g} (orange)"
    captions = [str(number) for number in range(1, num + 1)]
    scale = _Scale(SIGNED, -limit, limit)
    return _image_grid(weights_NHW, captions, heading=heading, widest=10, scale=scale)


@mpl.rc_context(STYLE)
def feature_maps(
    image_HW: NDArray[np.uint8],
    stages: Sequence[tuple[str, NDArray[np.float32]]],
    *,
    title: str,
) -> Figure:
    """A picture, and under it what each convolution makes of it: dark where a unit answers.

    Every stage has a scale of its own, from 0 to its strongest answer. Of many
    maps those with the strongest answers are shown, in their order.

    Args:
        image_HW: uint8, 0 background to 255 ink.
        stages: for each, what it is called and its maps, float32 (C, H, W).
        title: of which network, and which picture.
    """
    rows = [_Row("the picture", [image_HW], INK_ON_PAPER)]
    for name, maps_CHW in stages:
        num, side = len(maps_CHW), maps_CHW.shape[-1]
        strongest = np.sort(np.argsort(-maps_CHW.max(axis=(1, 2)), kind="stable")[:MAPS_SHOWN])
        which = f"{num} maps" if num <= MAPS_SHOWN else f"{MAPS_SHOWN} of {num} maps"
        scale = _Scale("gray_r", 0, float(maps_CHW.max()) or 1.0)
        rows.append(_Row(f"{name}\n{which}, {side} x {side} px", maps_CHW[strongest], scale))
    return _image_rows(rows, heading=title)


@mpl.rc_context(STYLE)
def augmented(
    images_NHW: NDArray[np.uint8],
    versions_NVHW: NDArray[np.float32],
    *,
    labels: Sequence[str],
    title: str,
) -> Figure:
    """Samples, and beside each some of the pictures that training makes of it.

    Args:
        images_NHW: uint8 (N, H, W), 0 background to 255 ink; N at least 1.
        versions_NVHW: V versions of each, in 0..255.
        labels: the N classes.
        title: of which data set, and how they are changed.
    """
    rows = [
        _Row(label, [image_HW, *versions_VHW], INK_ON_PAPER, apart=1)
        for label, image_HW, versions_VHW in zip(labels, images_NHW, versions_NVHW, strict=True)
    ]
    return _image_rows(rows, heading=title)


@dataclass(frozen=True)
class _Scale:
    """From which value to which a picture goes, and in which colors."""

    colors: str | Colormap
    low: float
    high: float


@dataclass(frozen=True)
class _Row:
    """Pictures beside a label; the first `apart` of them stand apart from the others."""

    label: str
    pictures: Sequence[NDArray[Any]] | NDArray[Any]
    scale: _Scale
    apart: int = 0


INK_ON_PAPER = _Scale("gray_r", 0, 255)


def _image_rows(rows: Sequence[_Row], *, heading: str) -> Figure:
    """Rows of pictures of one size, each row behind its label."""
    side, gap = 0.52, 0.06
    lines = itertools.chain(*(row.label.splitlines() for row in rows))
    left = max(text_width_inches(line, 9) for line in lines) + 0.3
    apart = max(row.apart for row in rows) and 0.15
    longest = max(len(row.pictures) for row in rows)
    width = max(left + longest * (side + gap) + apart + 0.1, 4.5)
    heading = wrap_heading(heading, width)
    height = len(rows) * (side + gap) + 0.17 * (heading.count("\n") + 1) + 0.3
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    figure.text(0.1 / width, 1 - 0.08 / height, heading, va="top", fontsize=10)
    for number, row in enumerate(rows):
        y = 0.1 + (len(rows) - 1 - number) * (side + gap)
        middle = (y + side / 2) / height
        figure.text((left - 0.12) / width, middle, row.label, ha="right", va="center")
        for column, picture_HW in enumerate(row.pictures):
            x = left + column * (side + gap) + apart * (column >= row.apart)
            ax = figure.add_axes((x / width, y / height, side / width, side / height))
            _show(ax, picture_HW, row.scale)
    return figure


def _show(ax: Axes, picture_HW: NDArray[Any], scale: _Scale) -> None:
    ax.imshow(
        picture_HW, cmap=scale.colors, vmin=scale.low, vmax=scale.high, interpolation="nearest"
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=PALE)


def _image_grid(
    images_NHW: NDArray[Any],
    captions: Sequence[str],
    *,
    heading: str,
    widest: int,
    notes: Sequence[Sequence[str]] = (),
    scale: _Scale = INK_ON_PAPER,
) -> Figure:
    """Images in cells of one size, captions above, notes below."""
    longest = max(text_width_inches(text, 9) for text in [*captions, *itertools.chain(*notes)])
    cell_width, cell_height = max(0.95, longest + 0.15), 1.42 if notes else 1.12
    columns = _num_columns(len(captions), widest)
    rows = math.ceil(len(captions) / columns)
    width = max(columns * cell_width + 0.1, 4.5)
    heading = wrap_heading(heading, width)
    height = rows * cell_height + 0.17 * (heading.count("\n") + 1) + 0.2
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    figure.text(0.1 / width, 1 - 0.08 / height, heading, va="top", fontsize=10)
    for n, (image_HW, caption) in enumerate(zip(images_NHW, captions, strict=True)):
        x = 0.05 + (n % columns + 0.5) * cell_width - 0.4
        y = 0.05 + (rows - n // columns) * cell_height - 1.07
        ax = figure.add_axes((x / width, y / height, 0.8 / width, 0.8 / height))
        _show(ax, image_HW, scale)
        ax.set_title(caption, pad=3)
        _draw_notes(ax, notes[n] if notes else ())
    return figure


def _draw_notes(ax: Axes, notes: Sequence[str]) -> None:
    """Lines below a picture, of what it was taken for and of what it is."""
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    for note, color, y in zip(notes, (VERMILLION, BLUE), (-3, -13), strict=False):
        ax.annotate(note, (0.5, 0), (0, y), ha="center", va="top", size=8, color=color, **below)


def _num_columns(num: int, widest: int) -> int:
    """The number of columns, at most `widest`, that leaves the fewest empty cells."""
    if num <= widest // 2:
        return num
    return min(range(widest, widest // 2 - 1, -1), key=lambda columns: -num % columns)
