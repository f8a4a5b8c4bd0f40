"""From pictures and a checkpoint to predictions.

Shapes: N images, H rows, W columns, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mnistcli.batches import normalise
from mnistcli.images import DigitImage
from mnistcli.runs import LoadedModel
from mnistcli.scoring import normalisation_of


@dataclass(frozen=True)
class Prediction:
    """The most probable class of a picture, and every class's probability (0..1, sum 1)."""

    label: str
    probabilities: dict[str, float]

    @property
    def probability(self) -> float:
        """The probability of the predicted class."""
        return self.probabilities[self.label]

    def top(self, num: int) -> list[tuple[str, float]]:
        """The `num` most probable classes, most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:num]


@torch.inference_mode()
def classify(loaded: LoadedModel, digits: Sequence[DigitImage]) -> list[Prediction]:
    """The prediction for every digit, computed as one batch on the CPU."""
    if not digits:
        return []
    images_NHW = torch.from_numpy(np.stack([digit.pixels_HW for digit in digits]))
    logits_NK = loaded.network(normalise(images_NHW, normalisation_of(loaded)))
    classes = loaded.card.classes
    return [
        Prediction(classes[int(np.argmax(row))], dict(zip(classes, row, strict=True)))
        for row in logits_NK.softmax(dim=1).tolist()
    ]
