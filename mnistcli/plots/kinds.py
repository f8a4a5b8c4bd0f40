"""The kinds of plot that `mnist plot --kind` offers, as plain data.

Help pages and completion read this module, so it imports neither matplotlib nor torch; `draw`
loads the module of one kind.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mnistcli.plots.inputs import PlotInputs

FORMATS: Final = ("png", "svg", "pdf")


@dataclass(frozen=True)
class PlotKind:
    """One kind of plot.

    Attributes:
        name: what `--kind` calls it.
        summary: completes its name on the help page.
        function: "module:function"; takes a `PlotInputs`, returns a matplotlib figure, or the text
            of a page.
        unnamed: what is drawn if no run is named: the newest run, all runs, or a data set alone.
        multiple: whether one figure can show more than one run.
        required_file: the file of a run that the plot cannot do without.
        options: those of `--first` and `--beside` that it takes.
        formats: of its file, the default first.
    """

    name: str
    summary: str
    function: str
    unnamed: Literal["newest", "all", "data set"] = "newest"
    multiple: bool = False
    required_file: str = "best.pth"
    options: tuple[Literal["first", "beside"], ...] = ()
    formats: tuple[str, ...] = FORMATS


KINDS: dict[str, PlotKind] = {
    kind.name: kind
    for kind in (
        PlotKind(
            "curves",
            "loss and accuracy by epoch",
            "mnistcli.plots.curves:draw_curves",
            multiple=True,
            required_file="metrics.csv",
        ),
        PlotKind(
            "confusion", "predicted against true classes", "mnistcli.plots.confusion:draw_confusion"
        ),
        PlotKind(
            "mistakes",
            "the most confident mistakes",
            "mnistcli.plots.mistakes:draw_mistakes",
            options=("first",),
        ),
        PlotKind(
            "saliency",
            "the pixels behind these mistakes",
            "mnistcli.plots.saliency:draw_saliency",
        ),
        PlotKind(
            "embedding",
            "images as the last layer sees them, by t-SNE",
            "mnistcli.plots.embedding:draw_embedding",
        ),
        PlotKind(
            "calibration",
            "accuracy against confidence",
            "mnistcli.plots.calibration:draw_calibration",
        ),
        PlotKind(
            "samples",
            "images of a data set",
            "mnistcli.plots.samples:draw_samples",
            unnamed="data set",
            options=("first",),
        ),
        PlotKind(
            "augmented",
            "images as training augments them",
            "mnistcli.plots.augmented:draw_augmented",
            unnamed="data set",
            options=("first",),
        ),
        PlotKind("filters", "weights of the first layer", "mnistcli.plots.filters:draw_filters"),
        PlotKind(
            "features",
            "feature maps of an image",
            "mnistcli.plots.features:draw_features",
            options=("first",),
        ),
        PlotKind(
            "frontier",
            "accuracy against parameters",
            "mnistcli.plots.tradeoffs:draw_frontier",
            unnamed="all",
            multiple=True,
            options=("beside",),
        ),
        PlotKind(
            "time",
            "accuracy against training time",
            "mnistcli.plots.tradeoffs:draw_time",
            unnamed="all",
            multiple=True,
        ),
        PlotKind(
            "report",
            "one HTML page with everything about a run",
            "mnistcli.plots.report:draw_report",
            formats=("html",),
        ),
    )
}


def draw(kind: PlotKind, inputs: "PlotInputs") -> "Figure | str":
    """The figure or page of `kind`; raises the MnistError of whatever it cannot be drawn from."""
    module_name, function_name = kind.function.split(":")
    drawn: Figure | str = getattr(import_module(module_name), function_name)(inputs)
    return drawn
