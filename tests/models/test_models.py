"""What every network guarantees: ten logits, gradients everywhere, torch and nothing else."""

import ast
import copy
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mnistcli.models
from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget
from mnistcli.models import cnn_small
from mnistcli.models.cnn_small import SmallCNN
from mnistcli.models.registry import ARCHITECTURES, build_network, get_architecture
from tests.helpers.settings import resolve

MODEL_FILES = [
    path
    for path in sorted(Path(mnistcli.models.__path__[0]).glob("*.py"))
    if path.stem not in ("__init__", "registry", "summary", "ink_finder")
]
every_recipe = pytest.mark.parametrize("recipe", RECIPES)


def network_and_images(recipe: str, num: int = 4) -> tuple[nn.Module, Tensor]:
    """The untrained network of a recipe, and random normalized images for it."""
    torch.manual_seed(0)
    settings = fit_budget(resolve(recipe=recipe))
    input_px = get_architecture(settings.arch).input_px
    x_NCHW = torch.randn(num, 1, input_px, input_px, generator=torch.Generator().manual_seed(1))
    return build_network(settings.arch, settings.network), x_NCHW


@every_recipe
def test_a_network_returns_ten_logits_without_softmax(recipe: str) -> None:
    model, x_NCHW = network_and_images(recipe)
    logits_NK = model.eval()(x_NCHW)
    assert logits_NK.shape == (4, 10)
    assert logits_NK.dtype == torch.float32
    assert logits_NK.isfinite().all()
    ones_N = torch.ones(len(logits_NK))
    assert not torch.allclose(logits_NK.sum(dim=1), ones_N, atol=1e-3)
    assert not torch.allclose(logits_NK.exp().sum(dim=1), ones_N, atol=1e-3)


@every_recipe
def test_a_network_has_a_logit_for_every_class(recipe: str) -> None:
    settings = fit_budget(resolve(recipe=recipe))
    network = build_network(settings.arch, {**settings.network, "num_classes": 62}).eval()
    input_px = get_architecture(settings.arch).input_px
    assert network(torch.zeros(2, 1, input_px, input_px)).shape == (2, 62)


@every_recipe
def test_gradients_reach_every_parameter(recipe: str) -> None:
    model, x_NCHW = network_and_images(recipe, 16)
    loss = F.cross_entropy(model.train()(x_NCHW), torch.arange(16) % 10)
    torch.autograd.backward(loss)
    dead = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert not dead


@every_recipe
def test_an_image_is_classified_alike_twice_and_in_any_batch(recipe: str) -> None:
    model, x_NCHW = network_and_images(recipe)
    logits_NK = model.eval()(x_NCHW)
    assert torch.equal(model(x_NCHW), logits_NK)
    # Batches of other sizes may add the same float32 products in another order.
    torch.testing.assert_close(model(x_NCHW[:1]), logits_NK[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "recipe", [name for name, recipe in RECIPES.items() if recipe.model.get("dropout")]
)
def test_dropout_acts_in_training_only(recipe: str) -> None:
    model, x_NCHW = network_and_images(recipe)
    assert not torch.equal(model.train()(x_NCHW), model(x_NCHW))
    assert torch.equal(model.eval()(x_NCHW), model(x_NCHW))


@pytest.mark.parametrize("pool", ["each", "last"])
def test_pooling_before_the_relu_equals_pooling_after_it(pool: str) -> None:
    def output_and_gradients(stages: nn.Module) -> list[Tensor]:
        x_NCHW = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
        output = stages(x_NCHW)
        weights = torch.linspace(-1, 1, output.numel()).view_as(output)
        return [output, *torch.autograd.grad((output * weights).sum(), list(stages.parameters()))]

    model = {"channels": [3, 5], "kernel_size": 3, "padding": 0, "hidden": [], "dropout": 0.0}
    stages = build_network("cnn", {**model, "pool": pool}).stages
    assert isinstance(stages, nn.Sequential)
    pooled = [nn.Conv2d, nn.MaxPool2d, nn.ReLU]
    kinds = [type(layer) for layer in stages]
    assert kinds == (pooled if pool == "each" else [nn.Conv2d, nn.ReLU]) + pooled
    swapped = list(stages)
    for index, kind in enumerate(kinds):
        if kind is nn.MaxPool2d:
            swapped[index : index + 2] = [nn.ReLU(), nn.MaxPool2d(2)]
    expected = output_and_gradients(nn.Sequential(*swapped))
    for ours, theirs in zip(output_and_gradients(stages), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_cnn_small_averages_nine_positions() -> None:
    """Without padding it sees one position of 28x28 pixels: here, each of nine in turn."""
    torch.manual_seed(0)
    model = build_network("cnn-small", {"width": 12})
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # one batch sets its statistics
    model(torch.rand(32, 1, 28, 28))
    model.eval()
    image_NCHW = torch.rand(1, 1, 28, 28)
    averaged_NK = model(image_NCHW)
    padded_NCHW = F.pad(image_NCHW, (2, 2, 2, 2), mode="replicate")
    stem = next(model.children())
    assert isinstance(stem, nn.Sequential)
    assert isinstance(stem[0], nn.Conv2d)
    stem[0].padding_mode, stem[0].padding = "zeros", (0, 0)
    logits = [
        model(padded_NCHW[..., top : top + 28, left : left + 28])
        for top in (0, 2, 4)
        for left in (0, 2, 4)
    ]
    torch.testing.assert_close(averaged_NK, torch.cat(logits).mean(dim=0, keepdim=True))
    assert not torch.allclose(logits[0], logits[8], atol=1e-3)


@pytest.mark.parametrize("kernels", [{}, {"kernel_size": 5, "depthwise": 2}, {"kernel_size": 7}])
@pytest.mark.parametrize("width", [8, 9])
def test_cnn_small_computes_a_batch_on_the_cpu_as_defined(
    width: int, kernels: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes another way than a single image: here, both compute the same batch."""
    monkeypatch.setattr(cnn_small, "_IMAGES_IN_CACHE", 3)  # several chunks with any threads
    torch.manual_seed(0)
    network = build_network("cnn-small", {"width": width, **kernels}).to(torch.float64)
    assert isinstance(network, SmallCNN)
    defined = copy.deepcopy(network)
    x_NCHW = torch.randn(70, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    h_NCHW = defined.stem(x_NCHW)
    for repeat, norm in enumerate(defined.norms):
        depthwise = defined.depthwise[repeat * len(defined.depthwise) // len(defined.norms)]
        h_NCHW = norm(defined.pointwise(depthwise(h_NCHW))).relu()
    assert h_NCHW.shape == (70, width, 3, 3)
    expected = defined.classify(h_NCHW.mean(dim=(2, 3)))
    logits_NK = network(x_NCHW)
    torch.testing.assert_close(logits_NK, expected)
    for ours, theirs in zip(network.buffers(), defined.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    weights_NK = torch.randn(70, 10, dtype=torch.float64)
    gradients, expected_gradients = (
        torch.autograd.grad((logits * weights_NK).sum(), [x_NCHW, *model.parameters()])
        for logits, model in ((logits_NK, network), (expected, defined))
    )
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.inference_mode():
        singles = [network.eval()(x_1CHW) for x_1CHW in x_NCHW.split(1)]
        torch.testing.assert_close(network(x_NCHW), torch.cat(singles))


def test_cnn_small_loads_weights_from_before_there_were_several_depthwise_kernels() -> None:
    network = build_network("cnn-small", {"width": 3})
    new_names = {
        "depthwise.0.weight": "separable.0.weight",
        "pointwise.weight": "separable.1.weight",
    }
    old = {new_names.get(name, name): value for name, value in network.state_dict().items()}
    loaded = build_network("cnn-small", {"width": 3})
    loaded.load_state_dict(old)
    for ours, theirs in zip(loaded.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_every_architecture_has_one_file() -> None:
    modules = {arch.factory.split(":")[0] for arch in ARCHITECTURES.values()}
    assert {f"mnistcli.models.{path.stem}" for path in MODEL_FILES} == modules
    for arch in ARCHITECTURES.values():
        module, name = arch.factory.split(":")
        assert issubclass(getattr(import_module(module), name), nn.Module)


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.stem)
def test_a_network_imports_torch_only(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imported = [
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    ]
    imported += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in imported} <= {"torch", "collections", "typing"}
