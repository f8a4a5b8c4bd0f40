"""A network as the plain list of layers that it computes, batch norm folded into the weights.

Shapes: N images, C channels, H rows, W columns, T taps of a kernel, I input and O output channels.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnistcli.errors import MnistError


class ExportError(MnistError):
    """A network cannot be exported, or what was exported predicts something else."""


@dataclass
class Layer:
    """A convolution or linear layer with the batch norm, pooling and ReLU that follow it.

    A linear layer is a convolution of one position with one tap. One after global average pooling
    has a tap per position, and `repeated` weights. Maps are in the order H, W, C.

    Attributes:
        modules: What it computes, as PyTorch's modules in order.
        weight: The module with its weights, which several layers may share.
        weights_TIO: Float64; for a `depthwise` convolution I is 1.
        scale_O: What the sums of products are multiplied by; None where the weights contain it.
        shift_O: What is added to them.
        pool: The side of the square of sums that the maximum is taken of; 1 for none.
    """

    modules: list[nn.Module]
    weight: nn.Module
    weights_TIO: Tensor
    scale_O: Tensor | None
    shift_O: Tensor
    in_px: int
    out_px: int
    in_channels: int
    kernel_size: int = 1
    padding: int = 0
    pool: int = 1
    replicate: bool = False
    depthwise: bool = False
    repeated: bool = False
    relu: bool = False

    @property
    def out_channels(self) -> int:
        """O."""
        return len(self.shift_O)

    @property
    def runs_in_place(self) -> bool:
        """Whether its output may replace its input, position by position.

        A position is stored after all its sums, and no later one reads what it replaces.
        """
        shrinks = self.padding == 0 and self.out_channels <= self.in_channels
        return shrinks or self.out_px == 1


@torch.inference_mode()
def plain_modules(network: nn.Module, input_px: int) -> list[nn.Module]:
    """The modules of a network in the order in which they process an image.

    Called one after the other they compute the network as it is defined, not as it is computed on
    a CPU (`models/cnn_small.py`). A module that is applied twice is listed twice.
    """
    modules: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, _inputs, _output: modules.append(module))
        for module in network.modules()
        if not any(module.children())
    ]
    network.eval()(torch.zeros(1, 1, input_px, input_px))
    for hook in hooks:
        hook.remove()
    means = [place for place, each in enumerate(modules) if isinstance(each, nn.AdaptiveAvgPool2d)]
    for place in means:
        modules.insert(place + 1, nn.Flatten())  # a method call in SmallCNN
    return [module for module in modules if not isinstance(module, nn.Dropout)]


def fold_layers(modules: list[nn.Module], input_px: int) -> list[Layer]:
    """The layers that `plain_modules` compute.

    Batch norm goes into the weights, except where other layers share them, or where a negative
    scale would turn the maximum that was taken before into a minimum.

    Raises:
        ExportError: a module is not known here.
    """
    uses = Counter(modules)
    layers: list[Layer] = []
    before: list[nn.Module] = []
    channels, side_px = 1, input_px
    for module in modules:
        last = layers[-1] if layers else None
        if isinstance(module, nn.Conv2d | nn.Linear):
            repeated = any(isinstance(each, nn.AdaptiveAvgPool2d) for each in before)
            if isinstance(module, nn.Conv2d):
                layer = _convolution(module, side_px)
            else:
                layer = _linear(module, channels, side_px, repeated=repeated)
            layer.modules = [*before, module]
            layers.append(layer)
            before = []
            channels, side_px = layer.out_channels, layer.out_px
        elif isinstance(module, nn.AdaptiveAvgPool2d | nn.Flatten):
            before.append(module)
        elif isinstance(module, nn.MaxPool2d) and last and module.kernel_size == 2 == module.stride:
            last.pool, last.out_px = 2, last.out_px // 2
            last.modules.append(module)
            side_px = last.out_px
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and last and not last.relu:
            _fold(module, last, may_change_weights=uses[last.weight] == 1)
            last.modules.append(module)
        elif isinstance(module, nn.ReLU) and last:
            last.relu = True
            last.modules.append(module)
        else:
            raise ExportError(f"A {type(module).__name__} cannot be exported at this place.")
    return layers


def _convolution(module: nn.Conv2d, in_px: int) -> Layer:
    kernel_size, padding = module.kernel_size[0], int(module.padding[0])
    weights_TIO = module.weight.double().permute(2, 3, 1, 0).flatten(0, 1)
    return Layer(
        [],
        module,
        weights_TIO,
        None,
        _shift(module),
        in_px=in_px,
        out_px=in_px + 2 * padding - kernel_size + 1,
        in_channels=module.in_channels,
        kernel_size=kernel_size,
        padding=padding,
        replicate=module.padding_mode == "replicate",
        depthwise=module.groups > 1,
    )


def _linear(module: nn.Linear, channels: int, side_px: int, *, repeated: bool) -> Layer:
    weights_IO = module.weight.double().T
    if repeated:
        weights_TIO = (weights_IO / side_px**2).unsqueeze(0)
    else:
        # PyTorch flattens maps in the order C, H, W.
        by_position = weights_IO.reshape(channels, side_px**2, -1).transpose(0, 1)
        weights_TIO = by_position.reshape(1, len(weights_IO), -1)
    return Layer(
        [],
        module,
        weights_TIO,
        None,
        _shift(module),
        in_px=side_px if repeated else 1,
        out_px=1,
        in_channels=weights_TIO.shape[1],
        kernel_size=side_px if repeated else 1,
        repeated=repeated,
    )


def _shift(module: nn.Conv2d | nn.Linear) -> Tensor:
    if module.bias is None:
        return torch.zeros(len(module.weight), dtype=torch.float64)
    return module.bias.double()


def _fold(norm: nn.BatchNorm1d | nn.BatchNorm2d, layer: Layer, *, may_change_weights: bool) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_O = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_O *= norm.weight.double()
    layer.shift_O = (layer.shift_O - norm.running_mean.double()) * scale_O + norm.bias.double()
    if may_change_weights and (layer.pool == 1 or bool((scale_O > 0).all())):
        layer.weights_TIO = layer.weights_TIO * scale_O
    else:
        layer.scale_O = scale_O
