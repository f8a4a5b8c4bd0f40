"""Records and arrays become matplotlib figures. Draws on no screen and never loads torch.

Every figure is built and saved under `STYLE`, without pyplot: a person's own
matplotlib settings stay as they are, and the same input gives the same bytes.
"""

from mnistcli.plots.calibration import calibration
from mnistcli.plots.confusion import confusion
from mnistcli.plots.curves import curves, curves_with_spread
from mnistcli.plots.image_grids import augmented, feature_maps, filters, mistakes, samples
from mnistcli.plots.save import FORMATS, pick_format, save
from mnistcli.plots.tradeoffs import frontier, time

__all__ = [
    "FORMATS",
    "augmented",
    "calibration",
    "confusion",
    "curves",
    "curves_with_spread",
    "feature_maps",
    "filters",
    "frontier",
    "mistakes",
    "pick_format",
    "samples",
    "save",
    "time",
]
