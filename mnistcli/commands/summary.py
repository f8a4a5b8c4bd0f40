"""`mnist summary`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.options import complete_run
from mnistcli.errors import SettingsError


def summary(
    ctx: typer.Context,
    arch: options.Arch = None,
    recipe: options.Recipe = None,
    max_params: options.MaxParams = None,
    hidden: options.Hidden = None,
    channels: options.Channels = None,
    kernel_size: options.KernelSize = None,
    padding: options.Padding = None,
    pool: options.Pool = None,
    batch_norm: options.BatchNorm = None,
    dropout: options.Dropout = None,
    width: options.Width = None,
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
    out: options.Out = Path("runs"),
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the number of parameters")] = False,
) -> None:
    """Show a network layer by layer, or all of them side by side.

    Needs no data and allocates no weights: a network of any size is described
    at once.

    Examples:
    $ mnist summary
    $ mnist summary --arch ann
    $ mnist summary --arch ann --hidden 12288 6144 6144 3072
    """
    from mnistcli import checkpoints, layers, render, runs, settings

    flags = options.given_settings(ctx)
    if checkpoint and flags:
        raise SettingsError(
            "A checkpoint knows its own architecture and settings.",
            why=f"--checkpoint was given with {', '.join(flags)}.",
            fix="Leave out one or the other.",
        )
    if checkpoint:
        loaded = checkpoints.load_model(runs.find_checkpoint(checkpoint, out))
        described = layers.describe(loaded.card.settings)
        render.network(described, loaded=loaded, as_json=json, quiet=quiet)
    elif flags:
        options.note_misspelt_variables()
        resolved = settings.resolve(flags, environ=os.environ)
        described = layers.describe(settings.fit_budget(resolved.settings))
        render.network(described, as_json=json, quiet=quiet)
    else:
        render.registry(layers.describe_all(), as_json=json, quiet=quiet)
