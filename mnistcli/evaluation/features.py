"""The filters, feature maps and last activations of a trained network.

Shapes: N units or images, C channels, H rows, W columns, D values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnistcli.data.batches import evaluation_batches
from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.runs.checkpoint import LoadedModel

# Layers that count as part of the convolution before them.
FOLLOWING_LAYERS = (nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU)


@dataclass(frozen=True)
class ConvolutionOutput:
    """The feature maps of a convolution: float32 (C, H, W), after normalization, pooling, ReLU."""

    name: str
    maps_CHW: NDArray[np.float32]


def first_filters(loaded: LoadedModel) -> NDArray[np.float32]:
    """The weights of the first layer as images, float32 (N, H, W): kernels, or linear rows."""
    layers = loaded.network.modules()
    first = next(layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear)))
    if isinstance(first, nn.Conv2d):
        return np.asarray(first.weight[:, 0].numpy())
    side = loaded.card.input_px
    return np.asarray(first.weight.reshape(-1, side, side).numpy())


def has_convolutions(loaded: LoadedModel) -> bool:
    """Whether the network has feature maps."""
    return any(isinstance(layer, nn.Conv2d) for layer in loaded.network.modules())


def require_convolutions(loaded: LoadedModel) -> None:
    """Raise SettingsError if the network has no convolution."""
    if not has_convolutions(loaded):
        raise SettingsError(
            f"{loaded.path} has no feature maps.",
            why=f"Its architecture, {loaded.card.settings.arch}, has no convolutions.",
            fix="Name a run of another architecture, or draw its filters: --kind filters",
        )


def feature_maps(loaded: LoadedModel, image_HW: Tensor) -> list[ConvolutionOutput]:
    """The output of each convolution for a uint8 image, in the order of their execution.

    Consecutive convolutions, such as the two of a separable one, count as one; a convolution
    that is used twice counts twice.

    Raises:
        SettingsError: the network has no convolution.
    """
    require_convolutions(loaded)
    with _record_outputs(loaded.network) as outputs, torch.inference_mode():
        loaded.network(normalize(image_HW.unsqueeze(0), loaded.normalization))
    # The outputs are not cloned, so that they include what a ReLU changes in place.
    return [
        ConvolutionOutput(f"convolution {number}", output_NCHW[0].clamp(min=0).numpy())
        for number, output_NCHW in enumerate(outputs, start=1)
    ]


@torch.inference_mode()
def last_activations(
    loaded: LoadedModel, images_NHW: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What the last linear layer is given, float32 (N, D), and the predictions, int64 (N,).

    `images_NHW` are uint8, on the CPU.
    """
    *_, last = (layer for layer in loaded.network.modules() if isinstance(layer, nn.Linear))
    inputs: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        predicted_N = torch.cat(
            [
                loaded.network(normalize(batch_NHW, loaded.normalization)).argmax(dim=1)
                for batch_NHW in evaluation_batches(images_NHW)
            ]
        )
    finally:
        hook.remove()
    return np.asarray(torch.cat(inputs).numpy()), np.asarray(predicted_N.numpy())


@contextmanager
def _record_outputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of all convolutions with the layers that belong to them."""
    outputs: list[Tensor] = []
    follows_convolution = False

    def record(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal follows_convolution
        is_convolution = isinstance(module, nn.Conv2d)
        if is_convolution and not follows_convolution:
            outputs.append(output)
        elif outputs and output.ndim == 4 and isinstance(module, (nn.Conv2d, *FOLLOWING_LAYERS)):
            outputs[-1] = output
        follows_convolution = is_convolution

    leaves = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(record) for module in leaves]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
