"""What every network promises: logits, gradients everywhere, and nothing of the package inside."""

import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mnistcli.models
from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.models.registry import ARCHITECTURES, build_network, get_architecture

MODEL_FILES = sorted(Path(mnistcli.models.__path__[0]).glob("*.py"))
every_recipe = pytest.mark.parametrize("recipe", RECIPES)


def settings(recipe: str) -> TrainSettings:
    return fit_budget(resolve_settings({"recipe": recipe}, environ={}).settings)


def network(recipe: str) -> nn.Module:
    torch.manual_seed(0)
    chosen = settings(recipe)
    return build_network(chosen.arch, chosen.network)


def pictures(recipe: str, num: int = 4) -> Tensor:
    input_px = get_architecture(settings(recipe).arch).input_px
    return torch.randn(num, 1, input_px, input_px, generator=torch.Generator().manual_seed(1))


@every_recipe
def test_a_network_gives_ten_logits_a_picture(recipe: str) -> None:
    logits_NK = network(recipe).eval()(pictures(recipe, 3))
    assert logits_NK.shape == (3, 10)
    assert logits_NK.dtype == torch.float32
    assert logits_NK.isfinite().all()


@every_recipe
def test_a_network_ends_without_softmax(recipe: str) -> None:
    logits_NK = network(recipe).eval()(pictures(recipe))
    ones_N = torch.ones(len(logits_NK))
    assert not torch.allclose(logits_NK.sum(dim=1), ones_N, atol=1e-3)
    assert not torch.allclose(logits_NK.exp().sum(dim=1), ones_N, atol=1e-3)
    assert (logits_NK < 0).any()
    assert (logits_NK > 0).any()


@every_recipe
def test_gradients_reach_every_parameter(recipe: str) -> None:
    model = network(recipe).train()
    labels_N = torch.arange(16) % 10
    loss = F.cross_entropy(model(pictures(recipe, 16)), labels_N)
    torch.autograd.backward(loss)
    dead = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert not dead


@every_recipe
def test_a_network_in_eval_mode_gives_the_same_answer_twice(recipe: str) -> None:
    model, x_NCHW = network(recipe).eval(), pictures(recipe)
    assert torch.equal(model(x_NCHW), model(x_NCHW))


@every_recipe
def test_a_picture_is_judged_alone_whatever_its_batch(recipe: str) -> None:
    model, x_NCHW = network(recipe).eval(), pictures(recipe)
    torch.testing.assert_close(model(x_NCHW)[:1], model(x_NCHW[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "recipe", [name for name, recipe in RECIPES.items() if recipe.model.get("dropout")]
)
def test_dropout_acts_in_training_only(recipe: str) -> None:
    model, x_NCHW = network(recipe).train(), pictures(recipe)
    assert not torch.equal(model(x_NCHW), model(x_NCHW))


@pytest.mark.parametrize("recipe", ["cnn-26k", "mlp-50-50"])
def test_without_dropout_training_mode_changes_nothing(recipe: str) -> None:
    model, x_NCHW = network(recipe), pictures(recipe)
    assert torch.equal(model.train()(x_NCHW), model.eval()(x_NCHW))


@pytest.mark.parametrize("pool", ["each", "last"])
def test_pooling_before_the_relu_gives_the_bits_of_pooling_after_it(pool: str) -> None:
    def gradients(stages: nn.Module) -> list[Tensor]:
        x_NCHW = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        result = stages(x_NCHW)
        wanted = torch.linspace(-1, 1, result.numel()).view_as(result)
        return [result, *torch.autograd.grad((result * wanted).sum(), list(stages.parameters()))]

    chosen = {"channels": [3, 5], "kernel_size": 3, "padding": 0, "hidden": [], "dropout": 0.0}
    stages = build_network("cnn", {**chosen, "pool": pool}).stages
    assert isinstance(stages, nn.Sequential)
    kinds = [type(layer) for layer in stages]
    pools = [nn.Conv2d, nn.MaxPool2d, nn.ReLU]
    assert kinds == (pools if pool == "each" else [nn.Conv2d, nn.ReLU]) + pools
    textbook = list(stages)
    for index, kind in enumerate(kinds):
        if kind is nn.MaxPool2d:
            textbook[index : index + 2] = [nn.ReLU(), nn.MaxPool2d(2)]
    for ours, theirs in zip(gradients(stages), gradients(nn.Sequential(*textbook)), strict=True):
        assert torch.equal(ours, theirs)


def test_cnn_small_averages_what_it_reads_at_nine_places() -> None:
    """Without the padding it reads one place of 28x28 pixels: here, each of nine in turn."""
    torch.manual_seed(0)
    model = build_network("cnn-small", {"width": 12})
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # one batch makes it know what it meets
    model(torch.rand(32, 1, 28, 28))
    model.eval()
    picture_NCHW = torch.rand(1, 1, 28, 28)
    averaged_NK = model(picture_NCHW)
    wide_NCHW = F.pad(picture_NCHW, (2, 2, 2, 2), mode="replicate")
    stem = next(model.children())
    assert isinstance(stem, nn.Sequential)
    assert isinstance(stem[0], nn.Conv2d)
    stem[0].padding_mode, stem[0].padding = "zeros", (0, 0)
    places = [(top, left) for top in (0, 2, 4) for left in (0, 2, 4)]
    read_NK = [model(wide_NCHW[..., top : top + 28, left : left + 28]) for top, left in places]
    torch.testing.assert_close(averaged_NK, torch.cat(read_NK).mean(dim=0, keepdim=True))
    assert not torch.allclose(read_NK[0], read_NK[8], atol=1e-3)


def test_there_is_one_file_an_architecture() -> None:
    named = {arch.factory.split(":")[0] for arch in ARCHITECTURES.values()}
    files = {f"mnistcli.models.{path.stem}" for path in MODEL_FILES if path.stem != "__init__"}
    assert files == named


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.stem)
def test_a_model_imports_nothing_of_the_package(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imported = [
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    ]
    imported += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in imported} <= {"torch", "collections"}
