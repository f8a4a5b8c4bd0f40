"""How all figures look, and how wide their texts are."""

import textwrap
from typing import Any, Final

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

INK, GRAY, PALE, FAINT = "#1a1a1a", "#6b6b6b", "#e6e6e6", "#f7f7f7"
BLUE, VERMILLION = "#0072b2", "#d55e00"
# Okabe and Ito's palette without its yellow, which vanishes on white, then five of Paul Tol's
# "muted". No twelve colors stay apart for every eye, so each run has a marker shape too.
COLORS: Final = (
    *(BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    *("#882255", "#999933", "#332288", "#44aa99", "#888888"),
)
# From the least to the most over white for 0.
SIGNED: Final = LinearSegmentedColormap.from_list(
    "signed", ["#00466e", BLUE, "white", VERMILLION, "#7a3600"]
)
MARKERS: Final = ("o", "s", "^", "D", "v", "<", ">")
MARK: Final[dict[str, Any]] = {"ms": 6.5, "mec": "white", "mew": 0.8, "zorder": 3}
CROSS: Final[dict[str, Any]] = {"ls": "", "marker": "x", "ms": 5, "mew": 1.2, "color": GRAY}
CENTERED: Final[dict[str, Any]] = {"ha": "center", "va": "center"}

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
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.formatter.useoffset": False,
    **{f"{axis}tick.color": GRAY for axis in "xy"},
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


def text_width_inches(text: str, size: float) -> float:
    """The width of a line of text in the figures' font, `size` in points."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72 if text else 0.0


def wrap_heading(heading: str, width: float) -> str:
    """A heading whose lines are broken where they would leave a figure `width` inches wide."""
    pieces = []
    for line in heading.splitlines():
        share = 0.95 * (width - 0.2) / (text_width_inches(line, 10) or 1)
        pieces += textwrap.wrap(line, max(1, int(len(line) * share))) if share < 1 else [line]
    return "\n".join(pieces)


def empty_figure(heading: str, message: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure = Figure(figsize=(4.5, 1.2))
    figure.suptitle(wrap_heading(heading, 4.5), x=0.02, ha="left", fontsize=10)
    figure.text(0.5, 0.35, message, color=GRAY, **CENTERED)
    return figure
