"""`mnist eval`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.options import complete_run, one_of


def evaluate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="A .pth file, a run's directory or name, or `last`; several are compared. "
            "A series stands for its runs.",
            metavar="CHECKPOINT…",
            show_default="the bundled cnn-small",
            autocompletion=complete_run,
        ),
    ] = None,
    split: options.Split = "test",
    dataset: options.Dataset = None,
    data_dir: options.DataDir = None,
    offline: options.Offline = False,
    device: options.Device = "auto",
    ensemble: Annotated[
        bool,
        typer.Option("--ensemble", help="Judge the mean of all checkpoints' probabilities too."),
    ] = False,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: average the probabilities over 9 shifts, "
            "of 0 or 1 px each way. Not kept in the run.",
        ),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit a temperature on the run's validation split; show what it changes.",
        ),
    ] = False,
    corrupt: Annotated[
        str | None,
        typer.Option(
            "--corrupt",
            help="Judge on worse pictures too, each at 3 severities: "
            f"{', '.join(options.CORRUPTIONS)} or all.",
            metavar="NAME,…",
            autocompletion=one_of((*options.CORRUPTIONS, "all")),
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            help="Fail (exit 5) if a checkpoint is below this accuracy in percent.",
            metavar="P",
            # 0.97 would be a share, and passed by any network.
            min=1,
            max=100,
        ),
    ] = None,
    out: options.Out = Path("runs"),
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("each accuracy in percent")] = False,
) -> None:
    """Judge checkpoints on the test set: one class by class, several side by side.

    Of one checkpoint it prints the accuracy with its interval, a table of the
    classes and the confusion matrix; of two, whether one is better (McNemar's
    test). The result of a run's best checkpoint is kept in the run, where
    `mnist plot` finds it.

    Examples:
    $ mnist eval
    $ mnist eval runs/quick runs/slow --ensemble
    $ mnist eval last --corrupt rotate,noise --json
    """
    from mnistcli import (
        checkpoints,
        comparison,
        console,
        corruptions,
        datasets,
        judgements,
        metrics,
    )
    from mnistcli.commands import data
    from mnistcli.judging import Judging

    judged_split = data.pick_split(split)
    worse = () if corrupt is None else corruptions.pick(corrupt)
    how = Judging(tta=tta, ensemble=ensemble, calibrate=calibrate, corruptions=worse)
    paths = data.find_checkpoints(names, out)
    if not names:
        console.note("No run was named: this is the bundled network.")
    judged = data.judge(
        [checkpoints.load_model(path) for path in paths],
        how,
        dataset=dataset,
        split=judged_split,
        data_dir=datasets.pick_data_dir(data_dir, os.environ),
        offline=offline,
        device=device,
    )
    scores = [each.score for each in judged]
    judgements.show(judged, comparison.pairs(scores), as_json=json, quiet=quiet)
    scores = scores[: len(paths)]  # an ensemble is no checkpoint
    for score in scores:
        data.keep(score)
    metrics.check_accuracy(*scores, min_percent=min_accuracy)
