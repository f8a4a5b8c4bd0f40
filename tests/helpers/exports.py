"""Networks to export, and C compilers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.evaluation.inference import Predictions, evaluate_network
from mnistcli.export import proof
from mnistcli.export.c_source import CSource, fill_template, float_source, integer_source
from mnistcli.export.layers import Layer, fold_layers, plain_modules
from mnistcli.export.proof import has_compiler, run_c
from mnistcli.export.quantize import IntegerLayer, quantize
from mnistcli.models.registry import build_network
from tests.helpers.settings import resolve
from tests.helpers.training import digits_normalization, some_digits

SANITIZED = (
    *("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover"),
)
# Of each kind of layer one in the default lane, which has to be fast; all recipes in the slow one.
QUICK = ("ann", "cnn-deep", "cnn-small", "cnn-15k", "sprint", "mlp-50-50")
every_recipe = pytest.mark.parametrize(
    "recipe",
    [
        recipe if recipe in QUICK else pytest.param(recipe, marks=pytest.mark.slow)
        for recipe in RECIPES
    ],
)
# Compiling megabytes of constants takes long; the kinds of layers are the same with fewer.
SMALLER = {"ann": {"hidden": [48, 32, 16]}, "cnn-deep": {"channels": [8, 8, 16, 16]}}
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler (cc)")


@torch.no_grad()
def random_network(recipe: str, **model: Any) -> tuple[nn.Module, Normalization]:
    """A network in evaluation mode with random weights and random statistics of batch norm.

    Its predictions differ from image to image. Some of the scales of batch norm are negative.
    """
    torch.manual_seed(0)
    num_classes = model.pop("num_classes", 10)
    settings = fit_budget(resolve(recipe=recipe, dataset="digits", **model))
    network = build_network(settings.arch, {**settings.network, "num_classes": num_classes})
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.bias.normal_(0, 0.3)
            if module.weight is not None:
                module.weight.normal_(1, 1)
    normalization = digits_normalization(settings)
    logits_NK = network(normalize(some_digits(100).images_NHW, normalization))
    scale = 2 / logits_NK.std(dim=0).mean()
    classify = network.get_submodule("classify")
    assert isinstance(classify, nn.Linear)
    classify.weight *= scale
    classify.bias.copy_((classify.bias - logits_NK.mean(dim=0)) * scale)
    return network, normalization


def layers_of(network: nn.Module, normalization: Normalization) -> list[Layer]:
    return fold_layers(plain_modules(network, normalization.input_px), normalization.input_px)


def quantized(network: nn.Module, normalization: Normalization) -> list[IntegerLayer]:
    layers = layers_of(network, normalization)
    return quantize(layers, normalization, some_digits(100).images_NHW)


def run_integers(
    layers: list[IntegerLayer], normalization: Normalization, images_NHW: torch.Tensor
) -> torch.Tensor:
    """The probabilities (N, 10) that integer layers stand for, by exact arithmetic in float64."""
    x_NCHW = images_NHW.double().unsqueeze(1)
    if normalization.input_px != 28:
        x_NCHW = F.interpolate(x_NCHW, size=normalization.input_px, mode="bilinear")
        x_NCHW = (x_NCHW + 0.5).floor()
    for integer in layers[:-1]:
        sums_NCHW = F.max_pool2d(_sums(integer, x_NCHW), integer.layer.pool)
        x_NCHW = requantize(integer, sums_NCHW).double()
    last = layers[-1]
    logits_NK = _sums(last, x_NCHW).flatten(1).float() * last.scale_O + last.shift_O
    return logits_NK.softmax(dim=1)


def requantize(integer: IntegerLayer, sums_NCHW: torch.Tensor) -> torch.Tensor:
    """The outputs 0 to 255 for sums (N, C, H, W)."""
    multiplier_C11, bias_C11 = (
        values_O.long()[:, None, None] for values_O in (integer.multiplier_O, integer.bias_O)
    )
    values_NCHW = sums_NCHW.long() * multiplier_C11 + bias_C11 * 2**integer.bias_shift
    scaled_NCHW: torch.Tensor = (values_NCHW + integer.offset) // 2**integer.shift
    return scaled_NCHW.clamp(0, 255)


def _sums(integer: IntegerLayer, x_NCHW: torch.Tensor) -> torch.Tensor:
    layer, weights_TIO = integer.layer, integer.weights_TIO.double()
    if isinstance(layer.weight, nn.Linear):
        by_position = x_NCHW.sum(dim=(2, 3)) if layer.repeated else x_NCHW.permute(0, 2, 3, 1)
        return (by_position.flatten(1) @ weights_TIO[0])[:, :, None, None]
    padding, size = (layer.padding,) * 4, (layer.kernel_size, layer.kernel_size)
    if layer.replicate:
        x_NCHW = F.pad(x_NCHW, padding, mode="replicate")
    else:
        x_NCHW = F.pad(x_NCHW, padding, value=integer.zero)
    weights_OIHW = weights_TIO.permute(2, 1, 0).unflatten(2, size)
    groups = layer.out_channels if layer.depthwise else 1
    return F.conv2d(x_NCHW, weights_OIHW, groups=groups)


def float_c(network: nn.Module, normalization: Normalization) -> CSource:
    return float_source(layers_of(network, normalization), normalization, header="net.h")


def integer_c(network: nn.Module, normalization: Normalization) -> CSource:
    return integer_source(quantized(network, normalization), normalization, header="net.h")


def c_files(source: CSource, *, num_classes: int = 10) -> dict[str, bytes]:
    header = fill_template("network.h", num_classes=num_classes, facts=" * a test")
    return {"net.h": header.encode(), "net.c": source.text.encode()}


def run_sanitized(
    source: CSource,
    examples: Examples,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    num_classes: int = 10,
) -> torch.Tensor:
    """The probabilities by a program that stops at undefined behavior and at warnings."""
    monkeypatch.setattr(proof, "_COMPILER_OPTIONS", SANITIZED)
    folder.mkdir()
    files = c_files(source, num_classes=num_classes)
    return run_c(files, "net.h", examples.images_NHW, folder, num_classes=num_classes)


def predictions(
    network: nn.Module, normalization: Normalization, examples: Examples
) -> Predictions:
    """PyTorch's predictions, which are not all the same."""
    expected = evaluate_network(network, examples, normalization)
    assert len(expected.probabilities_NK.argmax(dim=1).unique()) > 1
    return expected
