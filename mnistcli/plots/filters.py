"""The weights of a network's first layer, as images."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mnistcli.evaluation.features import first_filters
from mnistcli.plots.headings import checkpoint_name
from mnistcli.plots.image_grids import ColorScale, image_grid
from mnistcli.plots.inputs import PlotInputs
from mnistcli.plots.style import SIGNED, STYLE
from mnistcli.runs.checkpoint import LoadedModel


def draw_filters(inputs: PlotInputs) -> Figure:
    """The filters of the named checkpoint."""
    return filters(inputs.load_network())


@mpl.rc_context(STYLE)
def filters(model: LoadedModel, *, num: int = 60) -> Figure:
    """The first `num` filters of the first layer: blue below 0, orange above, white at 0.

    All have one scale, which is in the heading.
    """
    weights_NHW = first_filters(model)
    total, weights_NHW = len(weights_NHW), weights_NHW[:num]
    limit = float(np.abs(weights_NHW).max()) or 1.0
    which = f"The first {num} of {total:,} filters" if num < total else f"All {total} filters"
    title = f"{checkpoint_name(model.path)}, first layer"
    return image_grid(
        weights_NHW,
        [str(number) for number in range(1, len(weights_NHW) + 1)],
        heading=f"{title}\n{which}: weights from -{limit:.2g} (blue) to {limit:.2g} (orange)",
        max_columns=10,
        scale=ColorScale(SIGNED, -limit, limit),
    )
