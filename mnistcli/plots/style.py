"""How all figures look: colors, markers, matplotlib's parameters."""

from typing import Any, Final

from matplotlib.colors import LinearSegmentedColormap

INK, GRAY, PALE, FAINT = "#1a1a1a", "#6b6b6b", "#e6e6e6", "#f7f7f7"
BLUE, VERMILLION = "#0072b2", "#d55e00"
# Okabe and Ito's palette without its yellow, which vanishes on white, then five of Paul Tol's
# "muted". Not everyone can tell twelve colors apart, so each run has a marker shape too.
COLORS: Final = (
    *(BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    *("#882255", "#999933", "#332288", "#44aa99", "#888888"),
)
# For values of both signs, white at 0.
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
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
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
