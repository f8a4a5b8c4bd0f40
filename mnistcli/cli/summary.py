"""`mnist summary`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import (
    Arch,
    BatchNorm,
    Channels,
    CheckpointOption,
    Depthwise,
    Dropout,
    Hidden,
    Json,
    KernelSize,
    MaxParams,
    Out,
    Padding,
    Pool,
    Recipe,
    Width,
    complete_run,
    given_settings,
    quiet_option,
    warn_misspelled_variables,
)
from mnistcli.errors import SettingsError


def summary(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A run's name or directory, `last`, or a .pth file.",
            metavar="CHECKPOINT",
            show_default="all recipes",
            autocompletion=complete_run,
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    arch: Arch = None,
    recipe: Recipe = None,
    max_params: MaxParams = None,
    width: Width = None,
    hidden: Hidden = None,
    channels: Channels = None,
    kernel_size: KernelSize = None,
    depthwise: Depthwise = None,
    padding: Padding = None,
    pool: Pool = None,
    batch_norm: BatchNorm = None,
    dropout: Dropout = None,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the number of parameters")] = False,
    out: Out = Path("runs"),
) -> None:
    """Show a network layer by layer, or all recipes side by side.

    Needs no data and allocates no weights, whatever the size of the network.

    Examples:
    $ mnist summary
    $ mnist summary --arch cnn-small --max-params 2000
    $ mnist summary last
    """
    from mnistcli.config.recipes import RECIPES
    from mnistcli.config.resolve import fit_budget, resolve_settings
    from mnistcli.models.summary import summarize_network
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.runs.find import find_checkpoint
    from mnistcli.views.summary import show_network, show_recipes

    checkpoints, flags = [*filter(None, [name]), *(checkpoint or [])], given_settings(ctx)
    _check_one_network(checkpoints, [f"--{flag.replace('_', '-')}" for flag in flags])
    path = None
    if checkpoints:
        path = find_checkpoint(checkpoints[0], out)
        settings = load_checkpoint(path).card.settings
    elif flags:
        warn_misspelled_variables()
        settings = fit_budget(resolve_settings(flags, environ=os.environ).settings)
    else:
        recipes = [
            fit_budget(resolve_settings({"recipe": name}, environ={}).settings) for name in RECIPES
        ]
        networks = {
            settings.recipe: (settings, summarize_network(settings.arch, settings.network))
            for settings in recipes
        }
        show_recipes(networks, as_json=json, quiet=quiet)
        return
    network = summarize_network(settings.arch, settings.network)
    show_network(settings, network, checkpoint=path, as_json=json, quiet=quiet)


def _check_one_network(checkpoints: list[str], flags: list[str]) -> None:
    """Raise SettingsError for several checkpoints, or settings for the network in one."""
    if len(checkpoints) > 1:
        raise SettingsError(
            "mnist summary describes one checkpoint.",
            why=f"{' and '.join(checkpoints)} were named.",
            fix="Name one of them.",
        )
    if checkpoints and flags:
        raise SettingsError(
            "A checkpoint has its own architecture and settings.",
            why=f"{checkpoints[0]} was named together with {', '.join(flags)}.",
            fix="Leave out one or the other.",
        )
