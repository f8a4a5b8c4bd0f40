"""The output of `mnist summary`: the layers of a network, or all architectures and recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from mnistcli.config.recipes import RECIPES
from mnistcli.config.settings import ModelSettings, TrainSettings
from mnistcli.models.registry import ARCHITECTURES
from mnistcli.models.summary import LayerSummary, NetworkSummary
from mnistcli.views.console import (
    number_column,
    plain_table,
    print_json,
    print_line,
    print_table,
    stdout,
)


@dataclass(frozen=True)
class NetworkRecord:
    """A network and its layers; sizes are of the parameters, MACs of one image."""

    recipe: str
    model: ModelSettings
    input_px: int
    num_params: int
    num_bytes: int
    num_int8_bytes: int
    num_macs: int
    layers: list[LayerSummary]


@dataclass(frozen=True)
class RecipeRecord(NetworkRecord):
    """The network of a recipe, and the seconds of its training.

    `test_accuracy` is the mean over seeds on MNIST's test set, null where it was not measured.
    """

    test_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class RecipesRecord:
    """The networks of all recipes."""

    recipes: list[RecipeRecord]


def show_network(
    settings: TrainSettings,
    network: NetworkSummary,
    *,
    checkpoint: Path | None = None,
    as_json: bool,
    quiet: bool,
) -> None:
    """The layers of a network and their totals; quiet: the number of parameters."""
    if as_json:
        print_json(_network_record(settings, network))
    elif quiet:
        print_line(str(network.num_params))
    else:
        _print_network(settings, network, checkpoint)


def _network_record(settings: TrainSettings, network: NetworkSummary) -> NetworkRecord:
    return NetworkRecord(
        recipe=settings.recipe,
        model=settings.model,
        input_px=network.input_px,
        num_params=network.num_params,
        num_bytes=network.num_bytes,
        num_int8_bytes=network.num_int8_bytes,
        num_macs=network.num_macs,
        layers=network.layers,
    )


def _print_network(
    settings: TrainSettings, network: NetworkSummary, checkpoint: Path | None
) -> None:
    numbers = map(number_column, ("output", "params", "MACs", "field", "stride"))
    table = plain_table(number_column("row"), "layer", "kind", *numbers)
    table.collapse_padding = True
    for row, layer in enumerate(network.layers, start=1):
        counted = f"{layer.num_params:,}" if layer.num_params else ""
        table.add_row(
            str(row),
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output_shape)),
            f"as row {layer.first_row}" if layer.first_row else counted,
            f"{layer.num_macs:,}" if layer.num_macs else "",
            str(layer.receptive_field_px),
            str(layer.stride_px),
        )
    is_shared = any(layer.first_row for layer in network.layers)
    console, side = stdout(), network.input_px
    title = f"{settings.arch} (recipe {settings.recipe})"
    if checkpoint:
        title = f"{checkpoint}: {title}"
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(f"Input: one gray image of {side} x {side} pixels\n")
    print_table(table)
    console.print(
        f"\n{network.num_params:,} parameters: {network.num_bytes:,} bytes as float32, "
        f"{network.num_int8_bytes:,} as int8",
        f"{network.num_macs:,} MACs (multiply-accumulates) per image",
        *(["as row N: the same layer again, its parameters counted once"] if is_shared else []),
        "field: side of the receptive field; stride: from one field to the next; both in pixels",
        sep="\n",
        soft_wrap=True,
    )


def show_recipes(
    networks: Mapping[str, tuple[TrainSettings, NetworkSummary]], *, as_json: bool, quiet: bool
) -> None:
    """All architectures and the networks of all recipes; quiet: the names of the recipes."""
    if as_json:
        print_json(RecipesRecord([_recipe_record(*network) for network in networks.values()]))
    elif quiet:
        print_line("\n".join(networks))
    else:
        _print_recipes({name: network for name, (_, network) in networks.items()})


def _recipe_record(settings: TrainSettings, network: NetworkSummary) -> RecipeRecord:
    recipe = RECIPES[settings.recipe]
    accuracy = round(recipe.test_percent / 100, 6) if recipe.test_percent else None
    fields = vars(_network_record(settings, network))
    return RecipeRecord(**fields, test_accuracy=accuracy, seconds=recipe.seconds)


def _print_recipes(networks: Mapping[str, NetworkSummary]) -> None:
    architectures = plain_table("architecture", "description", number_column("parameters"))
    for arch in ARCHITECTURES.values():
        num_params = networks[arch.default_recipe].num_params
        architectures.add_row(arch.name, arch.summary, f"{num_params:,}")
    numbers = map(number_column, ("parameters", "MACs", "test %", "time"))
    recipes = plain_table("recipe", "description", *numbers)
    recipes.collapse_padding = True
    for name, network in networks.items():
        recipe = RECIPES[name]
        recipes.add_row(
            name,
            recipe.summary,
            f"{network.num_params:,}",
            _format_macs(network.num_macs),
            f"{recipe.test_percent:.2f}" if recipe.test_percent else "-",
            _format_time(recipe.seconds),
        )
    console = stdout()
    print_table(architectures)
    console.print()
    print_table(recipes)
    console.print(
        "\ntest %: accuracy on MNIST, mean over seeds; time: of the training on one or two CPU "
        "cores",
        soft_wrap=True,
    )
    console.print("Layer by layer: mnist summary --recipe NAME, or mnist summary RUN")


def _format_macs(num: int) -> str:
    return f"{num / 1e6:,.1f} M" if num >= 1e6 else f"{num / 1e3:,.0f} k"


def _format_time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"
