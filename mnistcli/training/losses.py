"""The losses a network is trained with, from its logits.

Shapes: N images, K classes.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from mnistcli.config.choices import LossName
from mnistcli.config.settings import TrainSettings


def _cross_entropy(logits_NK: Tensor, labels_N: Tensor, settings: TrainSettings) -> Tensor:
    return F.cross_entropy(logits_NK, labels_N, label_smoothing=settings.label_smoothing)


def _nll(logits_NK: Tensor, labels_N: Tensor, _settings: TrainSettings) -> Tensor:
    return F.nll_loss(F.log_softmax(logits_NK, dim=1), labels_N)


LOSSES: dict[LossName, Callable[[Tensor, Tensor, TrainSettings], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "nll": _nll,
}


def with_no_digit(logits_NK: Tensor) -> Tensor:
    """The logits with those of the class "no digit", which are 0: (N, K + 1)."""
    return F.pad(logits_NK, (0, 1))


def batch_loss(logits_NK: Tensor, labels_N: Tensor, settings: TrainSettings) -> Tensor:
    """The mean loss of a batch in nats; without label smoothing, both losses are equal."""
    return LOSSES[settings.loss](logits_NK, labels_N, settings)
