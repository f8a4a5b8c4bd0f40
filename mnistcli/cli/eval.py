"""`mnist eval`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import (
    DataDir,
    Dataset,
    Device,
    Json,
    Offline,
    Out,
    Split,
    complete_from,
    complete_run,
    quiet_option,
)
from mnistcli.config.choices import CorruptionName, values


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
    split: Split = "test",
    dataset: Dataset = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "auto",
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
            f"{', '.join(values(CorruptionName))} or all.",
            metavar="NAME,…",
            autocompletion=complete_from((*values(CorruptionName), "all")),
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
    out: Out = Path("runs"),
    json: Json = False,
    quiet: Annotated[bool, quiet_option("each accuracy in percent")] = False,
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
    from mnistcli.cli.inputs import evaluate_checkpoints, find_checkpoints, parse_split, store_score
    from mnistcli.data.corruptions import parse_corruptions
    from mnistcli.data.datasets import resolve_data_dir
    from mnistcli.evaluation.compare import compare_all
    from mnistcli.evaluation.evaluate import EvalOptions
    from mnistcli.evaluation.scores import require_accuracy
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.views.console import print_note
    from mnistcli.views.eval import show_evaluations

    judged_split = parse_split(split)
    worse = () if corrupt is None else parse_corruptions(corrupt)
    how = EvalOptions(tta=tta, ensemble=ensemble, calibrate=calibrate, corruptions=worse)
    paths = find_checkpoints(names, out)
    if not names:
        print_note("No run was named: this is the bundled network.")
    judged = evaluate_checkpoints(
        [load_checkpoint(path) for path in paths],
        how,
        dataset=dataset,
        split=judged_split,
        data_dir=resolve_data_dir(data_dir, os.environ),
        offline=offline,
        device=device,
    )
    scores = [each.score for each in judged]
    show_evaluations(judged, compare_all(scores), as_json=json, quiet=quiet)
    scores = scores[: len(paths)]  # an ensemble is no checkpoint
    for score in scores:
        store_score(score)
    require_accuracy(*scores, min_percent=min_accuracy)
