"""The predictions of a network: its forward pass over examples, in float32.

Shapes: N images, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnistcli.data.batches import evaluation_batches
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize


@dataclass(frozen=True)
class Predictions:
    """Class probabilities float32 (N, K) and labels int64 (N,), on the CPU; mean loss in nats."""

    loss: float
    probabilities_NK: Tensor
    labels_N: Tensor

    @property
    def num_correct(self) -> int:
        """How many images have the highest probability at their label."""
        return int((self.probabilities_NK.argmax(dim=1) == self.labels_N).sum())

    @property
    def accuracy(self) -> float:
        """The share of correct predictions, in 0..1."""
        return self.num_correct / len(self.labels_N)


@torch.inference_mode()
def predict_logits(model: nn.Module, images_NHW: Tensor, normalization: Normalization) -> Tensor:
    """The logits (N, K) of `model` for uint8 images (N, 28, 28), both on one device.

    Without dropout; the model is left in the mode it was in. Float32 on every device.
    """
    was_training = model.training
    model.eval()
    # Tensor cores would round the inputs of a float32 convolution to 10 bits (TF32).
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        logits_NK = torch.cat(
            [model(normalize(batch, normalization)) for batch in evaluation_batches(images_NHW)]
        )
    model.train(was_training)
    return logits_NK


@torch.inference_mode()
def evaluate_network(
    model: nn.Module, examples: Examples, normalization: Normalization
) -> Predictions:
    """The predictions of `model` for `examples`, both on one device, without dropout.

    Uses no randomness and leaves the model in the mode it was in. Float32 on
    every device, so that numbers of errors can be compared.
    """
    logits_NK = predict_logits(model, examples.images_NHW, normalization)
    loss = F.cross_entropy(logits_NK, examples.labels_N).item()
    return Predictions(loss, logits_NK.softmax(dim=1).cpu(), examples.labels_N.cpu())
