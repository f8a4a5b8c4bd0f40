"""The losses a network is trained with. All take logits.

Shapes: N images, K classes.
"""

import torch.nn.functional as F
from torch import Tensor

from mnistcli.config.settings import TrainSettings


def batch_loss(logits_NK: Tensor, labels_N: Tensor, settings: TrainSettings) -> Tensor:
    """The mean loss of a batch; both kinds take logits and are equal without smoothing."""
    if settings.loss == "nll":
        return F.nll_loss(F.log_softmax(logits_NK, dim=1), labels_N)
    return F.cross_entropy(logits_NK, labels_N, label_smoothing=settings.label_smoothing)
