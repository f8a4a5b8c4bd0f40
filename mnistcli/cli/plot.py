"""`mnist plot`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.inputs import expand_run_names, parse_split
from mnistcli.cli.options import (
    OUTPUT,
    DataDir,
    Dataset,
    Json,
    Out,
    Split,
    complete_from,
    complete_run,
    quiet_option,
)
from mnistcli.errors import SettingsError, unknown_name
from mnistcli.plots.inputs import KINDS, PlotInputs

# Of these several runs make one figure.
KINDS_OF_SEVERAL_RUNS = ("curves", "frontier", "time")
# Of these no name means all runs.
KINDS_OF_ALL_RUNS = ("frontier", "time")
# These need no run: they show a data set.
KINDS_OF_DATASETS = ("samples", "augmented")
# These show pictures of a training set, from --first on.
KINDS_OF_IMAGES = (*KINDS_OF_DATASETS, "features")


def plot(
    run_names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs, by directory or name, and series of runs; curves, frontier and time draw "
            "several on one figure. Where weights are all that is needed, checkpoint files too.",
            metavar="RUN…",
            show_default="the newest; for frontier and time all",
            autocompletion=complete_run,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            help="curves; confusion, mistakes (the most confident), calibration; samples (of a "
            "data set), augmented (as training changes them); filters (of the first layer), "
            "features (what convolutions make of a picture); frontier (accuracy against "
            "parameters), time (against the time of training).",
            metavar="NAME",
            autocompletion=complete_from(tuple(KINDS)),
        ),
    ] = "curves",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to draw: .png, .svg or .pdf; - writes a PNG to stdout.",
            metavar="FILE",
            show_default="KIND.png, in the run's directory if it is one",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            "--beside",
            help="Points of others for frontier: a CSV file with the columns parameters, "
            "accuracy (in %) and name.",
            metavar="FILE",
        ),
    ] = None,
    first: Annotated[
        int,
        typer.Option(
            "--first",
            help="The first picture that samples, augmented and features show, counted from 0 "
            "in the training set.",
            metavar="N",
            min=0,
        ),
    ] = 0,
    split: Split = "test",
    dataset: Dataset = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the file's name")] = False,
) -> None:
    """Draw how runs learnt, what they got wrong, what is inside them, what they cost.

    Runs that differ in their seed or fold alone are one curve: their mean and its
    standard deviation. Scores, confusion matrix and mistakes come from what
    `mnist eval` has kept in the run; a run that was not judged yet is judged
    first.

    Examples:
    $ mnist plot
    $ mnist plot runs/quick runs/slow -o curves.svg
    $ mnist plot last --kind mistakes -o - > mistakes.png
    """
    from mnistcli import plots
    from mnistcli.views.plot import show_plot_path

    mark = "metrics.csv" if kind == "curves" else "best.pth"
    names = expand_run_names(run_names or [], out, mark=mark)
    _check_kind(kind, num_named=len(names), beside=beside, first=first)
    if output == "-" and (json or quiet):
        raise SettingsError(
            "stdout cannot hold two things.",
            why="-o - writes the picture there, --json and -q its name.",
            fix="Leave one of them out, or write to a file: -o FILE",
        )
    plots.pick_format(Path(output) if output and output != "-" else Path("x.png"))
    source = PlotInputs(
        names=names,
        out=out,
        beside=beside,
        split=parse_split(split),
        dataset=dataset,
        wanted_data_dir=data_dir,
        first=first,
    )
    if not source.names and kind not in (*KINDS_OF_DATASETS, *KINDS_OF_ALL_RUNS):
        source.names.append("last")
    figure = KINDS[kind](source)
    if output == "-":
        plots.save(figure, sys.stdout.buffer, format="png")
        return
    folder = Path() if kind in KINDS_OF_ALL_RUNS else source.folder
    target = Path(output) if output else folder / f"{kind}.png"
    plots.save(figure, target, format=None)
    show_plot_path(target, as_json=json, quiet=quiet)


def _check_kind(kind: str, *, num_named: int, beside: Path | None, first: int) -> None:
    """Raise SettingsError if there is no such kind, or it has no use for what was given."""
    if kind not in KINDS:
        raise unknown_name("kind of plot", kind, KINDS)
    if kind not in KINDS_OF_SEVERAL_RUNS and num_named > 1:
        raise SettingsError(
            f"{kind} is drawn from one run.",
            why=f"These are {num_named}.",
            fix="Name one run, or draw their curves: --kind curves",
        )
    if beside and kind != "frontier":
        raise SettingsError(
            f"{kind} has no place for points of others.",
            why="--beside adds them to accuracy against parameters.",
            fix="Leave --beside out, or draw that: --kind frontier",
        )
    if first and kind not in KINDS_OF_IMAGES:
        raise SettingsError(
            f"{kind} shows no picture of the training set.",
            why="--first says with which picture samples, augmented and features begin.",
            fix="Leave --first out.",
        )
