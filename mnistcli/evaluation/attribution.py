"""Which pixels speak for a prediction: integrated gradients.

Shapes: N images, S steps, H rows, W columns.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mnistcli.data.normalization import normalize
from mnistcli.runs.checkpoint import LoadedModel

# Gradients along the path of an image. The sum is then within a few percent of the integral.
NUM_STEPS = 64


def integrated_gradients(
    loaded: LoadedModel, images_NHW: Tensor, classes: Sequence[int], others: Sequence[int]
) -> NDArray[np.float32]:
    """How much each pixel speaks for one class rather than another: float32 (N, H, W), in logits.

    Positive values speak for the class in `classes`, negative ones for that in `others`. The
    values of an image add up to how much the difference of the two logits grows from a blank
    image to this one. It needs a network that can be differentiated, with convolutions or without.

    Method: the gradient of the difference, averaged over the straight path from the blank image,
    times the pixel (Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks",
    arXiv:1703.01365), at the middles of `NUM_STEPS` equal steps.

    Args:
        loaded: a network.
        images_NHW: uint8, 0 background to 255 ink, on the CPU.
        classes: the index of a class for each image.
        others: the index of the class to compare it with.
    """
    shares_SHW = ((torch.arange(NUM_STEPS) + 0.5) / NUM_STEPS).reshape(-1, 1, 1)
    attributions = []
    for image_HW, this, other in zip(images_NHW.float(), classes, others, strict=True):
        path_SHW = (shares_SHW * image_HW).requires_grad_()
        logits_SK = loaded.network(normalize(path_SHW, loaded.normalization))
        difference = (logits_SK[:, this] - logits_SK[:, other]).sum()
        (gradients_SHW,) = torch.autograd.grad(difference, path_SHW)
        attributions.append(image_HW * gradients_SHW.mean(dim=0))
    return np.asarray(torch.stack(attributions).numpy())
