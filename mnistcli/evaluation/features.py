"""What is inside a trained network: its first filters, what its convolutions make of a picture.

Shapes: N units, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.runs.checkpoint import LoadedModel

# What belongs to the convolution before it.
FOLLOWING_LAYERS = (nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU)


@dataclass(frozen=True)
class ConvolutionOutput:
    """What a convolution passes on of a picture, normalized and pooled as the network does.

    The maps are float32 (C, H, W) and at least 0: what the ReLU lets through.
    """

    name: str
    maps_CHW: NDArray[np.float32]


def first_filters(loaded: LoadedModel) -> NDArray[np.float32]:
    """The weights of the first layer as pictures, float32 (N, H, W).

    Of a convolution these are its kernels, of a linear layer its rows.
    """
    layers = loaded.network.modules()
    first = next(layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear)))
    if isinstance(first, nn.Conv2d):
        return np.asarray(first.weight[:, 0].numpy())
    side = loaded.card.input_px
    return np.asarray(first.weight.reshape(-1, side, side).numpy())


def require_convolutions(loaded: LoadedModel) -> None:
    """Raise SettingsError if the network has no convolution."""
    if not any(isinstance(layer, nn.Conv2d) for layer in loaded.network.modules()):
        raise SettingsError(
            f"{loaded.path} has no feature maps.",
            why=f"{loaded.card.settings.arch} has no convolutions.",
            fix="Name a run of another architecture, or draw its filters: --kind filters",
        )


def feature_maps(loaded: LoadedModel, image_HW: Tensor) -> list[ConvolutionOutput]:
    """What each convolution makes of a uint8 picture, in the order the picture passes them.

    Convolutions that follow each other at once, as the two of a separable one
    do, are one stage. One that is used several times is as many stages.

    Raises:
        SettingsError: the network has no convolution.
    """
    require_convolutions(loaded)
    found: list[Tensor] = []
    with _record_outputs(loaded.network, found), torch.inference_mode():
        loaded.network(normalize(image_HW.unsqueeze(0), loaded.normalization))
    # Not cloned, so that what is changed in place afterwards, by a ReLU, shows.
    maps = [each[0].clamp(min=0).numpy() for each in found]
    return [
        ConvolutionOutput(f"convolution {number}", each)
        for number, each in enumerate(maps, start=1)
    ]


@contextmanager
def _record_outputs(network: nn.Module, found: list[Tensor]) -> Iterator[None]:
    """Collect what comes out of every stage, as long as the context lasts."""
    after_convolution = False

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal after_convolution
        is_convolution = isinstance(module, nn.Conv2d)
        if is_convolution and not after_convolution:
            found.append(output)
        elif (
            found and output.ndim == 4 and (is_convolution or isinstance(module, FOLLOWING_LAYERS))
        ):
            found[-1] = output
        after_convolution = is_convolution

    leaves = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
