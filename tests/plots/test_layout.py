"""All figures: texts that neither overlap nor are cut off."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from mnistcli.config.settings import Augmentation
from mnistcli.data.examples import Examples
from mnistcli.evaluation.pareto import TradeoffPoint
from mnistcli.plots import figures
from mnistcli.plots.tradeoffs import draw_points
from tests.helpers.figures import (
    CLOTHES,
    clipped_texts,
    confusion_score,
    make_examples,
    make_model,
    mistakes_score,
    overlapping_texts,
    saturating_history,
)

LONG_NAME = "n" * 37
COUNTS_KK = np.random.default_rng(0).integers(0, 10**4, (10, 10))


def deep_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 128, 3), nn.ReLU(), nn.Conv2d(128, 20, 3), nn.ReLU())


def striped_examples(num: int) -> Examples:
    """Images of the classes 0, 1, 2 …, each a stripe at the height of its class, and noise."""
    examples = make_examples(num)
    images_NHW = examples.images_NHW // 32
    for image_HW, label in zip(images_NHW, examples.labels_N.tolist(), strict=True):
        image_HW[2 * label : 2 * label + 2] = 255
    return Examples(images_NHW, examples.labels_N)


FIGURES: dict[str, Callable[[], Figure]] = {
    "one run": lambda: figures.curves({"five/seed-0": saturating_history(10)}),
    "one epoch": lambda: figures.curves({"a": saturating_history(1)}),
    "an epoch each": lambda: figures.curves(
        {f"{i}-{LONG_NAME}": saturating_history(1) for i in range(5)}
    ),
    "twelve runs": lambda: figures.curves(
        {f"{i}-{LONG_NAME}": saturating_history(100) for i in range(12)}
    ),
    "seeds": lambda: figures.seeds(
        {f"{i}-{LONG_NAME}": [saturating_history(9), saturating_history(9, 0.99)] for i in range(5)}
    ),
    "digits": lambda: figures.confusion(confusion_score(COUNTS_KK, run="net " * 30)),
    "clothes": lambda: figures.confusion(confusion_score(COUNTS_KK, CLOTHES)),
    "calibration": lambda: figures.calibration(confusion_score(COUNTS_KK, run="net " * 30)),
    "mistakes": lambda: figures.mistakes(mistakes_score(912, CLOTHES), make_examples(912)),
    "one mistake": lambda: figures.mistakes(mistakes_score(1, CLOTHES), make_examples(1)),
    "saliency": lambda: figures.saliency(
        make_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))),
        mistakes_score(30, CLOTHES),
        make_examples(30),
    ),
    "embedding": lambda: figures.embedding(
        make_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))),
        striped_examples(100),
        what="fashion-mnist, test " * 5,
    ),
    "samples": lambda: figures.samples(make_examples(30), dataset="fashion-mnist"),
    "augmented": lambda: figures.augmented(
        make_examples(3), Augmentation(), dataset="fashion-mnist"
    ),
    "filters": lambda: figures.filters(make_model(nn.Conv2d(1, 20, 5))),
    "features": lambda: figures.features(
        make_model(deep_network()), torch.ones(28, 28, dtype=torch.uint8), what="an image " * 20
    ),
    "frontier": partial(
        draw_points,
        [TradeoffPoint(f"{i}-{LONG_NAME}", 10**i, (0.9, 0.99)) for i in range(1, 8)],
        [TradeoffPoint("b" * 60, 500 * 2**i, (0.5,)) for i in range(9)],
        title="t" * 90,
        axis="parameters",
    ),
    "one point": partial(
        draw_points, [TradeoffPoint("a", 3.2, (0.9,))], [], title="t", axis="training time (s)"
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_overlaps_another_or_is_cut_off(name: str) -> None:
    figure = FIGURES[name]()
    assert overlapping_texts(figure) == []
    assert clipped_texts(figure) == []
