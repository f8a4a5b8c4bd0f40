"""Layers in integers: 8-bit weights and activations, 32-bit sums, requantized by a multiplication.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (arXiv:1712.05877): a real value is scale * (integer - zero),
weights have a scale per output channel and zero 0, activations a scale and a zero per map.

Shapes: N images, C channels, H rows, W columns, T taps of a kernel, I input and O output channels.
"""

from dataclasses import dataclass
from math import floor, log2

import torch
from torch import Tensor

from mnistcli.data.batches import evaluation_batches
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.export.layers import ExportError, Layer

# Weights are integers from -127 to 127, activations from 0 to 255.
_MAX_WEIGHT, _MAX_VALUE = 127, 255
_MAX_INT16, _MAX_INT32 = 2**15 - 1, 2**31 - 1
# The largest multiplier has as many bits, the others of its layer fewer.
_MULTIPLIER_BITS = 15
# Keeps every intermediate result within 64 bits.
_MAX_SHIFT = 40


@dataclass(frozen=True)
class IntegerLayer:
    """A layer with integer weights: int8, in the shape of its `weights_TIO`.

    An output is (sum * multiplier + (bias << bias_shift) + offset) >> shift, from 0 to 255. The
    last layer has none of these: its logits are sum * scale_O + shift_O in float32.
    """

    layer: Layer
    weights_TIO: Tensor
    # The integer that stands for 0 in its input.
    zero: int
    multiplier_O: Tensor
    bias_O: Tensor
    bias_shift: int
    offset: int
    shift: int
    scale_O: Tensor
    shift_O: Tensor


@dataclass(frozen=True)
class _Scale:
    """How integers stand for real values: scale * (integer - zero)."""

    scale: float
    zero: float


def quantize(
    layers: list[Layer], normalization: Normalization, images_NHW: Tensor
) -> list[IntegerLayer]:
    """The layers in integers; `images_NHW` show the ranges of their activations.

    The input is the pixels themselves, resized if need be, 0 to 255.

    Raises:
        ExportError: a layer has so many inputs that 32 bits may not hold their sum.
    """
    pixel = _Scale(1 / (_MAX_VALUE * normalization.std), _MAX_VALUE * normalization.mean)
    scales = [pixel, *map(_scale_of, *_ranges(layers, normalization, images_NHW))]
    return [
        _quantize_layer(layer, *scales_before_after)
        for layer, *scales_before_after in zip(layers, scales, scales[1:], strict=False)
    ]


@torch.inference_mode()
def _ranges(
    layers: list[Layer], normalization: Normalization, images_NHW: Tensor
) -> tuple[list[float], list[float]]:
    """The smallest and the largest output of every layer, at most and at least 0."""
    lows, highs = [0.0] * len(layers), [0.0] * len(layers)
    for batch_NHW in evaluation_batches(images_NHW):
        x = normalize(batch_NHW, normalization)
        for place, layer in enumerate(layers):
            for module in layer.modules:
                x = module(x)
            lows[place] = min(lows[place], x.min().item())
            highs[place] = max(highs[place], x.max().item())
    return lows, highs


def _scale_of(low: float, high: float) -> _Scale:
    scale = (high - low) / _MAX_VALUE or 1.0
    return _Scale(scale, round(-low / scale))


def _quantize_layer(layer: Layer, before: _Scale, after: _Scale) -> IntegerLayer:
    largest_O = layer.weights_TIO.abs().amax(dim=(0, 1))
    weight_scale_O = torch.where(largest_O > 0, largest_O / _MAX_WEIGHT, 1.0)
    weights_TIO = (layer.weights_TIO / weight_scale_O).round()
    num_repeats = layer.kernel_size**2 if layer.repeated else 1
    sum_O = weights_TIO.sum(dim=(0, 1)) * num_repeats
    largest_sum_O = weights_TIO.abs().sum(dim=(0, 1)) * num_repeats * _MAX_VALUE
    if largest_sum_O.max() > _MAX_INT32:
        raise ExportError(
            "The network is too large for --precision int8.",
            why=f"A sum of {layer.in_channels:,} products may need more than 32 bits.",
            fix="Export it as float32: --precision float32",
        )
    scale_O = weight_scale_O * before.scale
    if layer.scale_O is not None:
        scale_O = scale_O * layer.scale_O
    shift_O = layer.shift_O - scale_O * before.zero * sum_O

    factor_O, bias_O = scale_O / after.scale, shift_O / after.scale
    # Beyond this the output is 0 or 255 whatever the sum is: a bias of a channel that is never
    # active may be arbitrarily large.
    limit_O = factor_O.abs() * largest_sum_O + _MAX_VALUE
    bias_O = bias_O.clamp(-limit_O, limit_O)
    shift = max(0, min(_MULTIPLIER_BITS - 1 - _exponent(factor_O), _MAX_SHIFT))
    bias_shift = max(0, shift - (_MULTIPLIER_BITS - 1 - _exponent(bias_O)))
    return IntegerLayer(
        layer,
        weights_TIO.to(torch.int8),
        zero=round(before.zero),
        multiplier_O=_to_int16(factor_O * 2**shift),
        bias_O=_to_int16(bias_O * 2.0 ** (shift - bias_shift)),
        bias_shift=bias_shift,
        offset=int((after.zero + 0.5) * 2**shift),
        shift=shift,
        scale_O=scale_O.float(),
        shift_O=shift_O.float(),
    )


def _exponent(values: Tensor) -> int:
    """The exponent of the largest value: it is at least 2 to this power, and less than twice it."""
    largest = values.abs().max().item()
    return floor(log2(largest)) if largest else 0


def _to_int16(values: Tensor) -> Tensor:
    return values.round().clamp(-_MAX_INT16, _MAX_INT16).to(torch.int16)
