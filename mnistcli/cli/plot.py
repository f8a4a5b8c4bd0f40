"""`mnist plot`."""

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import chdir
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistcli.cli.inputs import (
    default_checkpoint,
    evaluate_checkpoints,
    expand_run_names,
    parse_split,
    prepare_option,
    store_score,
)
from mnistcli.cli.options import (
    NO_NAME,
    OUTPUT,
    AnotherDataset,
    CheckpointOption,
    DataDir,
    Json,
    Out,
    Raw,
    Split,
    complete_from,
    complete_run,
    quiet_option,
)
from mnistcli.config.choices import EvalSplit
from mnistcli.errors import MnistError, SettingsError, require_known
from mnistcli.plots.kinds import KINDS, PlotKind, draw

if TYPE_CHECKING:
    from mnistcli.evaluation.scores import Score
    from mnistcli.runs.checkpoint import LoadedModel

# More are counted in the name of a plot's file.
MAX_NAMES_IN_FILE = 3


def _join_names(kinds: Iterable[PlotKind]) -> str:
    """The names of kinds for a sentence: "a, b and c"."""
    *most, last = [kind.name for kind in kinds]
    return f"{', '.join(most)} and {last}" if most else last


_KINDS_OF_SEVERAL_RUNS = _join_names(kind for kind in KINDS.values() if kind.multiple)
_KINDS_OF_ALL_RUNS = _join_names(kind for kind in KINDS.values() if kind.unnamed == "all")
_KINDS_WITH_FIRST = _join_names(kind for kind in KINDS.values() if "first" in kind.options)
_KINDS_WITH_BESIDE = _join_names(kind for kind in KINDS.values() if "beside" in kind.options)


def plot(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="A run's or multi-run's name or directory, `last`, or a .pth file; "
            f"{_KINDS_OF_SEVERAL_RUNS} show more than one.",
            metavar="CHECKPOINT…",
            show_default=f"{NO_NAME}; for {_KINDS_OF_ALL_RUNS} all runs",
            autocompletion=complete_run,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            help="; ".join(f"{each.name}: {each.summary}" for each in KINDS.values()) + ".",
            metavar="NAME",
            autocompletion=complete_from(tuple(KINDS)),
        ),
    ] = "curves",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A .png, .svg or .pdf file, or .html for report; - writes to stdout (a PNG or "
            "the page).",
            metavar="FILE",
            show_default="KIND.png (report: .html) in the directory of the run or multi-run, "
            "KIND-NAMES.png in that of the runs",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            "--beside",
            help=f"Published results to add to {_KINDS_WITH_BESIDE}: a CSV file with the "
            "columns parameters, accuracy (in %) and name.",
            metavar="FILE",
        ),
    ] = None,
    first: Annotated[
        int,
        typer.Option(
            "--first",
            help=f"The first image that {_KINDS_WITH_FIRST} show, counted from 0: training images "
            "in their order, mistakes by confidence (25 at a time).",
            metavar="N",
            min=0,
        ),
    ] = 0,
    checkpoint: CheckpointOption = None,
    split: Split = "test",
    dataset: AnotherDataset = None,
    raw: Raw = False,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the file's name")] = False,
) -> None:
    """Draw learning curves, mistakes, images, weights or trade-offs of runs, or report on one.

    Runs that differ in seed or fold alone are drawn as their mean with its standard deviation.
    Scores are those that `mnist eval` has saved; a run without one is evaluated first.

    Examples:
    $ mnist plot
    $ mnist plot last --kind report
    $ mnist plot last --kind mistakes -o - > mistakes.png
    """
    _import_matplotlib()

    from mnistcli.plots.inputs import PlotInputs
    from mnistcli.plots.save import pick_format, save
    from mnistcli.views.console import print_note
    from mnistcli.views.plot import show_plot_path

    plot_kind = KINDS[require_known("kind of plot", kind, KINDS)]
    typed = [*(names or []), *(checkpoint or [])]
    names = expand_run_names(typed, out, required_file=plot_kind.required_file)
    _check_usage(plot_kind, num_named=len(names), beside=beside, first=first)
    if output == "-" and (json or quiet):
        raise SettingsError(
            "stdout can hold only one result.",
            why="-o - writes the plot there, --json and -q write the file's name.",
            fix="Leave one of them out, or write to a file: -o FILE",
        )
    if output and output != "-":
        pick_format(Path(output), formats=plot_kind.formats)
    if not names and plot_kind.unnamed == "newest":
        needs_run = plot_kind.required_file == "metrics.csv"
        names = typed = [str(default_checkpoint(out, action="drawing", needs_run=needs_run))]
    eval_split = parse_split(split)
    dataset = prepare_option(dataset, raw=raw)
    inputs = PlotInputs(
        names=names,
        out=out,
        split=eval_split,
        dataset=dataset,
        data_dir=data_dir,
        first=first,
        beside=beside,
        evaluate=partial(_evaluate, dataset=dataset, split=eval_split, data_dir=data_dir),
        report_omission=lambda problem: print_note(f"Left out: {problem}"),
    )
    drawn = draw(plot_kind, inputs)
    if output == "-":
        save(drawn, sys.stdout.buffer)
        return
    target = Path(output) if output else _default_file(plot_kind, typed, out)
    save(drawn, target)
    show_plot_path(target, as_json=json, quiet=quiet)


def _import_matplotlib() -> None:
    """Import matplotlib without the user's configuration: figures are only written to files.

    Its style is ours, and a backend of a notebook or a damaged `matplotlibrc` must not matter.

    Raises:
        MnistError: it finds no directory for its cache.
    """
    os.environ["MPLBACKEND"] = "agg"
    os.environ.pop("MATPLOTLIBRC", None)
    specification = find_spec("matplotlib")
    assert specification is not None
    assert specification.origin is not None
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        # It reads the `matplotlibrc` in the current directory: here that is its own.
        with chdir(Path(specification.origin).parent / "mpl-data"):
            import_module("matplotlib.font_manager")
    except OSError as error:
        raise MnistError(
            "The plot cannot be drawn.",
            why="matplotlib needs a directory that it may write to, for its cache.",
            fix="Name one: MPLCONFIGDIR=DIR mnist plot",
        ) from error


def _default_file(kind: PlotKind, names: list[str], out: Path) -> Path:
    """Where a plot of `names`, as typed, is written: beside what it shows."""
    from mnistcli.runs.find import find_multirun, find_run

    suffix = kind.formats[0]
    file = Path(f"{kind.name}.{suffix}")
    if not names:
        return out / file if kind.unnamed == "all" else file
    if len(names) > 1:
        most, rest = names[:MAX_NAMES_IN_FILE], len(names) - MAX_NAMES_IN_FILE
        labels = [_file_label(name) for name in most] + ([f"{rest}-more"] if rest > 0 else [])
        return (out if out.is_dir() else Path()) / f"{kind.name}-{'-'.join(labels)}.{suffix}"
    (name,) = names
    if Path(name).is_file() or not (Path(name).is_dir() or (out / name).is_dir() or name == "last"):
        return file  # a checkpoint: its directory may be that of the package
    multirun = find_multirun(name, out) if name != "last" else None
    return (multirun or find_run(name, out)).path / file


def _file_label(name: str) -> str:
    """A run or a checkpoint in the name of a file: "quick", or "quick-last" for its last.pth."""
    path = Path(name)
    return f"{path.resolve().parent.name}-{path.stem}" if path.suffix == ".pth" else path.name


def _evaluate(
    model: "LoadedModel", *, dataset: str | None, split: EvalSplit, data_dir: Path | None
) -> "Score":
    """Evaluate a checkpoint that has no saved score, and save it in its run."""
    from mnistcli.config.dataset_names import dataset_title
    from mnistcli.data.datasets import resolve_data_dir
    from mnistcli.runs.checkpoint import checkpoint_title
    from mnistcli.views.console import print_note

    title = dataset_title(dataset or model.card.settings.dataset)
    name = checkpoint_title(model.path)
    print_note(f"{name} has no score on {split} images of {title}: evaluating it.")
    data_dir = resolve_data_dir(data_dir, os.environ)
    (evaluation,) = evaluate_checkpoints(
        [model], dataset=dataset, split=split, data_dir=data_dir, offline=True
    )
    store_score(evaluation.score)
    return evaluation.score


def _check_usage(kind: PlotKind, *, num_named: int, beside: Path | None, first: int) -> None:
    """Raise SettingsError if `kind` does not use what was given."""
    if num_named > 1 and not kind.multiple:
        raise SettingsError(
            f"{kind.name} is drawn from one run, not {num_named}.",
            fix=f"Name one run, or use another kind: {_KINDS_OF_SEVERAL_RUNS} show several.",
        )
    if beside and "beside" not in kind.options:
        raise SettingsError(
            f"{kind.name} does not use --beside.",
            why=f"It adds published results to {_KINDS_WITH_BESIDE}.",
            fix="Leave --beside out.",
        )
    if first and "first" not in kind.options:
        raise SettingsError(
            f"{kind.name} does not use --first.",
            why=f"It picks the image that {_KINDS_WITH_FIRST} begin with.",
            fix="Leave --first out.",
        )
