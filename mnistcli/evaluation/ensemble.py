"""Ensembles: the mean of the probabilities of several predictions for the same images.

Shapes: N images, K classes.
"""

from collections.abc import Sequence

import torch

from mnistcli.evaluation.calibration import cross_entropy
from mnistcli.evaluation.inference import Predictions


def average_predictions(predictions: Sequence[Predictions]) -> Predictions:
    """The mean of the probabilities, and its cross-entropy."""
    probabilities_NK = torch.stack([each.probabilities_NK for each in predictions]).mean(dim=0)
    labels_N = predictions[0].labels_N
    loss = cross_entropy(probabilities_NK.numpy(), labels_N.numpy())
    return Predictions(loss, probabilities_NK, labels_N)
