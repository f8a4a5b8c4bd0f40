"""`mnist train-finder`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import DataDir, quiet_option
from mnistcli.errors import SettingsError


def train_finder(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE")
    ] = Path("ink-finder.pth"),
    steps: Annotated[
        int, typer.Option("--steps", help="Training steps of 16 pages.", metavar="N", min=1)
    ] = 10_000,
    seed: Annotated[
        int, typer.Option("--seed", help="Random seed, of pages and weights.", metavar="N", min=0)
    ] = 0,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Start from the weights in this file.", metavar="FILE"),
    ] = None,
    data_dir: DataDir = None,
    quiet: Annotated[bool, quiet_option("the file")] = False,
) -> None:
    """Train the network that finds digits in photos, as `mnist predict` uses it.

    It learns on pages composed from MNIST's training digits, printed lines, paper and
    light. The bundled one was made by this command.

    Examples:
    $ mnist train-finder
    $ mnist train-finder --steps 200 -o quick.pth
    $ mnist train-finder --init ink-finder.pth --seed 1 -o better.pth
    """
    if output.is_dir():
        raise SettingsError(f"'{output}' is a directory.", fix="Name a file in it.")
    if not output.parent.is_dir():
        raise SettingsError(
            f"There is no directory '{output.parent}' to write '{output}' to.",
            fix="Make it, or name another file.",
        )

    from mnistcli.cli.inputs import ensure_downloaded
    from mnistcli.data.datasets import get_dataset, load_dataset, resolve_data_dir
    from mnistcli.system.machine import keep_freed_memory, spare_busy_cores

    spare_busy_cores()
    keep_freed_memory()
    dataset, folder = get_dataset("mnist"), resolve_data_dir(data_dir, os.environ)
    ensure_downloaded(dataset, folder, offline=False)

    import torch

    from mnistcli.models.ink_finder import InkFinder
    from mnistcli.runs.checkpoint import software_versions
    from mnistcli.runs.finder_file import load_finder, save_finder
    from mnistcli.training.device import DTYPES, pick_device, pick_precision
    from mnistcli.training.finder import fit_finder
    from mnistcli.views.train_finder import show_finder_training

    device = pick_device("auto")
    precision = pick_precision("auto", device.value)
    torch.manual_seed(seed)
    network = load_finder(init) if init else InkFinder()
    progress = fit_finder(
        network,
        load_dataset(dataset, "train", folder),
        num_steps=steps,
        seed=seed,
        device=torch.device(device.value),
        dtype=DTYPES[precision.value],
    )
    loss = show_finder_training(progress, device=device, precision=precision, quiet=quiet)
    origin = {
        "steps": steps,
        "seed": seed,
        "init": str(init) if init else None,
        "loss": loss,
        "versions": software_versions(),
    }
    save_finder(output, network, origin)
    typer.echo(output)
