"""scikit-learn's handwritten digits, converted to images like MNIST's."""

import numpy as np
import torch
import torch.nn.functional as F

from mnistcli.config.choices import DataSplit
from mnistcli.data.examples import Examples


def load_digits(split: DataSplit) -> Examples:
    """Scikit-learn's digits, scaled to 20x20 and centered by mass in 28x28 as in MNIST.

    The 1,797 images of 8x8 (0..16) come from 13 writers, one after another; the
    last 360 are the test set, so that most of its writers are not in the training set.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small_NHW = torch.from_numpy(bunch.images).float()
    ink_NHW = F.interpolate(small_NHW.unsqueeze(1), size=(20, 20), mode="bicubic").squeeze(1)
    images_NHW = _center_by_mass((ink_NHW * (255 / 16)).clamp(0, 255))
    labels_N = torch.from_numpy(bunch.target.astype(np.int64))
    part = slice(None, -360) if split == "train" else slice(-360, None)
    return Examples(images_NHW[part], labels_N[part])


def _center_by_mass(ink_NHW: torch.Tensor) -> torch.Tensor:
    """Ink (N, 20, 20) in 0..255, placed in uint8 (N, 28, 28) with its center of mass central."""
    positions = torch.arange(20.0)
    mass_N = ink_NHW.sum(dim=(1, 2))
    top_N = (13.5 - (ink_NHW.sum(dim=2) * positions).sum(dim=1) / mass_N).round().clamp(0, 8)
    left_N = (13.5 - (ink_NHW.sum(dim=1) * positions).sum(dim=1) / mass_N).round().clamp(0, 8)
    images_NHW = torch.zeros(len(ink_NHW), 28, 28, dtype=torch.uint8)
    offsets = zip(top_N.int().tolist(), left_N.int().tolist(), strict=True)
    for image_HW, ink_HW, (top, left) in zip(images_NHW, ink_NHW, offsets, strict=True):
        image_HW[top : top + 20, left : left + 20] = ink_HW.round().to(torch.uint8)
    return images_NHW
