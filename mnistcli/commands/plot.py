"""`mnist plot`."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.commands import options
from mnistcli.commands.data import pick_split
from mnistcli.commands.options import OUTPUT, complete_run, one_of
from mnistcli.errors import SettingsError, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mnistcli.metrics import JudgedSplit, Score
    from mnistcli.runs import Run

KINDS = ("curves", "confusion", "mistakes", "samples", "frontier")
# Of these several runs make one figure.
OF_SEVERAL = ("curves", "frontier")
MISTAKES_SHOWN = 25
SAMPLES_SHOWN = 50


def plot(
    run_names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs, by directory or name; curves and frontier draw several on one figure, "
            "frontier also checkpoint files.",
            metavar="RUN…",
            show_default="the newest; for frontier all",
            autocompletion=complete_run,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            help="curves, confusion, mistakes (the most confident), samples (of a data set) "
            "or frontier (accuracy against parameters).",
            metavar="NAME",
            autocompletion=one_of(KINDS),
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
    split: options.Split = "test",
    dataset: options.Dataset = None,
    data_dir: options.DataDir = None,
    out: options.Out = Path("runs"),
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the file's name")] = False,
) -> None:
    """Draw learning curves, a confusion matrix, mistakes, samples, accuracy against size.

    Confusion matrix and mistakes come from what `mnist eval` has kept in the
    run; a run that was not judged yet is judged first.

    Examples:
    $ mnist plot
    $ mnist plot runs/quick runs/slow -o curves.svg
    $ mnist plot last --kind mistakes -o - > mistakes.png
    """
    from mnistcli import plots, render, runs

    if kind not in KINDS:
        raise unknown_name("kind of plot", kind, KINDS)
    if kind not in OF_SEVERAL and len(run_names or ()) > 1:
        raise SettingsError(
            f"{kind} is drawn from one run.",
            why=f"{len(run_names or ())} were named.",
            fix="Name one run, or draw their curves: --kind curves",
        )
    if output == "-" and (json or quiet):
        raise SettingsError(
            "stdout cannot hold two things.",
            why="-o - writes the picture there, --json and -q its name.",
            fix="Leave one of them out, or write to a file: -o FILE",
        )
    if beside and kind != "frontier":
        raise SettingsError(
            f"{kind} has no place for points of others.",
            why="--beside adds them to accuracy against parameters.",
            fix="Leave --beside out, or draw that: --kind frontier",
        )
    plots.pick_format(Path(output) if output and output != "-" else Path("x.png"))
    source = _Source(
        names=list(run_names or ()),
        out=out,
        beside=beside,
        split=pick_split(split),
        dataset=dataset,
        wanted_data_dir=data_dir,
    )
    if not source.names and kind == "frontier":
        source.names += [str(run.path) for run in runs.all_runs(out, marks=("best.pth",))]
    if not source.names and kind != "samples":
        source.names.append("last")
    figure = {
        "curves": _curves,
        "confusion": _confusion,
        "mistakes": _mistakes,
        "samples": _samples,
        "frontier": _frontier,
    }[kind](source)
    if output == "-":
        plots.save(figure, sys.stdout.buffer, format="png")
        return
    is_of_one = len(source.names) == 1 and kind != "frontier"
    folder = source.found[0].path if is_of_one else Path()
    target = Path(output) if output else folder / f"{kind}.png"
    plots.save(figure, target, format=None)
    render.drawn(target, as_json=json, quiet=quiet)


@dataclass
class _Source:
    """What a figure is drawn from."""

    names: list[str]
    out: Path
    beside: Path | None
    split: "JudgedSplit"
    dataset: str | None
    wanted_data_dir: Path | None

    @cached_property
    def found(self) -> "list[Run]":
        """The runs that were named."""
        from mnistcli import runs

        return [runs.find(name, self.out) for name in self.names]

    @property
    def data_dir(self) -> Path:
        """Where data sets lie. Asking loads torch, which a plot of curves does not need."""
        from mnistcli import datasets

        return datasets.pick_data_dir(self.wanted_data_dir, os.environ)


def _curves(source: _Source) -> "Figure":
    from mnistcli import plots, runs

    names = [run.path.name for run in source.found]
    return plots.curves(
        {
            name if names.count(name) == 1 else str(run.path): runs.read_metrics(run)
            for name, run in zip(names, source.found, strict=True)
        }
    )


def _confusion(source: _Source) -> "Figure":
    import numpy as np

    from mnistcli import plots

    score = _score(source, source.found[0].best)
    return plots.confusion(
        np.array(score.confusion),
        classes=[each.name for each in score.classes],
        title=_title(score),
    )


def _mistakes(source: _Source) -> "Figure":
    from mnistcli import checkpoints, plots, scoring

    score = _score(source, source.found[0].best)
    loaded = checkpoints.load_model(source.found[0].best)
    examples = scoring.load_split(
        loaded, dataset=score.dataset, split=score.split, data_dir=source.data_dir
    )
    shown = score.mistakes[:MISTAKES_SHOWN]
    return plots.mistakes(
        examples.images_NHW.numpy()[[mistake.index for mistake in shown]],
        shown,
        classes=[each.name for each in score.classes],
        title=_title(score),
        total=score.num_errors,
    )


def _samples(source: _Source) -> "Figure":
    from mnistcli import datasets, plots, runs
    from mnistcli.commands import data

    trained_on = runs.read_settings(source.found[0]).dataset if source.found else "mnist"
    dataset = datasets.dataset(source.dataset or trained_on)
    data.ready(dataset, source.data_dir, offline=True)
    examples = datasets.load(dataset, "train", source.data_dir)
    return plots.samples(
        examples.images_NHW.numpy()[:SAMPLES_SHOWN],
        examples.labels_N.numpy()[:SAMPLES_SHOWN],
        classes=dataset.classes,
        title=f"{dataset.name}, training set",
    )


def _frontier(source: _Source) -> "Figure":
    from mnistcli import checkpoints, frontier, plots, registry, runs

    # First, for judging takes a while.
    beside = frontier.read_points(source.beside) if source.beside else []
    judged = []
    for name in source.names:
        loaded = checkpoints.load_model(runs.find_checkpoint(name, source.out))
        settings = loaded.card.settings
        num_params = registry.num_params(settings.arch, settings.network)
        judged.append((settings, num_params, _score(source, loaded.path)))
    sets = sorted({score.dataset for _, _, score in judged})
    return plots.frontier(
        frontier.points(judged),
        beside=beside,
        title=f"{', '.join(sets)}, {source.split}: accuracy against parameters",
    )


def _score(source: _Source, checkpoint: Path) -> "Score":
    """What `mnist eval` has kept of a run's best checkpoint; else the checkpoint judged now."""
    from mnistcli import checkpoints, runs
    from mnistcli.commands import data

    run = runs.run_of(checkpoint)
    if run and run.best == checkpoint:
        kept = runs.read_score(run, source.dataset or runs.read_settings(run).dataset, source.split)
        if kept:
            return kept
        runs.find_checkpoint(str(run.path), run.path.parent)  # says so if there is none
    loaded = checkpoints.load_model(checkpoint)
    judged = data.judge(
        [loaded],
        dataset=source.dataset,
        split=source.split,
        data_dir=source.data_dir,
        offline=True,
    )
    score = judged[0].score
    data.keep(score)
    return score


def _title(score: "Score") -> str:
    return (
        f"{Path(score.checkpoint).parent.name} on {score.dataset}, {score.split} "
        f"({score.num_errors:,} errors in {score.num_images:,})"
    )
