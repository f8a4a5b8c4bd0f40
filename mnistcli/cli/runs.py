"""`mnist runs`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.options import (
    OUTPUT,
    Json,
    Out,
    complete_from,
    complete_run,
    quiet_option,
)
from mnistcli.config.dataset_names import KNOWN_DATASETS, require_dataset_name
from mnistcli.config.recipes import RECIPES
from mnistcli.errors import SettingsError, require_known
from mnistcli.models.registry import ARCHITECTURES

ORDERS = ("date", "accuracy", "params", "time", "name")
FILTERS = "Filters"


def list_runs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A run's name or directory, or `last`: show its settings and epochs.",
            metavar="RUN",
            show_default="a list of all runs",
            autocompletion=complete_run,
        ),
    ] = None,
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
            autocompletion=complete_from(KNOWN_DATASETS),
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
    csv: Annotated[
        bool,
        typer.Option("--csv", help="The epochs of RUN as CSV on stdout.", rich_help_panel=OUTPUT),
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, quiet_option("the names of the runs")] = False,
    out: Out = Path("runs"),
) -> None:
    """List runs with their progress and accuracy, or show one run.

    Validation accuracies are of the best and the last epoch; the test accuracy
    is there after `mnist eval`. A narrow terminal shows fewer columns; a pipe
    gets them all, and `--json` has everything. Of one run you see the settings
    that differ from its recipe and, as in training, the table of its epochs.

    Examples:
    $ mnist runs --sort accuracy --max-params 8000
    $ mnist runs last
    $ mnist runs last --csv > epochs.csv
    """
    from mnistcli.evaluation.run_table import (
        best_entry,
        filter_entries,
        read_run_entries,
        sort_entries,
    )
    from mnistcli.views.runs import show_damaged, show_runs

    sort = require_known("order", sort, ORDERS)
    if name is not None:
        filters = {
            "--best": best or None,
            "--recipe": recipe,
            "--arch": arch,
            "--dataset": dataset,
            "--max-params": max_params,
            "--min-accuracy": min_accuracy,
        }
        _check_no_filters(name, filters)
        _show_run(name, out, as_csv=csv, as_json=json, quiet=quiet)
        return
    if csv:
        raise SettingsError(
            "--csv needs a run.",
            why="It prints the epochs of one run.",
            fix="Name one: mnist runs last --csv",
        )
    entries, problems = read_run_entries(out)
    show_damaged(problems)
    recipes = {*RECIPES, *(entry.settings.recipe for entry in entries)}
    shown = filter_entries(
        sort_entries(entries, sort),
        recipe=recipe and require_known("recipe", recipe, recipes),
        arch=arch and require_known("architecture", arch, ARCHITECTURES),
        dataset=dataset and require_dataset_name(dataset),
        max_params=max_params,
        min_accuracy=min_accuracy,
    )
    if best:
        shown = [best_entry(shown, out)]
    show_runs(shown, problems, out=out, num_runs=len(entries), as_json=json, quiet=quiet)


def _check_no_filters(name: str, filters: Mapping[str, object]) -> None:
    """Raise SettingsError if an option that selects runs was given together with a name."""
    given = [option for option, value in filters.items() if value is not None]
    if given:
        raise SettingsError(
            f"{', '.join(given)} cannot be combined with a run's name.",
            why=f"It selects runs of the list; {name} is one run.",
            fix="Leave out one or the other.",
        )


def _show_run(name: str, out: Path, *, as_csv: bool, as_json: bool, quiet: bool) -> None:
    from mnistcli.evaluation.run_table import read_run_entry
    from mnistcli.runs.find import find_run
    from mnistcli.views.runs import show_damaged, show_run

    if as_csv + as_json + quiet > 1:
        raise SettingsError(
            "stdout can hold only one form.",
            why="--csv, --json and -q each print another one.",
            fix="Use one of them.",
        )
    entry, problems = read_run_entry(find_run(name, out))
    show_damaged(problems)
    show_run(entry, as_csv=as_csv, as_json=as_json, quiet=quiet)
