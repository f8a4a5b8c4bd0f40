"""Test-time augmentation: the mean of the probabilities over shifted copies of each image.

Shapes: N images, H rows, W columns.
"""

from itertools import product

import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization
from mnistcli.evaluation.ensemble import average_predictions
from mnistcli.evaluation.inference import Predictions, evaluate_network

# Down and across; the first is the image itself.
SHIFTS_PX = tuple(product((0, -1, 1), repeat=2))


def evaluate_with_tta(
    model: nn.Module, examples: Examples, normalization: Normalization
) -> Predictions:
    """The predictions of a network, averaged over the nine shifts, as `evaluate_network`."""
    return average_predictions(
        [
            evaluate_network(
                model,
                Examples(_shift(examples.images_NHW, down_px, across_px), examples.labels_N),
                normalization,
            )
            for down_px, across_px in SHIFTS_PX
        ]
    )


def _shift(images_NHW: Tensor, down_px: int, across_px: int) -> Tensor:
    """The images shifted by up to a pixel each way, with background at the free edge."""
    height, width = images_NHW.shape[1:]
    padded_NHW = F.pad(images_NHW, (1, 1, 1, 1))
    top, left = 1 - down_px, 1 - across_px
    return padded_NHW[:, top : top + height, left : left + width]
