"""What a network is made of: its layers, their sizes and their cost."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.models.registry import build_on_meta, get_architecture


@dataclass(frozen=True)
class LayerSummary:
    """One layer as the picture passes it.

    `output_shape` is of one picture, without the batch. `num_macs` counts
    multiply-accumulates for one picture, of convolutions and linear layers
    only; a layer passed twice stands twice, its parameters counted once.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_params: int
    num_macs: int


@dataclass(frozen=True)
class NetworkSummary:
    """A network described: its settings, and its layers in the order a picture passes them."""

    settings: TrainSettings
    input_px: int
    layers: list[LayerSummary]

    @property
    def num_params(self) -> int:
        """Trainable parameters."""
        return sum(layer.num_params for layer in self.layers)

    @property
    def num_macs(self) -> int:
        """Multiply-accumulates for one picture."""
        return sum(layer.num_macs for layer in self.layers)

    @property
    def num_bytes(self) -> int:
        """The size of the parameters as float32."""
        return 4 * self.num_params


def summarize_network(settings: TrainSettings) -> NetworkSummary:
    """The network that these settings train; a budget must have been filled in."""
    network = build_on_meta(settings.arch, settings.network)
    input_px = get_architecture(settings.arch).input_px
    return NetworkSummary(settings, input_px, trace_layers(network, input_px=input_px))


def summarize_recipes() -> list[NetworkSummary]:
    """The networks of all recipes, in the registry's order."""
    return [
        summarize_network(fit_budget(resolve_settings({"recipe": name}, environ={}).settings))
        for name in RECIPES
    ]


def trace_layers(network: nn.Module, *, input_px: int) -> list[LayerSummary]:
    """The layers of a network on the "meta" device, in the order a picture passes them.

    Nothing is computed or allocated: only shapes flow, so a network of any size
    takes no memory.
    """
    found: list[LayerSummary] = []
    counted: set[nn.Module] = set()

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        params = 0 if module in counted else sum(p.numel() for p in module.parameters())
        counted.add(module)
        shape = tuple(output.shape[1:])
        found.append(
            LayerSummary(name, type(module).__name__, shape, params, _num_macs(module, shape))
        )

    hooks = [
        module.register_forward_hook(
            lambda module, _inputs, output, name=name: note(name, module, output)
        )
        for name, module in network.named_modules()
        if not any(module.children())
    ]
    network.eval()(torch.empty(1, 1, input_px, input_px, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def _num_macs(module: nn.Module, output_shape: tuple[int, ...]) -> int:
    if isinstance(module, nn.Conv2d):
        taps = prod(module.kernel_size) * module.in_channels // module.groups
        return prod(output_shape) * taps
    if isinstance(module, nn.Linear):
        return prod(output_shape) * module.in_features
    return 0
