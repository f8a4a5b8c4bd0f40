"""`mnist plot`."""

import os
import sys
from dataclasses import dataclass
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

KINDS = ("curves", "confusion", "mistakes", "samples")
MISTAKES_SHOWN = 25
SAMPLES_SHOWN = 50


def plot(
    run_names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs, by directory or name; curves draws several on one figure.",
            metavar="RUN…",
            show_default="the newest",
            autocompletion=complete_run,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            help="curves, confusion, mistakes (the most confident) or samples (of a data set).",
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
    split: options.Split = "test",
    dataset: options.Dataset = None,
    data_dir: options.DataDir = None,
    out: options.Out = Path("runs"),
    json: options.Json = False,
    quiet: Annotated[bool, options.quiet("the file's name")] = False,
) -> None:
    """Draw learning curves, a confusion matrix, mistakes or samples.

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
    if kind != "curves" and len(run_names or ()) > 1:
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
    plots.pick_format(Path(output) if output and output != "-" else Path("x.png"))
    source = _Source(
        found=[runs.find(name, out) for name in run_names or ()],
        split=pick_split(split),
        dataset=dataset,
        wanted_data_dir=data_dir,
    )
    if not source.found and kind != "samples":
        source.found.append(runs.find("last", out))
    figure = {
        "curves": _curves,
        "confusion": _confusion,
        "mistakes": _mistakes,
        "samples": _samples,
    }[kind](source)
    if output == "-":
        plots.save(figure, sys.stdout.buffer, format="png")
        return
    folder = source.found[0].path if len(source.found) == 1 else Path()
    target = Path(output) if output else folder / f"{kind}.png"
    plots.save(figure, target, format=None)
    render.drawn(target, as_json=json, quiet=quiet)


@dataclass
class _Source:
    """What a figure is drawn from."""

    found: "list[Run]"
    split: "JudgedSplit"
    dataset: str | None
    wanted_data_dir: Path | None

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

    score = _score(source)
    return plots.confusion(
        np.array(score.confusion),
        classes=[each.name for each in score.classes],
        title=_title(score),
    )


def _mistakes(source: _Source) -> "Figure":
    from mnistcli import checkpoints, plots, scoring

    score = _score(source)
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


def _score(source: _Source) -> "Score":
    """What `mnist eval` has kept of the first run, or the run judged now."""
    from mnistcli import checkpoints, runs
    from mnistcli.commands import data

    run = source.found[0]
    name = source.dataset or runs.read_settings(run).dataset
    kept = runs.read_score(run, name, source.split)
    if kept:
        return kept
    score = data.judge(
        checkpoints.load_model(runs.find_checkpoint(str(run.path), run.path.parent)),
        dataset=name,
        split=source.split,
        data_dir=source.data_dir,
        offline=True,
    )
    data.keep(score)
    return score


def _title(score: "Score") -> str:
    return (
        f"{Path(score.checkpoint).parent.name} on {score.dataset}, {score.split} "
        f"({score.num_errors:,} errors in {score.num_images:,})"
    )
