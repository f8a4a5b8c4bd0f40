"""First filters and feature maps, compared with the layers themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import Tensor, nn

from mnistcli.config.recipes import get_recipe
from mnistcli.data.normalization import normalize
from mnistcli.errors import SettingsError
from mnistcli.evaluation.features import feature_maps, first_filters, last_activations
from mnistcli.models.registry import build_network, get_architecture
from mnistcli.runs.checkpoint import LoadedModel, load_checkpoint

IMAGE_HW = (torch.arange(28 * 28).reshape(28, 28) % 251).to(torch.uint8)


@pytest.fixture
def loaded(trained: Path) -> LoadedModel:
    return load_checkpoint(trained / "best.pth")


def with_network(loaded: LoadedModel, network: nn.Module, input_px: int = 28) -> LoadedModel:
    network.eval().requires_grad_(requires_grad=False)
    card = loaded.card.model_copy(update={"input_px": input_px})
    return replace(loaded, network=network, card=card)


def with_recipe(loaded: LoadedModel, name: str) -> LoadedModel:
    recipe = get_recipe(name)
    model = {**recipe.model, "width": 4} if recipe.arch == "cnn-small" else recipe.model
    network = build_network(recipe.arch, model)
    return with_network(loaded, network, get_architecture(recipe.arch).input_px)


def test_the_filters_of_a_convolution_are_its_kernels(loaded: LoadedModel) -> None:
    weights_NHW = first_filters(loaded)
    assert weights_NHW.shape == (8, 3, 3)
    first = loaded.network.state_dict()["stages.0.weight"]
    assert_allclose(weights_NHW, first[:, 0].numpy())


@pytest.mark.parametrize(("name", "shape"), [("mlp-50-50", (50, 28, 28)), ("ann", (1024, 64, 64))])
def test_the_filters_of_a_linear_layer_are_its_rows(
    loaded: LoadedModel, name: str, shape: tuple[int, ...]
) -> None:
    model = with_recipe(loaded, name)
    weights_NHW = first_filters(model)
    assert weights_NHW.shape == shape
    first = next(layer for layer in model.network.modules() if isinstance(layer, nn.Linear))
    # Pixels are in rows: (1, 3) comes after one row and three columns.
    assert weights_NHW[7, 1, 3] == first.weight[7, shape[2] + 3]


def test_feature_maps_are_normalized_pooled_and_rectified(loaded: LoadedModel) -> None:
    first, second = feature_maps(loaded, IMAGE_HW)
    mean, std = loaded.card.mean, loaded.card.std
    x_NCHW = (IMAGE_HW[None, None] / 255 - mean) / std
    layers = [layer for layer in loaded.network.modules() if isinstance(layer, nn.Conv2d)]
    for convolution, output in zip(layers, (first, second), strict=True):
        x_NCHW = F.relu(F.max_pool2d(convolution(x_NCHW), 2))
        assert_allclose(output.maps_CHW, x_NCHW[0], rtol=1e-5, atol=1e-6)
    assert (first.name, first.maps_CHW.shape) == ("convolution 1", (8, 14, 14))
    assert (second.name, second.maps_CHW.shape) == ("convolution 2", (16, 7, 7))
    assert first.maps_CHW.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "num_outputs"), [("cnn-small", 6), ("cnn-deep", 8), ("sprint", 2), ("cnn-linear", 2)]
)
def test_every_convolution_has_its_maps(loaded: LoadedModel, name: str, num_outputs: int) -> None:
    model = with_recipe(loaded, name)
    before = {key: each.clone() for key, each in model.network.state_dict().items()}
    outputs = feature_maps(model, IMAGE_HW)
    assert len(outputs) == num_outputs
    sides = [output.maps_CHW.shape[-1] for output in outputs]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] > 1
    assert all(output.maps_CHW.min() >= 0 for output in outputs)
    assert all(torch.equal(before[key], each) for key, each in model.network.state_dict().items())
    assert not any(layer._forward_hooks for layer in model.network.modules())


class Shared(nn.Module):
    """A separable convolution that is used twice, with ReLUs that are not modules."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 1))
        self.norms = nn.ModuleList([nn.BatchNorm2d(1), nn.BatchNorm2d(1)])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        for norm in self.norms:
            x_NCHW = norm(self.look(x_NCHW)).relu_()
        return x_NCHW.flatten(1)


def test_a_convolution_that_is_used_twice_has_maps_twice(loaded: LoadedModel) -> None:
    model = with_network(loaded, Shared())
    first, second = feature_maps(model, IMAGE_HW)
    assert (first.maps_CHW.shape, second.maps_CHW.shape) == ((1, 26, 26), (1, 24, 24))
    x_NCHW = (IMAGE_HW[None, None] / 255 - loaded.card.mean) / loaded.card.std
    assert_allclose(second.maps_CHW.ravel(), model.network(x_NCHW)[0], rtol=1e-5, atol=1e-6)


def test_a_network_without_convolutions_has_no_maps(loaded: LoadedModel) -> None:
    with pytest.raises(SettingsError, match="has no feature maps") as refused:
        feature_maps(with_recipe(loaded, "mlp-50-50"), IMAGE_HW)
    assert "--kind filters" in refused.value.fix


@pytest.mark.parametrize(
    ("recipe", "num_values"),
    [("mlp-50-50", 50), ("cnn-26k", 32), ("cnn-linear", 1024), ("cnn-small", 4), ("ann", 256)],
)
def test_the_last_layer_turns_the_last_activations_into_logits(
    loaded: LoadedModel, recipe: str, num_values: int
) -> None:
    loaded = with_recipe(loaded, recipe)
    images_NHW = torch.stack([IMAGE_HW, IMAGE_HW.T, 255 - IMAGE_HW])
    activations_ND, predicted_N = last_activations(loaded, images_NHW)
    assert activations_ND.shape == (3, num_values)
    *_, last = (layer for layer in loaded.network.modules() if isinstance(layer, nn.Linear))
    logits_NK = loaded.network(normalize(images_NHW, loaded.normalization))
    assert_allclose(last(torch.from_numpy(activations_ND)).numpy(), logits_NK.numpy(), atol=1e-5)
    assert predicted_N.tolist() == logits_NK.argmax(dim=1).tolist()
