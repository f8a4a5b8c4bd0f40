"""Networks as plain lists of layers."""

import pytest
import torch
from torch import nn

from mnistcli.config.recipes import RECIPES
from mnistcli.data.normalization import normalize
from mnistcli.export.layers import ExportError, fold_layers, plain_modules
from tests.helpers.exports import layers_of, random_network
from tests.helpers.training import some_digits


@pytest.mark.parametrize("recipe", RECIPES)
def test_modules_in_their_order_are_the_network(recipe: str) -> None:
    network, normalization = random_network(recipe)
    modules = plain_modules(network, normalization.input_px)
    x_NCHW = normalize(some_digits(5).images_NHW, normalization)
    expected_NK = network(x_NCHW)
    torch.testing.assert_close(nn.Sequential(*modules)(x_NCHW), expected_NK, rtol=1e-4, atol=1e-4)
    assert not any(module._forward_hooks for module in network.modules())


def test_batch_norm_is_folded_unless_weights_are_shared() -> None:
    stem, *repeated, classify = layers_of(*random_network("cnn-small"))
    assert stem.scale_O is None
    assert classify.scale_O is None
    pointwise = repeated[1::2]
    assert len(pointwise) == 5
    assert len({id(layer.weight) for layer in pointwise}) == 1
    assert all(layer.scale_O is not None for layer in pointwise)


def test_a_negative_scale_after_pooling_is_kept() -> None:
    """max(-x) is not -max(x)."""
    network, normalization = random_network("sprint")
    first = layers_of(network, normalization)[0]
    assert first.scale_O is not None
    assert (first.scale_O < 0).any()
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    nn.init.ones_(norm.weight)
    assert layers_of(network, normalization)[0].scale_O is None


def test_unpadded_layers_with_no_more_channels_run_in_place() -> None:
    stem, *rest = layers_of(*random_network("cnn-small"))
    assert not stem.runs_in_place
    assert all(layer.runs_in_place for layer in rest)
    assert [layer.runs_in_place for layer in layers_of(*random_network("cnn-26k"))] == [
        *(False, False, True, True)
    ]


@pytest.mark.parametrize("module", [nn.Tanh(), nn.MaxPool2d(3)])
def test_other_modules_cannot_be_exported(module: nn.Module) -> None:
    with pytest.raises(ExportError, match=type(module).__name__):
        fold_layers([nn.Conv2d(1, 2, 3), module], 28)
