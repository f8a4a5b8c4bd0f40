"""scikit-learn's handwritten digits, converted to images like MNIST's."""

import numpy as np
import torch

from mnistcli.config.choices import DataSplit
from mnistcli.data.examples import Examples
from mnistcli.data.image_arrays import enlarge


def load_digits(split: DataSplit) -> Examples:
    """Scikit-learn's digits, scaled to 20x20 and centered by mass in 28x28 as in MNIST.

    The 1,797 images of 8x8 (0..16) come from 13 writers, one after another; the
    last 360 are the test set, so that most of its writers are not in the training set.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images_NHW = enlarge(torch.from_numpy(bunch.images).float(), factor=255 / 16)
    labels_N = torch.from_numpy(bunch.target.astype(np.int64))
    part = slice(None, -360) if split == "train" else slice(-360, None)
    return Examples(images_NHW[part], labels_N[part])
