"""From uint8 images to a network's input: resized, mean 0, SD 1."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.models.registry import get_architecture

if TYPE_CHECKING:
    from mnistcli.data.datasets import Dataset


@dataclass(frozen=True)
class Normalization:
    """Mean and SD of a training pixel in 0..1, and the side of the network's input in px."""

    mean: float
    std: float
    input_px: int


def input_normalization(dataset: "Dataset", arch: str) -> Normalization:
    """How the images of a data set become the input of an architecture."""
    return Normalization(dataset.mean, dataset.std, get_architecture(arch).input_px)


def normalize(images_NHW: Tensor, normalization: Normalization) -> Tensor:
    """Float32 (N, 1, H, W) with mean 0 and SD 1 over the data set, from images (N, H, W) in 0..255.

    Images of another size than `input_px` are resized by bilinear interpolation.
    Training, evaluation and prediction all use this function. The result is
    `channels_last`, the layout in which most convolutions are fastest.
    """
    x_NCHW = images_NHW.unsqueeze(1).float()
    if x_NCHW.shape[-1] != normalization.input_px:
        size = (normalization.input_px, normalization.input_px)
        x_NCHW = F.interpolate(x_NCHW, size=size, mode="bilinear", align_corners=False)
    x_NCHW = (x_NCHW / 255 - normalization.mean) / normalization.std
    return x_NCHW.to(memory_format=torch.channels_last)
