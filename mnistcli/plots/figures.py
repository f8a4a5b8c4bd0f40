"""The figures that `mnistcli.figures` offers to notebooks, each as a function of plain objects.

Each is imported when it is first used: curves and Pareto plots need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistcli.plots.augmented import augmented
    from mnistcli.plots.calibration import calibration
    from mnistcli.plots.confusion import confusion
    from mnistcli.plots.curves import curves, seeds
    from mnistcli.plots.embedding import embedding
    from mnistcli.plots.features import features
    from mnistcli.plots.filters import filters
    from mnistcli.plots.mistakes import mistakes
    from mnistcli.plots.saliency import saliency
    from mnistcli.plots.samples import samples
    from mnistcli.plots.tradeoffs import frontier, time
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'mnistcli.figures' has no attribute '{name}'")
        modules = {"seeds": "curves", "frontier": "tradeoffs", "time": "tradeoffs"}
        return getattr(import_module(f"mnistcli.plots.{modules.get(name, name)}"), name)


__all__ = [
    "augmented",
    "calibration",
    "confusion",
    "curves",
    "embedding",
    "features",
    "filters",
    "frontier",
    "mistakes",
    "saliency",
    "samples",
    "seeds",
    "time",
]


def __dir__() -> list[str]:
    return __all__
