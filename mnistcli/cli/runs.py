"""`mnist runs`."""

from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import Json, Out, complete_from, quiet_option
from mnistcli.config.choices import DatasetName, values
from mnistcli.config.recipes import RECIPES
from mnistcli.errors import require_known
from mnistcli.models.registry import ARCHITECTURES

ORDERS = ("date", "accuracy", "params", "time", "name")
FILTERS = "Filters"


def list_runs(
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            "-s",
            help="date (newest first), accuracy (validation, highest first), params (fewest "
            "first), time (shortest first) or name.",
            metavar="NAME",
            autocompletion=complete_from(ORDERS),
        ),
    ] = "date",
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="Only the run with the highest validation accuracy; with -q, its name. "
            "Each seed holds out different images.",
        ),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="Only runs of this recipe.",
            metavar="NAME",
            rich_help_panel=FILTERS,
            autocompletion=complete_from(tuple(RECIPES)),
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            "-a",
            help="Only networks of this architecture.",
            metavar="NAME",
            rich_help_panel=FILTERS,
            autocompletion=complete_from(tuple(ARCHITECTURES)),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="Only runs on this data set.",
            metavar="NAME",
            rich_help_panel=FILTERS,
            autocompletion=complete_from(values(DatasetName)),
        ),
    ] = None,
    max_params: Annotated[
        int | None,
        typer.Option(
            "--max-params",
            help="Only networks with at most this many parameters.",
            metavar="N",
            rich_help_panel=FILTERS,
            min=1,
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            help="Only runs with at least this validation accuracy in percent.",
            metavar="PERCENT",
            rich_help_panel=FILTERS,
            min=1,
            max=100,
        ),
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the names of the runs")] = False,
    out: Out = Path("runs"),
) -> None:
    """List runs with their progress and accuracy.

    Validation accuracies are of the best and the last epoch; the test accuracy
    is there after `mnist eval`. A narrow terminal shows fewer columns; `--json`
    has everything.

    Examples:
    $ mnist runs
    $ mnist runs --sort accuracy --max-params 8000
    $ mnist runs --best -q
    """
    from mnistcli.evaluation.run_table import (
        best_entry,
        filter_entries,
        read_run_entries,
        sort_entries,
    )
    from mnistcli.views.runs import show_damaged, show_runs

    sort = require_known("order", sort, ORDERS)
    entries, problems = read_run_entries(out)
    show_damaged(problems)
    recipes = {*RECIPES, *(entry.settings.recipe for entry in entries)}
    shown = filter_entries(
        sort_entries(entries, sort),
        recipe=recipe and require_known("recipe", recipe, recipes),
        arch=arch and require_known("architecture", arch, ARCHITECTURES),
        dataset=dataset and require_known("data set", dataset, values(DatasetName)),
        max_params=max_params,
        min_accuracy=min_accuracy,
    )
    if best:
        shown = [best_entry(shown, out)]
    show_runs(shown, problems, out=out, num_runs=len(entries), as_json=json, quiet=quiet)
