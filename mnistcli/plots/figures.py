"""What was found out becomes figures: epochs, scores, examples, networks.

`mnist plot` draws these into files, a notebook shows them. The drawing itself is
the business of `plots`, which knows records and arrays only.

Shapes: N images, V versions of each, H rows, W columns.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mnistcli import plots
from mnistcli.errors import SettingsError
from mnistcli.plots import curves
from mnistcli.plots import curves_with_spread as seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure
    from torch import Tensor

    from mnistcli.config.settings import Augmentation
    from mnistcli.data.examples import Examples
    from mnistcli.evaluation.pareto import TradeoffPoint
    from mnistcli.evaluation.scores import Score
    from mnistcli.runs.checkpoint import LoadedModel

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


def confusion(score: "Score") -> "Figure":
    """The confusion matrix, its errors coloured, with the recall of each class."""
    names = [each.name for each in score.classes]
    return plots.confusion(np.array(score.confusion), classes=names, title=_title(score))


def calibration(score: "Score") -> "Figure":
    """Accuracy against confidence: whether a network is as sure as it is right."""
    return plots.calibration(score.bins, title=_title(score))


def mistakes(score: "Score", examples: "Examples", *, num: int = 25) -> "Figure":
    """The `num` most confident mistakes; `examples` are all those that were judged, on the CPU."""
    shown = score.mistakes[:num]
    return plots.mistakes(
        examples.images_NHW.numpy()[[mistake.index for mistake in shown]],
        shown,
        classes=[each.name for each in score.classes],
        title=_title(score),
        total=score.num_errors,
    )


def samples(examples: "Examples", *, dataset: str, num: int = 50) -> "Figure":
    """The first `num` of some training examples of `dataset`, on the CPU, with their classes."""
    return plots.samples(
        examples.images_NHW[:num].numpy(),
        examples.labels_N[:num].numpy(),
        classes=_classes(dataset),
        title=f"{dataset}, training set",
    )


def augmented(
    examples: "Examples",
    how: "Augmentation",
    *,
    dataset: str,
    num: int = 8,
    num_versions: int = 10,
) -> "Figure":
    """The first `num` of some training examples, and beside each versions that training sees.

    The examples lie on the CPU. Always the same versions for the same pictures.
    """
    import torch

    from mnistcli.data.augment import augment

    images_NHW, labels = examples.images_NHW[:num], examples.labels_N[:num].tolist()
    repeated_MHW = images_NHW.repeat_interleave(num_versions, dim=0)
    versions_MHW = augment(repeated_MHW, how, torch.Generator().manual_seed(0))
    changes = (
        f"turned by up to {how.rotate_degrees:g}°, sheared by {how.shear_degrees:g}°, "
        f"scaled by {100 * how.scale_fraction:g} %, shifted by {how.shift_px:g} px"
    )
    return plots.augmented(
        images_NHW.numpy(),
        versions_MHW.numpy().reshape(len(labels), num_versions, *images_NHW.shape[1:]),
        labels=[_classes(dataset)[label] for label in labels],
        title=f"{dataset}, training set: as it is, and as training sees it\n{changes}",
    )


def filters(model: "LoadedModel", *, num: int = 60) -> "Figure":
    """The first `num` filters of a network's first layer."""
    from mnistcli.evaluation.features import first_filters

    weights_NHW = first_filters(model)
    title = f"{_name(model.path)}, first layer"
    return plots.filters(weights_NHW[:num], total=len(weights_NHW), title=title)


def features(model: "LoadedModel", image_HW: "Tensor", *, what: str) -> "Figure":
    """What each convolution makes of a uint8 picture; `what` says which one that is.

    Raises:
        SettingsError: the network has no convolution.
    """
    from mnistcli.evaluation.features import feature_maps

    stages = feature_maps(model, image_HW)
    return plots.feature_maps(
        image_HW.numpy(),
        [(stage.name, stage.maps_CHW) for stage in stages],
        title=f"{_name(model.path)}: {what}",
    )


def frontier(
    judged: "Sequence[tuple[LoadedModel, Score]]", *, beside: "Sequence[TradeoffPoint]" = ()
) -> "Figure":
    """The accuracy of checkpoints against their parameters, seeds and folds of one network as one.

    `judged` are one or more, with their scores on one data set and split.
    `beside` are points to compare with, as `frontier.read_points` reads them.
    """
    title = f"{_dataset_and_split(judged)}: accuracy against parameters"
    return plots.frontier(
        _points(judged, _count_parameters, over="sizes"), beside=beside, title=title
    )


def time(judged: "Sequence[tuple[LoadedModel, Score]]") -> "Figure":
    """The same against the seconds that the runs of the checkpoints were trained.

    Raises:
        SettingsError: a checkpoint is no run's.
    """
    title = f"{_dataset_and_split(judged)}: accuracy against the time that training took"
    return plots.time(_points(judged, _training_seconds, over="epochs"), title=title)


def _points(
    judged: "Sequence[tuple[LoadedModel, Score]]",
    cost: "Callable[[LoadedModel], float]",
    *,
    over: "Literal['sizes', 'epochs']",
) -> "list[TradeoffPoint]":
    from mnistcli.evaluation.pareto import tradeoff_points

    costs = ((model.card.settings, cost(model), score) for model, score in judged)
    return tradeoff_points(costs, over=over)


def _count_parameters(model: "LoadedModel") -> float:
    from mnistcli.models.registry import count_parameters

    return count_parameters(model.card.settings.arch, model.card.settings.network)


def _training_seconds(model: "LoadedModel") -> float:
    from mnistcli.runs.find import run_of_checkpoint
    from mnistcli.runs.history import read_metrics

    run = run_of_checkpoint(model.path)
    if run is None:
        raise SettingsError(
            f"{model.path} does not tell how long it was trained.",
            why="It is no run's: there is no metrics.csv beside it.",
            fix="Name runs, or draw the accuracy against the parameters: frontier",
        )
    return sum(epoch.seconds for epoch in read_metrics(run))


def _dataset_and_split(judged: "Sequence[tuple[LoadedModel, Score]]") -> str:
    sets, splits = {score.dataset for _, score in judged}, {score.split for _, score in judged}
    return ", ".join([*sorted(sets), *sorted(splits)])


def _classes(dataset: str) -> tuple[str, ...]:
    from mnistcli.data.datasets import get_dataset

    return get_dataset(dataset).classes


def _title(score: "Score") -> str:
    return (
        f"{_name(Path(score.checkpoint))} on {score.dataset}, {score.split} "
        f"({score.num_errors:,} errors in {score.num_images:,})"
    )


def _name(checkpoint: Path) -> str:
    """A run's name for its checkpoints, else the file's own."""
    from mnistcli.runs.directory import Run

    is_of_run = checkpoint.name in ("best.pth", "last.pth")
    return Run(checkpoint.parent).name if is_of_run else checkpoint.name
