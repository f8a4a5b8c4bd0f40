"""The figures that `mnistcli.figures` offers to notebooks, each as a function of plain objects."""

from mnistcli.plots.augmented import augmented
from mnistcli.plots.calibration import calibration
from mnistcli.plots.confusion import confusion
from mnistcli.plots.curves import curves, seeds
from mnistcli.plots.features import features
from mnistcli.plots.filters import filters
from mnistcli.plots.mistakes import mistakes
from mnistcli.plots.samples import samples
from mnistcli.plots.tradeoffs import frontier, time

__all__ = [
    "augmented",
    "calibration",
    "confusion",
    "curves",
    "features",
    "filters",
    "frontier",
    "mistakes",
    "samples",
    "seeds",
    "time",
]
