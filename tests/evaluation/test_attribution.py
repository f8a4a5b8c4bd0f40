"""Integrated gradients: exact for a linear network, complete for all architectures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from mnistcli.config.recipes import get_recipe
from mnistcli.data.normalization import normalize
from mnistcli.evaluation.attribution import integrated_gradients
from mnistcli.models.registry import build_network, get_architecture
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, LoadedModel, load_checkpoint
from tests.helpers.figures import make_model
from tests.helpers.training import load_digits


def with_recipe(loaded: LoadedModel, name: str) -> LoadedModel:
    """The network of a recipe with random weights."""
    torch.manual_seed(0)
    recipe = get_recipe(name)
    network = build_network(recipe.arch, recipe.model).eval().requires_grad_(requires_grad=False)
    card = loaded.card.model_copy(update={"input_px": get_architecture(recipe.arch).input_px})
    return replace(loaded, network=network, card=card)


def test_a_linear_network_gives_weight_times_pixel() -> None:
    linear = nn.Linear(784, 10)
    model = make_model(nn.Sequential(nn.Flatten(), linear))
    images_NHW = load_digits("test").images_NHW[:3]
    found_NHW = integrated_gradients(model, images_NHW, [3, 0, 9], [5, 1, 2])
    for image_HW, found_HW, this, other in zip(
        images_NHW, found_NHW, (3, 0, 9), (5, 1, 2), strict=True
    ):
        weights_HW = (linear.weight[this] - linear.weight[other]).reshape(28, 28)
        expected_HW = weights_HW * image_HW / 255 / model.card.std
        assert_allclose(found_HW, expected_HW.numpy(), atol=1e-5)


@pytest.mark.parametrize("recipe", ["", "mlp-50-50", "cnn-26k", "sprint", "ann", "cnn-deep"])
def test_the_values_add_up_to_the_change_of_the_logits(recipe: str) -> None:
    model = load_checkpoint(BUNDLED_CHECKPOINT)
    if recipe:
        model = with_recipe(model, recipe)
    images_NHW = load_digits("test").images_NHW[:2]
    found_NHW = integrated_gradients(model, images_NHW, [1, 2], [4, 8])
    assert found_NHW.shape == (2, 28, 28)
    assert not found_NHW[images_NHW.numpy() == 0].any()
    logits_NK = model.network(normalize(images_NHW, model.normalization))
    blank_NHW = torch.zeros_like(images_NHW)
    logits_NK -= model.network(normalize(blank_NHW, model.normalization))
    change_N = (logits_NK[[0, 1], [1, 2]] - logits_NK[[0, 1], [4, 8]]).numpy()
    total_N = found_NHW.sum(axis=(1, 2))
    assert_allclose(total_N, change_N, rtol=0.05, atol=0.05 * float(np.abs(found_NHW).max()))


def test_exchanging_the_classes_changes_the_sign(trained: Path) -> None:
    model = load_checkpoint(trained / "best.pth")
    images_NHW = load_digits("test").images_NHW[:1]
    one_NHW = integrated_gradients(model, images_NHW, [1], [4])
    assert one_NHW.any()
    assert_allclose(integrated_gradients(model, images_NHW, [4], [1]), -one_NHW, atol=1e-6)
