"""What `mnist summary` shows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mnistcli.config.recipes import RECIPES
from mnistcli.models.registry import ARCHITECTURES
from mnistcli.views.console import number_column, plain_table, print_json, print_line, stdout

if TYPE_CHECKING:
    from mnistcli.models.summary import NetworkSummary
    from mnistcli.runs.checkpoint import LoadedModel


def show_network(
    described: "NetworkSummary", *, loaded: "LoadedModel | None" = None, as_json: bool, quiet: bool
) -> None:
    """The layers of a network and their totals."""
    chosen = described.settings
    if as_json:
        print_json(_network_record(described))
        return
    if quiet:
        print_line(str(described.num_params))
        return
    table = plain_table(
        "layer", "kind", number_column("output"), number_column("parameters"), number_column("MACs")
    )
    for layer in described.layers:
        shape = " x ".join(map(str, layer.output_shape))
        params = f"{layer.num_params:,}" if layer.num_params else ""
        macs = f"{layer.num_macs:,}" if layer.num_macs else ""
        table.add_row(layer.name, layer.kind, shape, params, macs)
    console = stdout()
    title = f"{chosen.arch} (recipe {chosen.recipe})"
    console.print(
        Text(f"{loaded.path}: {title}" if loaded else title, style="bold"), soft_wrap=True
    )
    side = described.input_px
    console.print(f"Sees one grey picture of {side} x {side} pixels.\n")
    console.print(table)
    console.print(
        f"\n{described.num_params:,} parameters, {described.num_bytes / 1000:,.1f} KB as float32; "
        f"{described.num_macs:,} MACs (multiply-accumulates) a picture"
    )


def _network_record(described: "NetworkSummary") -> dict[str, Any]:
    return {
        "recipe": described.settings.recipe,
        "model": described.settings.model.model_dump(mode="json"),
        "input_px": described.input_px,
        "num_params": described.num_params,
        "num_bytes": described.num_bytes,
        "num_macs": described.num_macs,
        "layers": [asdict(layer) for layer in described.layers],
    }


def show_registry(networks: "Sequence[NetworkSummary]", *, as_json: bool, quiet: bool) -> None:
    """The architectures and the recipes side by side; quiet: the recipes' names."""
    if as_json:
        print_json({"recipes": [_network_record(each) for each in networks]})
        return
    by_recipe = {each.settings.recipe: each for each in networks}
    if quiet:
        print_line("\n".join(by_recipe))
        return
    architectures = plain_table("architecture", "what it is", number_column("parameters"))
    for each in ARCHITECTURES.values():
        num_params = by_recipe[each.default_recipe].num_params
        architectures.add_row(each.name, each.summary, f"{num_params:,}")
    recipes = plain_table(
        "recipe", "arch", "what it trains", number_column("parameters"), number_column("MACs")
    )
    for name, described in by_recipe.items():
        recipe = RECIPES[name]
        recipes.add_row(
            name,
            recipe.arch,
            recipe.summary,
            f"{described.num_params:,}",
            f"{described.num_macs / 1e6:,.1f} M",
        )
    console = stdout()
    console.print(architectures)
    console.print()
    console.print(recipes)
    console.print("\nLayer by layer: mnist summary --arch NAME, or --recipe NAME")
