"""From the digits in pictures and checkpoints to predictions.

Shapes: N images, M networks, K classes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mnistcli.data.batches import evaluation_batches
from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.reading.normalize import stroke_width_px
from mnistcli.reading.pipeline import DigitImage, Segmentations
from mnistcli.runs.checkpoint import LoadedModel

# The two most probable classes are closer than this: the reading is a guess.
DOUBTFUL_MARGIN = 0.5
# By how much the least of the pieces' log-sum-exps must exceed that of the whole before
# ink counts as several digits that touch. Of 2,000 of MNIST's training digits 6 exceed it, 3 of
# them by 2; of 200 strings of overlapping ones 80 % are read right with 0 and 69 % with 4.
CUT_GAIN = 2.5
# Of MNIST's training digits, 99.9 % have between these means of ink (0..1), and strokes
# between these widths, as `images.stroke_width_px` measures them.
USUAL_INK, USUAL_STROKE_PX = (0.033, 0.305), (1.26, 5.36)


@dataclass(frozen=True)
class Prediction:
    """What a digit was read as: every class's probability (0..1, sum 1), and the digit itself."""

    probabilities: dict[str, float]
    digit: DigitImage

    def top(self, num: int) -> list[tuple[str, float]]:
        """The `num` most probable classes, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:num]

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the predicted class."""
        return self.probabilities[self.label]

    @property
    def doubt(self) -> str | None:
        """Why the reading may be wrong, in words; None where nothing speaks against it."""
        (first, most), (second, next_most) = self.top(2)
        if most - next_most < DOUBTFUL_MARGIN:
            return f"unsure: it may be {first} or {second}"
        ink_HW = self.digit.ink()
        if not USUAL_INK[0] <= float(ink_HW.mean()) <= USUAL_INK[1]:
            return "unlike MNIST: hardly any ink, or hardly any paper"
        if not USUAL_STROKE_PX[0] <= stroke_width_px(ink_HW) <= USUAL_STROKE_PX[1]:
            return "unlike MNIST: its strokes are too thin or too thick"
        return None


def predictions_to_text(predictions: Sequence[Prediction]) -> str:
    """The digits of a picture as they are read, its lines of writing parted by spaces."""
    lines = itertools.groupby(predictions, key=lambda each: each.digit.line)
    return " ".join("".join(each.label for each in line) for _, line in lines)


def require_same_classes(models: Sequence[LoadedModel]) -> None:
    """Raise SettingsError unless all networks tell the same classes apart."""
    first = models[0]
    for other in models[1:]:
        if other.card.classes != first.card.classes:
            raise SettingsError(
                f"{first.path} and {other.path} cannot be averaged.",
                why="They were trained on different classes.",
                fix="Name checkpoints that were trained on the same data set.",
            )


def predict_digits(
    models: Sequence[LoadedModel], pictures: Sequence[Sequence[Segmentations]]
) -> list[list[Prediction]]:
    """The predictions for every picture's digits, computed on the CPU.

    The probabilities are the mean over the networks. Ink that may be several
    digits is cut where that makes them more like digits: the log-sum-exp of the
    logits is high for what the network was trained on (Liu et al. 2020,
    Energy-based out-of-distribution detection), which softmax does not show.
    """
    digits = [digit for found in pictures for ways in found for way in ways for digit in way]
    unique = list({id(digit): digit for digit in digits}.values())
    if not unique:
        return [[] for _ in pictures]
    probabilities_NK, typical_N = _run_networks(
        models, np.stack([digit.pixels_HW for digit in unique])
    )
    row = {id(digit): number for number, digit in enumerate(unique)}
    classes = models[0].card.classes

    def predicted(digit: DigitImage) -> Prediction:
        values_K = probabilities_NK[row[id(digit)]].tolist()
        return Prediction(dict(zip(classes, values_K, strict=True)), digit)

    def typical(way: tuple[DigitImage, ...]) -> float:
        # Not to cut is preferred.
        least = min(float(typical_N[row[id(digit)]]) for digit in way)
        return least + CUT_GAIN if len(way) == 1 else least

    return [
        [predicted(digit) for ways in found for digit in max(ways, key=typical)]
        for found in pictures
    ]


@torch.inference_mode()
def _run_networks(
    models: Sequence[LoadedModel], images_NHW: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of the networks' probabilities (N, K), and of the log-sum-exps of their logits."""
    parts = evaluation_batches(torch.from_numpy(images_NHW))
    logits_MNK = torch.stack(
        [
            torch.cat([model.network(normalize(part, model.normalization)) for part in parts])
            for model in models
        ]
    )
    return logits_MNK.softmax(dim=2).mean(0).numpy(), logits_MNK.logsumexp(dim=2).mean(0).numpy()
