"""Shuffled batches for training, batches in order for evaluation.

The examples are already on the network's device, so a batch is one gather.
The order comes from a generator of its own: drawing a batch disturbs neither
the initialization nor the dropout.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mnistcli.data.examples import Examples


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Batches in an epoch: the full ones, or one smaller batch where there is no full one."""
    return max(1, num_examples // batch_size)


def shuffled_batches(
    examples: Examples, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of batches (images_NHW uint8, labels_N) in a new random order.

    The last, incomplete batch is dropped, so that all steps have the same weight
    and batch norm never sees a single image; the next epoch's order brings its
    images back. `generator` is on the device of the examples.
    """
    order_N = torch.randperm(len(examples), generator=generator, device=generator.device)
    for step in range(steps_per_epoch(len(examples), batch_size)):
        batch = examples.take(order_N[step * batch_size : (step + 1) * batch_size])
        yield batch.images_NHW, batch.labels_N


def evaluation_batch_size(device: torch.device) -> int:
    """Images per batch that evaluate fastest on `device`."""
    # A CPU's caches hold the activations of 100 images (docs/performance.md; two cores).
    return 100 if device.type == "cpu" else 1000


def evaluation_batches(images_NHW: Tensor) -> tuple[Tensor, ...]:
    """The images (N, H, W) in order, `evaluation_batch_size` at a time; nothing is copied."""
    return torch.split(images_NHW, evaluation_batch_size(images_NHW.device))
