"""Images and their labels as two tensors.

A data set is small enough to stay as a whole on the device that trains.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """Images as uint8 (N, H, W), 0 background to 255 ink, and their classes as int64 (N,)."""

    images_NHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.images_NHW.to(device), self.labels_N.to(device))

    def take(self, indices_N: Tensor) -> "Examples":
        """The examples at `indices_N` (int64), in that order."""
        # For uint8, index_select copies whole images; images_NHW[indices_N] copies single pixels.
        return Examples(
            self.images_NHW.index_select(0, indices_N), self.labels_N.index_select(0, indices_N)
        )
