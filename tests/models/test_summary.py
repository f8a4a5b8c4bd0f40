"""Layers in the order of the forward pass, with costs worked out by hand."""

import copy

import pytest
import torch
import torch._dynamo  # shapes on meta load it; it makes its own cache directory
from torch import Tensor, nn

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget
from mnistcli.models import summary
from mnistcli.models.registry import build_network, build_on_meta, count_parameters
from mnistcli.models.summary import summarize_network, trace_layers
from tests.helpers.settings import resolve


class Twice(nn.Module):
    """One square linear layer, applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h_ND: Tensor = self.shared(self.shared(x_NCHW))
        return h_ND


def test_convolutions_and_linear_layers_have_the_costs_worked_out_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 10, bias=False),
    )
    layers = trace_layers(network.to("meta"), input_px=4)
    assert [(layer.name, layer.kind, layer.output_shape) for layer in layers] == [
        ("0", "Conv2d", (2, 4, 4)),
        ("1", "ReLU", (2, 4, 4)),
        ("2", "MaxPool2d", (2, 2, 2)),
        ("3", "Flatten", (8,)),
        ("4", "Linear", (10,)),
    ]
    assert [layer.num_params for layer in layers] == [2 * 9 + 2, 0, 0, 0, 8 * 10]
    assert [layer.num_macs for layer in layers] == [2 * 4 * 4 * 9, 0, 0, 0, 8 * 10]


def test_groups_and_strides_make_a_convolution_cheaper() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 2, stride=2, groups=2))
    grouped = trace_layers(network.to("meta"), input_px=4)[1]
    assert grouped.output_shape == (4, 2, 2)
    assert grouped.num_macs == 4 * 2 * 2 * (2 * 2 * 2)
    assert grouped.num_params == 4 * 2 * 2 * 2 + 4


def test_a_layer_applied_twice_costs_twice_with_its_parameters_counted_once() -> None:
    network = Twice().to("meta")
    first, second = trace_layers(network, input_px=4)
    assert (first.name, second.name) == ("shared", "shared")
    assert (first.num_params, second.num_params) == (20, 0)
    assert first.num_macs == second.num_macs == 4 * 4 * 4
    assert trace_layers(network, input_px=4) == [first, second], "no hook is left behind"


def test_the_receptive_field_is_what_an_output_depends_on() -> None:
    """Checked by changing single pixels: the last one inside, the first one outside."""
    first, second = nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 3)
    nn.init.ones_(first.weight)
    nn.init.ones_(second.weight)
    network = nn.Sequential(first, nn.MaxPool2d(2), second)
    layers = trace_layers(copy.deepcopy(network).to("meta"), input_px=20)
    fields = [(layer.receptive_field_px, layer.stride_px) for layer in layers]
    assert fields == [(5, 1), (6, 2), (10, 2)]
    (field_px, stride_px), black = fields[-1], torch.zeros(1, 1, 20, 20)

    def changed(pixel: int) -> list[bool]:
        """Whether the first outputs on the diagonal depend on a pixel on the diagonal."""
        white = black.clone()
        white[..., pixel, pixel] = 1
        difference_HW = (network(white) - network(black))[0, 0]
        return [bool(difference_HW[place, place].abs() > 1e-3) for place in range(3)]

    assert changed(field_px - 1) == [True, True, True]
    assert changed(field_px) == [False, True, True]
    assert changed(field_px + stride_px - 1) == [False, True, True]
    assert changed(field_px + stride_px) == [False, False, True]


@pytest.mark.parametrize(
    ("recipe", "fields"),
    [
        ("cnn-10-20", [(5, 1), (6, 2), (14, 2), (16, 4), (28, 4)]),
        ("mlp-50-50", [(28, 1)]),
        ("cnn-small", [(5, 1), (6, 2), (10, 2), (14, 2), (18, 2), (22, 2), (26, 2), (30, 2)]),
    ],
)
def test_receptive_fields_of_recipes(recipe: str, fields: list[tuple[int, int]]) -> None:
    settings = fit_budget(resolve(recipe=recipe))
    layers = summarize_network(settings.arch, settings.network).layers
    pairs = [(layer.receptive_field_px, layer.stride_px) for layer in layers]
    assert list(dict.fromkeys(pairs)) == fields


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_layers_add_up_to_the_network(recipe: str) -> None:
    settings = fit_budget(resolve(recipe=recipe))
    network = summarize_network(settings.arch, settings.network)
    assert network.num_params == count_parameters(settings.arch, settings.network)
    assert network.num_bytes == 4 * network.num_params == 4 * network.num_int8_bytes
    assert network.layers[-1].output_shape == (10,)


def test_a_cnn_costs_what_its_layers_cost() -> None:
    settings = resolve(recipe="cnn-26k")
    network = summarize_network("cnn", settings.network)
    assert network.input_px == 28
    macs = [layer.num_macs for layer in network.layers if layer.num_macs]
    assert macs == [8 * 28 * 28 * 9, 16 * 14 * 14 * 9 * 8, 784 * 32, 32 * 10]
    assert network.num_macs == sum(macs) == 307_648
    params = [layer.num_params for layer in network.layers if layer.num_params]
    assert params == [80, 1_168, 25_120, 330]
    real = build_network("cnn", settings.network)
    assert network.num_bytes == sum(p.numel() * p.element_size() for p in real.parameters())


def test_a_network_of_182_million_parameters_is_not_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[nn.Module] = []

    def build(arch: str, model: dict[str, object]) -> nn.Module:
        built.append(build_on_meta(arch, model))
        return built[-1]

    monkeypatch.setattr(summary, "build_on_meta", build)
    model = {"hidden": [12288, 6144, 6144, 3072], "dropout": 0.5}
    assert summarize_network("ann", model).num_params == 182_538_250
    assert all(p.device == torch.device("meta") for p in built[0].parameters())
