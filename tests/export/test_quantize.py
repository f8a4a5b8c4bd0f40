"""Layers in integers."""

import pytest
import torch

from mnistcli.data.normalization import normalize
from mnistcli.export.layers import ExportError
from mnistcli.export.quantize import quantize
from tests.helpers.exports import layers_of, quantized, random_network, requantize
from tests.helpers.training import some_digits


def test_weights_have_a_scale_per_channel_and_use_all_of_it() -> None:
    network, normalization = random_network("cnn-26k")
    for integer in quantized(network, normalization):
        assert integer.weights_TIO.dtype == torch.int8
        assert (integer.weights_TIO.abs().amax(dim=(0, 1)) == 127).all()


def test_the_integers_stand_for_the_weights() -> None:
    network, normalization = random_network("mlp-50-50")
    last = quantized(network, normalization)[-1]
    weight_scale_O = last.layer.weights_TIO.abs().amax(dim=(0, 1)) / 127
    error_TIO = last.weights_TIO * weight_scale_O - last.layer.weights_TIO
    assert (error_TIO.abs() <= weight_scale_O / 2 + 1e-9).all()


def test_a_multiplication_and_a_shift_give_the_output() -> None:
    """The first layer of a perceptron, within one step of the output's integers."""
    network, normalization = random_network("mlp-50-50")
    first = quantized(network, normalization)[0]
    images_NHW = some_digits(100).images_NHW
    values_NO = normalize(images_NHW, normalization).flatten(1)
    for module in first.layer.modules[1:]:
        values_NO = module(values_NO)
    step = values_NO.max() / 255
    sum_NO = images_NHW.flatten(1).long() @ first.weights_TIO[0].long()
    computed_NO = requantize(first, sum_NO[:, :, None, None])[:, :, 0, 0] * step
    assert computed_NO.max() > 200 * step
    assert (computed_NO - values_NO).abs().max() < 2.5 * step


def test_a_channel_that_is_never_active_does_not_spoil_the_others() -> None:
    """Batch norm may shift it arbitrarily far below 0."""
    network, normalization = random_network("sprint")
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.weight[0] = 1e-12
    norm.bias[0] = -1e12
    first = quantized(network, normalization)[0]
    bias_step = 2.0 ** (first.bias_shift - first.shift)
    assert bias_step < 0.01, "in steps of the output"
    extreme_NCHW = torch.tensor([-(2**24), 2**24])[:, None, None, None].expand(2, 16, 1, 1)
    outputs_NCHW = requantize(first, extreme_NCHW)
    assert not outputs_NCHW[:, 0].any()
    assert outputs_NCHW[:, 1:].any()


def test_sums_that_may_need_more_than_32_bits_are_refused() -> None:
    network, normalization = random_network("mlp-50-50")
    layers = layers_of(network, normalization)
    layers[0].weights_TIO = torch.ones(1, 70_000, 50, dtype=torch.float64)
    with pytest.raises(ExportError, match="too large") as caught:
        quantize(layers, normalization, some_digits(10).images_NHW)
    assert "float32" in caught.value.fix
