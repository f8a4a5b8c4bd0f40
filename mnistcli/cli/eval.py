"""`mnist eval`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import (
    NO_NAME,
    AnotherDataset,
    CheckpointOption,
    DataDir,
    Device,
    Json,
    Offline,
    Out,
    Raw,
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
            help="A run's name or directory, `last`, or a .pth file. Several are compared; a "
            "multi-run stands for all its runs.",
            metavar="CHECKPOINT…",
            show_default=NO_NAME,
            autocompletion=complete_run,
        ),
    ] = None,
    checkpoints: CheckpointOption = None,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble", help="Also evaluate the mean of all checkpoints' probabilities."
        ),
    ] = False,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: average the probabilities over 9 shifts by 0 or 1 "
            "pixel. Not saved in the run.",
        ),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit a temperature on the validation split and show its effect.",
        ),
    ] = False,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            "--corrupt",
            help="Also evaluate on corrupted images, each at 3 severities: "
            f"{', '.join(values(CorruptionName))} or all.",
            metavar="NAME…",
            autocompletion=complete_from((*values(CorruptionName), "all")),
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            help="Fail (exit 5) if a checkpoint is below this accuracy in percent.",
            metavar="PERCENT",
            # 0.97, meant as a fraction, would be met by any network.
            min=1,
            max=100,
        ),
    ] = None,
    device: Device = "auto",
    split: Split = "test",
    dataset: AnotherDataset = None,
    raw: Raw = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the accuracies in percent")] = False,
    out: Out = Path("runs"),
) -> None:
    """Evaluate checkpoints on the test set, or compare several side by side.

    One checkpoint gets its accuracy with a 95 % interval, precision, recall and
    F1 by class, and the confusion matrix; two, whether one is significantly
    better (McNemar's test). The score of a run's best checkpoint is saved in
    the run, where `mnist plot` finds it.

    Examples:
    $ mnist eval last
    $ mnist eval runs/quick runs/slow --ensemble
    $ mnist eval last --corrupt rotate noise --json
    """
    from mnistcli.system.machine import spare_busy_cores

    spare_busy_cores()  # before the imports that load PyTorch

    from mnistcli.cli.inputs import (
        default_checkpoint,
        evaluate_checkpoints,
        find_checkpoints,
        parse_split,
        prepare_option,
        store_score,
    )
    from mnistcli.data.corruptions import parse_corruptions
    from mnistcli.data.datasets import resolve_data_dir
    from mnistcli.evaluation.compare import compare_all
    from mnistcli.evaluation.evaluate import EvalOptions
    from mnistcli.evaluation.scores import require_accuracy
    from mnistcli.runs.checkpoint import load_checkpoint
    from mnistcli.views.eval import show_evaluations

    eval_split = parse_split(split)
    corruptions = parse_corruptions(",".join(corrupt)) if corrupt else ()
    all_names = [*(names or []), *(checkpoints or [])]
    paths = find_checkpoints(all_names or [str(default_checkpoint(out, action="evaluating"))], out)
    evaluations = evaluate_checkpoints(
        [load_checkpoint(path) for path in paths],
        EvalOptions(tta=tta, ensemble=ensemble, calibrate=calibrate, corruptions=corruptions),
        dataset=prepare_option(dataset, raw=raw),
        split=eval_split,
        data_dir=resolve_data_dir(data_dir, os.environ),
        offline=offline,
        device=device,
    )
    scores = [evaluation.score for evaluation in evaluations]
    of_checkpoints = scores[: len(paths)]  # without the ensemble
    for score in of_checkpoints:  # before the output, whose reader may end the command
        store_score(score)
    show_evaluations(evaluations, compare_all(scores), as_json=json, quiet=quiet)
    require_accuracy(*of_checkpoints, min_percent=min_accuracy)
