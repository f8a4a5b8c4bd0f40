"""For tests of figures: records to draw, and what a figure shows once it is drawn."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import nn

from mnistcli.config.resolve import resolve_settings
from mnistcli.data.datasets import DATASETS
from mnistcli.data.examples import Examples
from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.metrics import class_scores
from mnistcli.evaluation.scores import Mistake, Score
from mnistcli.runs.checkpoint import CheckpointCard, LoadedModel
from mnistcli.runs.history import EpochResult

DIGITS = DATASETS["mnist"].classes
CLOTHES = DATASETS["fashion-mnist"].classes


def make_history(
    val: Sequence[float | None], train: Sequence[float] | None = None
) -> list[EpochResult]:
    """Epochs with these validation and training accuracies; each loss is 3 (1 - accuracy)."""
    pairs = enumerate(zip(val, train or [0.99] * len(val), strict=True), start=1)
    return [
        EpochResult(n, 0.1, 3 * (1 - t), t, None if v is None else 3 * (1 - v), v, 1.0, 1.0)
        for n, (v, t) in pairs
    ]


def saturating_history(num_epochs: int, best: float = 0.995) -> list[EpochResult]:
    """Epochs whose validation accuracy rises from 0.6 towards `best`."""
    val = [best - (best - 0.6) * math.exp(-8 * e / num_epochs) for e in range(num_epochs)]
    return make_history(val, [v - 0.005 for v in val])


def confusion_score(counts_KK: Any, classes: Sequence[str] = DIGITS, *, run: str = "net") -> Score:
    """A score with this confusion matrix; its mistakes and bins are made up."""
    counts_KK = np.asarray(counts_KK)
    num_images, num_correct = int(counts_KK.sum()), int(np.trace(counts_KK))
    num_errors, accuracy = num_images - num_correct, num_correct / num_images
    return Score(
        *(f"runs/{run}/best.pth", "mnist", "test", num_images, num_errors, 0.1),
        *(accuracy, (0.9, 1.0), class_scores(counts_KK, tuple(classes)), counts_KK.tolist()),
        mistakes=[Mistake(n, n % 10, (n + 1) % 10, 0.9, 0.1) for n in range(num_errors)],
        bins=[ConfidenceBin(0, 0.0, 0.0), ConfidenceBin(num_images, 0.9, 0.9)],
    )


def mistakes_score(num_errors: int, classes: Sequence[str] = DIGITS) -> Score:
    """A score with as many mistakes: of each class n, taken for n + 1 at 90 %."""
    counts_KK = np.diag(np.full(10, 1000))
    counts_KK[0, 1] = num_errors
    return confusion_score(counts_KK, classes)


def make_examples(num: int) -> Examples:
    """Images of noise, of the classes 0, 1, 2 … 9, 0, 1 …"""
    noise_NHW = np.random.default_rng(0).integers(0, 256, (num, 28, 28), dtype=np.uint8)
    return Examples(torch.from_numpy(noise_NHW), torch.arange(num) % 10)


def make_model(network: nn.Module) -> LoadedModel:
    """`network` as if it had been loaded from the run "net"."""
    settings = resolve_settings({"recipe": "cnn-26k"}, environ={}).settings
    shape = {"mean": 0.13, "std": 0.31, "input_px": 28}
    card = CheckpointCard(settings=settings, classes=DIGITS, epoch=1, versions={}, **shape)
    return LoadedModel(Path("runs/net/best.pth"), network.requires_grad_(requires_grad=False), card)


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text that is drawn, with its box in pixels and its rotation.

    `findobj` would also return ticks beyond the end of an axis.
    """
    found: dict[Text, tuple[str, Bbox, float]] = {}  # the layout draws too; the last one counts
    draw = Text.draw

    def record(text: Text, *args: Any) -> None:
        if text.get_visible() and text.get_text():
            found[text] = (text.get_text(), text.get_window_extent(), text.get_rotation())
        draw(text, *args)

    with mock.patch.object(Text, "draw", record):
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return [*found.values()]


def texts(figure: Figure) -> list[str]:
    """Every text that is drawn."""
    return [text for text, _, _ in drawn_texts(figure)]


def line_data(ax: Axes, style: str) -> Any:
    """The x and y of the only line in this style."""
    (line,) = (line for line in ax.lines if line.get_linestyle() == style)
    return line.get_data()


def overlapping_texts(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of upright texts that overlap by more than a pixel."""
    boxes = [
        (text, box.padded(-1)) for text, box, rotation in drawn_texts(figure) if rotation % 90 == 0
    ]
    return [
        (a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)
    ]


def clipped_texts(figure: Figure) -> list[str]:
    """Texts that the edge of the figure cuts off."""
    page = figure.bbox.padded(1)
    return [
        text
        for text, box, _ in drawn_texts(figure)
        if not all(page.contains(x, y) for x, y in box.corners())
    ]
