"""Layers in the order a picture passes them, with costs worked out by hand."""

import time

import pytest
import torch
import torch._dynamo  # shapes on meta load it; it makes its own cache directory
from torch import Tensor, nn

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.models import registry
from mnistcli.models.registry import build_network
from mnistcli.models.summary import summarize_network, summarize_recipes, trace_layers


def on_meta(network: nn.Module) -> nn.Module:
    return network.to("meta")


class Twice(nn.Module):
    """One square linear layer, passed two times."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h_ND: Tensor = self.shared(self.shared(x_NCHW))
        return h_ND


def test_costs_of_convolution_and_linear_layers_are_those_worked_out_by_hand() -> None:
    network = on_meta(
        nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8, 10, bias=False),
        )
    )
    conv, relu, pool, flat, linear = trace_layers(network, input_px=4)
    assert (conv.num_params, conv.num_macs) == (2 * 9 + 2, 2 * 4 * 4 * 9)
    assert (linear.num_params, linear.num_macs) == (8 * 10, 8 * 10)
    assert [layer.num_params + layer.num_macs for layer in (relu, pool, flat)] == [0, 0, 0]
    assert [layer.output_shape for layer in (conv, relu, pool, flat, linear)] == [
        (2, 4, 4),
        (2, 4, 4),
        (2, 2, 2),
        (8,),
        (10,),
    ]
    assert [layer.kind for layer in (conv, pool, linear)] == ["Conv2d", "MaxPool2d", "Linear"]
    assert [layer.name for layer in (conv, linear)] == ["0", "4"]


def test_groups_and_strides_make_a_convolution_cheaper() -> None:
    network = on_meta(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 2, stride=2, groups=2)))
    grouped = trace_layers(network, input_px=4)[1]
    assert grouped.output_shape == (4, 2, 2)
    assert grouped.num_macs == 4 * 2 * 2 * (2 * 2 * 2)
    assert grouped.num_params == 4 * 2 * 2 * 2 + 4


def test_a_layer_passed_twice_costs_twice_but_its_parameters_count_once() -> None:
    first, second = trace_layers(on_meta(Twice()), input_px=4)
    assert (first.name, second.name) == ("shared", "shared")
    assert (first.num_params, second.num_params) == (20, 0)
    assert first.num_macs == second.num_macs == 4 * 4 * 4


def test_tracing_leaves_no_hook_behind() -> None:
    network = on_meta(Twice())
    assert trace_layers(network, input_px=4) == trace_layers(network, input_px=4)


def test_every_recipe_is_described_in_the_order_of_the_registry() -> None:
    described = summarize_recipes()
    assert [network.settings.recipe for network in described] == list(RECIPES)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "ann"])
def test_the_layers_add_up_to_the_real_network(recipe: str) -> None:
    settings = fit_budget(resolve_settings({"recipe": recipe}, environ={}).settings)
    network = summarize_network(settings)
    real = build_network(settings.arch, settings.network)
    assert network.num_params == sum(p.numel() for p in real.parameters())
    assert network.num_bytes == sum(p.numel() * p.element_size() for p in real.parameters())
    assert network.layers[-1].output_shape == (10,)


def test_the_classic_cnn_costs_what_its_layers_cost() -> None:
    network = summarize_network(resolve_settings({"recipe": "cnn-26k"}, environ={}).settings)
    assert network.input_px == 28
    macs = {layer.name: layer.num_macs for layer in network.layers if layer.num_macs}
    assert list(macs.values()) == [8 * 28 * 28 * 9, 16 * 14 * 14 * 9 * 8, 784 * 32, 32 * 10]
    assert network.num_macs == sum(macs.values()) == 307_648
    params = [layer.num_params for layer in network.layers if layer.num_params]
    assert params == [80, 1_168, 25_120, 330]


def test_a_network_of_182_million_parameters_is_described_without_allocating_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[nn.Module] = []
    build = build_network

    def keep(arch: str, model: dict[str, object]) -> nn.Module:
        built.append(build(arch, model))
        return built[-1]

    trace_layers(on_meta(Twice()), input_px=4)  # PyTorch's shape functions load once, slowly
    monkeypatch.setattr(registry, "build", keep)
    flags = {"arch": "ann", "hidden": "12288 6144 6144 3072"}
    started = time.perf_counter()
    network = summarize_network(resolve_settings(flags, environ={}).settings)
    assert time.perf_counter() - started < 2
    assert network.num_params == 182_538_250
    assert network.num_bytes == 4 * 182_538_250
    assert all(p.device == torch.device("meta") for p in built[0].parameters())
