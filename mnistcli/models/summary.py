"""The layers of a network: output shapes, parameters and multiply-accumulates (MACs)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from mnistcli.models.registry import build_on_meta, get_architecture


@dataclass(frozen=True)
class LayerSummary:
    """One application of a layer to one image.

    `output_shape` is without the batch. `num_macs` counts convolutions and
    linear layers only. A layer that is applied twice is listed twice; its
    parameters are counted the first time, and `first_row` is its row then
    (from 1; None for a layer that is new or has no parameters).

    `receptive_field_px` is the side of the square of input pixels that an
    output value depends on, more than the input's where padding is part of it;
    `stride_px` is how far the squares of two neighbors are apart (Araujo,
    Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural
    Networks", doi:10.23915/distill.00021).
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_params: int
    num_macs: int
    receptive_field_px: int
    stride_px: int
    first_row: int | None = None


@dataclass(frozen=True)
class NetworkSummary:
    """A network's input size and its layers in the order of the forward pass."""

    input_px: int
    layers: list[LayerSummary]

    @property
    def num_params(self) -> int:
        """Trainable parameters."""
        return sum(layer.num_params for layer in self.layers)

    @property
    def num_macs(self) -> int:
        """Multiply-accumulates per image."""
        return sum(layer.num_macs for layer in self.layers)

    @property
    def num_bytes(self) -> int:
        """The size of the parameters as float32."""
        return 4 * self.num_params

    @property
    def num_int8_bytes(self) -> int:
        """The size of the parameters in 8 bits, without the scales that `mnist export` adds."""
        return self.num_params


def summarize_network(arch: str, model: Mapping[str, object]) -> NetworkSummary:
    """The summary of a network by its architecture and model settings, as for `build_network`.

    Raises:
        SettingsError: the settings leave no pixel of the image.
    """
    input_px = get_architecture(arch).input_px
    return NetworkSummary(input_px, trace_layers(build_on_meta(arch, model), input_px=input_px))


def trace_layers(network: nn.Module, *, input_px: int) -> list[LayerSummary]:
    """The layers of a network on the "meta" device, in the order of the forward pass.

    Only shapes are computed, so that a network of any size needs no memory.
    """
    layers: list[LayerSummary] = []
    rows: dict[nn.Module, int] = {}

    def record(name: str, module: nn.Module, before: Tensor, output: Tensor) -> None:
        shape = tuple(output.shape[1:])
        field_px, stride_px = 1, 1
        if layers:
            field_px, stride_px = layers[-1].receptive_field_px, layers[-1].stride_px
        kernel_size, stride = _window(module, before)
        field_px += (kernel_size - 1) * stride_px
        stride_px *= stride
        num_params = sum(p.numel() for p in module.parameters())
        first_row = rows.get(module) if num_params else None
        rows.setdefault(module, len(layers) + 1)
        layers.append(
            LayerSummary(
                name,
                type(module).__name__,
                shape,
                0 if first_row else num_params,
                _count_macs(module, shape),
                field_px,
                stride_px,
                first_row,
            )
        )

    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: record(name, module, inputs[0], output)
        )
        for name, module in network.named_modules()
        if not any(module.children())
    ]
    network.eval()(torch.empty(1, 1, input_px, input_px, device="meta"))
    for hook in hooks:
        hook.remove()
    return layers


def _window(module: nn.Module, before: Tensor) -> tuple[int, int]:
    """The side of the square of its input that an output value depends on, and its stride."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size[0], module.stride[0]
    if isinstance(module, nn.MaxPool2d):
        return cast("int", module.kernel_size), cast("int", module.stride)
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.Flatten):
        return before.shape[-1], 1  # the whole map
    return 1, 1


def _count_macs(module: nn.Module, output_shape: tuple[int, ...]) -> int:
    if isinstance(module, nn.Conv2d):
        taps = prod(module.kernel_size) * module.in_channels // module.groups
        return prod(output_shape) * taps
    if isinstance(module, nn.Linear):
        return prod(output_shape) * module.in_features
    return 0
