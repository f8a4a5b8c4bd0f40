"""`mnist eval`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.options import complete_run


def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="A .pth file, a run's directory or name, or `last`.",
            show_default="the bundled cnn-small",
            autocompletion=complete_run,
        ),
    ] = None,
    split: options.Split = "test",
    dataset: options.Dataset = None,
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
    device: options.Device = "auto",
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            help="Fail (exit 5) below this accuracy in percent.",
            metavar="P",
            min=0,
            max=100,
        ),
    ] = None,
    out: options.Out = Path("runs"),
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the accuracy in percent")] = False,
) -> None:
    """Judge a checkpoint on the test set, class by class.

    Prints the accuracy with its interval, a table of the classes and the
    confusion matrix. The result of a run's best checkpoint is kept in the run,
    where `mnist plot` finds it.

    Examples:
    $ mnist eval
    $ mnist eval runs/quick --min-accuracy 99
    $ mnist eval last --split val --json
    """
    from mnistcli import checkpoints, datasets, metrics, render, runs
    from mnistcli.commands import data

    judged_split = data.pick_split(split)
    loaded = checkpoints.load_model(runs.find_checkpoint(checkpoint, out))
    score = data.judge(
        loaded,
        dataset=dataset or loaded.card.settings.dataset,
        split=judged_split,
        data_dir=datasets.pick_data_dir(data_dir, os.environ),
        offline=offline,
        device=device,
    )
    render.score(score, loaded, as_json=json, quiet=quiet)
    data.keep(score)
    metrics.check_accuracy(score, min_percent=min_accuracy)
