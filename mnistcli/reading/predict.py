"""Digits and networks -> class probabilities, and which segmentation is right.

Shapes: N images, M networks, K classes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mnistcli.data.batches import evaluation_batches
from mnistcli.data.normalization import normalize
from mnistcli.reading.digit import DigitImage, Segmentation, Segmentations
from mnistcli.reading.normalize import stroke_width_px
from mnistcli.runs.checkpoint import LoadedModel

# If the two most probable classes are closer than this, the prediction is in doubt.
DOUBTFUL_MARGIN = 0.5
# By how much the smallest log-sum-exp of the pieces must exceed that of the uncut ink before
# it counts as several digits that touch. Of 2,000 of MNIST's training digits 6 exceed it, 3 of
# them by 2; of 200 strings of overlapping digits 80 % are read correctly with 0, 69 % with 4.
CUT_GAIN = 2.5
# 99.9 % of MNIST's training digits have a mean ink (0..1) and a stroke width
# (`stroke_width_px`) within these bounds.
USUAL_INK, USUAL_STROKE_PX = (0.033, 0.305), (1.26, 5.36)


@dataclass(frozen=True)
class Prediction:
    """Each class's probability (0..1, sum 1) for a digit."""

    probabilities: dict[str, float]
    digit: DigitImage

    def top(self, num: int) -> list[tuple[str, float]]:
        """The `num` most probable classes with their probabilities, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:num]

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[self.label]

    @property
    def doubt(self) -> str | None:
        """Why the prediction may be wrong; None if there is no reason to doubt it."""
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
    """The digits of a picture in the reading order; a space between text lines."""
    lines = itertools.groupby(predictions, key=lambda prediction: prediction.digit.line)
    return " ".join("".join(prediction.label for prediction in line) for _, line in lines)


def predict_digits(
    models: Sequence[LoadedModel], pictures: Sequence[Sequence[Segmentations]]
) -> list[list[Prediction]]:
    """The predictions for each picture's digits, computed on the CPU.

    The probabilities are the mean over the networks. Ink that may be several digits
    is cut where that makes its pieces more typical digits: the log-sum-exp of the
    logits is high for what the network was trained on (Liu et al. 2020, Energy-based
    out-of-distribution detection), which softmax does not show.
    """
    flatten = itertools.chain.from_iterable
    digits = list(dict.fromkeys(flatten(flatten(flatten(pictures)))))
    if not digits:
        return [[] for _ in pictures]
    probabilities_NK, typicality_N = _run_networks(
        models, np.stack([digit.pixels_HW for digit in digits])
    )
    classes = models[0].card.classes
    predictions = {
        digit: Prediction(dict(zip(classes, values_K, strict=True)), digit)
        for digit, values_K in zip(digits, probabilities_NK.tolist(), strict=True)
    }
    typicality = dict(zip(digits, typicality_N.tolist(), strict=True))
    return [
        [
            predictions[digit]
            for segmentations in picture
            for digit in pick_segmentation(segmentations, typicality)
        ]
        for picture in pictures
    ]


def pick_segmentation(
    segmentations: Segmentations, typicality: Mapping[DigitImage, float]
) -> Segmentation:
    """The segmentation with the most typical least typical digit; uncut ink is preferred."""

    def score(segmentation: Segmentation) -> float:
        least = min(typicality[digit] for digit in segmentation)
        return least + CUT_GAIN if len(segmentation) == 1 else least

    return max(segmentations, key=score)


@torch.inference_mode()
def _run_networks(
    models: Sequence[LoadedModel], images_NHW: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean over the networks of the probabilities (N, K) and of the log-sum-exps (N,)."""
    batches = evaluation_batches(torch.from_numpy(images_NHW))
    logits_MNK = torch.stack(
        [
            torch.cat([model.network(normalize(batch, model.normalization)) for batch in batches])
            for model in models
        ]
    )
    return logits_MNK.softmax(dim=2).mean(0).numpy(), logits_MNK.logsumexp(dim=2).mean(0).numpy()
