"""`mnist summary`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import (
    Arch,
    BatchNorm,
    Channels,
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
    arch: Arch = None,
    recipe: Recipe = None,
    max_params: MaxParams = None,
    hidden: Hidden = None,
    channels: Channels = None,
    kernel_size: KernelSize = None,
    padding: Padding = None,
    pool: Pool = None,
    batch_norm: BatchNorm = None,
    dropout: Dropout = None,
    width: Width = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="Describe this .pth file or run.",
            metavar="PATH",
            autocompletion=complete_run,
        ),
    ] = None,
    out: Out = Path("runs"),
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the number of parameters")] = False,
) -> None:
    """Show a network layer by layer, or all of them side by side.

    Needs no data and allocates no weights: a network of any size is described
    at once.

    Examples:
    $ mnist summary
    $ mnist summary --arch ann
    $ mnist summary --arch ann --hidden 12288 6144 6144 3072
    """
    from mnistcli.config.resolve import fit_budget, resolve_settings
    from mnistcli.models.summary import summarize_network, summarize_recipes
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.runs.find import find_checkpoint
    from mnistcli.views.summary import show_network, show_registry

    flags = given_settings(ctx)
    if checkpoint and flags:
        raise SettingsError(
            "A checkpoint knows its own architecture and settings.",
            why=f"--checkpoint was given with {', '.join(flags)}.",
            fix="Leave out one or the other.",
        )
    if checkpoint:
        loaded = load_checkpoint(find_checkpoint(checkpoint, out))
        described = summarize_network(loaded.card.settings)
        show_network(described, loaded=loaded, as_json=json, quiet=quiet)
    elif flags:
        warn_misspelled_variables()
        resolved = resolve_settings(flags, environ=os.environ)
        described = summarize_network(fit_budget(resolved.settings))
        show_network(described, as_json=json, quiet=quiet)
    else:
        show_registry(summarize_recipes(), as_json=json, quiet=quiet)
