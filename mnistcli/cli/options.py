"""The options that several commands share, and what the shell completes them to.

Values that are settings stay text here: `settings` checks them, with their bounds, and
knows where else a value may come from.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mnistcli.config.choices import DatasetName, DeviceName, EvalSplit, Pooling, values
from mnistcli.config.recipes import RECIPES
from mnistcli.models.registry import ARCHITECTURES

MODEL, TRAINING = "Model (unset: from the recipe)", "Training (unset: from the recipe)"
DATA, OUTPUT = "Data", "Output"

# Options that say where and how, not what is computed.
NOT_SETTINGS = frozenset(
    (
        "config",
        "name",
        "out",
        "resume",
        "seeds",
        "folds",
        "data_dir",
        "offline",
        "dry_run",
        "seconds",
        "repeats",
        "reference",
        "loader_processes",
        "json",
        "quiet",
        "checkpoint",
    )
)


def setting(
    *names: str,
    help: str,  # noqa: A002 (Typer's word)
    metavar: str,
    panel: str,
    complete: Callable[[str], list[str]] | None = None,
    default: str | bool = False,
) -> typer.models.OptionInfo:
    """An option whose value is a setting; `default` is what no recipe changes."""
    option: typer.models.OptionInfo = typer.Option(
        *names,
        help=help,
        metavar=metavar,
        rich_help_panel=panel,
        autocompletion=complete,
        show_default=default,
    )
    return option


def one_of(choice: Any) -> str:
    """The names in a list of `choices`, for a help page: "a, b or c."."""
    *most, last = values(choice)
    return f"{', '.join(most)} or {last}."


def complete_from(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A completion to the names that begin with what has been typed."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """The names of the runs and series in `runs/`, those of the runs in series, and "last"."""
    # As `runs.all_runs`, which takes too long to load for a key.
    series = [path.parent for path in Path("runs").glob("*/summary.json")]
    found = [
        path.parent for place in (Path("runs"), *series) for path in place.glob("*/metrics.csv")
    ]
    names = ["last", *sorted(path.relative_to("runs").as_posix() for path in {*series, *found})]
    return [name for name in names if name.startswith(incomplete)]


def given_settings(ctx: typer.Context) -> dict[str, Any]:
    """What the command line sets, by the names that `settings` knows."""
    return {
        name: value
        for name, value in ctx.params.items()
        if value not in (None, [], ()) and name not in NOT_SETTINGS
    }


def warn_misspelled_variables() -> None:
    """Say which environment variables were probably meant to set something."""
    from mnistcli.config.resolve import misspelled_variables
    from mnistcli.views.console import print_note

    for name, near in misspelled_variables(os.environ).items():
        print_note(f"{name} sets nothing. Did you mean {near}?")


class ListCommand(TyperCommand):
    """A command whose list options take every number that follows: `--hidden 120 84`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse `args` after joining the numbers behind a list option with commas."""
        return super().parse_args(ctx, join_numbers(args))


def join_numbers(args: list[str]) -> list[str]:
    """`["--hidden", "120", "84"]` as `["--hidden", "120,84"]`."""
    joined: list[str] = []
    for argument in args:
        in_list = len(joined) > 1 and joined[-2] in ("--hidden", "--channels")
        if in_list and argument.isdecimal() and joined[-1].replace(",", "").isdecimal():
            joined[-1] += f",{argument}"
        else:
            joined.append(argument)
    return joined


Arch = Annotated[
    str | None,
    setting(
        "--arch",
        "-a",
        help=f"The architecture: {', '.join(ARCHITECTURES)}.",
        metavar="NAME",
        panel=MODEL,
        complete=complete_from(tuple(ARCHITECTURES)),
    ),
]
Recipe = Annotated[
    str | None,
    setting(
        "--recipe",
        "-r",
        help="A network with the settings that train it; `mnist summary` lists them.",
        metavar="NAME",
        panel=MODEL,
        complete=complete_from(tuple(RECIPES)),
    ),
]
MaxParams = Annotated[
    str | None,
    setting(
        "--max-params",
        help="The parameter budget. cnn-small takes the widest width that fits; a network of "
        "fixed size that does not fit is refused (exit 5).",
        metavar="N",
        panel=MODEL,
    ),
]
Hidden = Annotated[
    str | None,
    setting("--hidden", help="Sizes of the hidden layers: 120 84.", metavar="N…", panel=MODEL),
]
Channels = Annotated[
    str | None,
    setting(
        "--channels", help="Channels of the convolution stages: 8 16.", metavar="N…", panel=MODEL
    ),
]
KernelSize = Annotated[
    str | None,
    setting("--kernel-size", help="Side of a cnn's kernels.", metavar="PX", panel=MODEL),
]
Padding = Annotated[
    str | None,
    setting("--padding", help="Padding of a cnn's convolutions.", metavar="PX", panel=MODEL),
]
Pool = Annotated[
    str | None,
    setting(
        "--pool",
        help="Where a cnn halves the picture: in each stage, or after the last only.",
        metavar="NAME",
        panel=MODEL,
        complete=complete_from(values(Pooling)),
    ),
]
BatchNorm = Annotated[
    bool | None,
    typer.Option(
        "--batch-norm/--no-batch-norm",
        help="Normalise a cnn's convolutions over the batch.",
        rich_help_panel=MODEL,
    ),
]
Dropout = Annotated[
    str | None,
    setting("--dropout", help="Share of units dropped in training.", metavar="P", panel=MODEL),
]
Width = Annotated[
    str | None,
    setting(
        "--width",
        help="Width of cnn-small, instead of a budget's. Where nothing else sets them, its recipe "
        "has the epochs, rate and augmentation that suit the width.",
        metavar="N",
        panel=MODEL,
    ),
]
BatchSize = Annotated[
    str | None,
    setting("--batch-size", "-b", help="Pictures a step.", metavar="N", panel=TRAINING),
]
Augment = Annotated[
    bool | None,
    typer.Option(
        "--augment/--no-augment",
        help="Turn, scale, shear and shift every picture at random.",
        rich_help_panel=TRAINING,
    ),
]
Ema = Annotated[
    str | None,
    setting(
        "--ema",
        help="Decay a step of a moving average of the weights; 0 for none.",
        metavar="P",
        panel=TRAINING,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help=f"The data set: {', '.join(values(DatasetName))}.",
        metavar="NAME",
        rich_help_panel=DATA,
        autocompletion=complete_from(values(DatasetName)),
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where data sets lie.",
        show_default="$MNIST_DATA_DIR, else the user's cache directory",
        rich_help_panel=DATA,
        file_okay=False,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Never download; a missing data set is an error.",
        rich_help_panel=DATA,
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", help="The directory runs lie in.", rich_help_panel=OUTPUT),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help=one_of(DeviceName),
        metavar="NAME",
        autocompletion=complete_from(values(DeviceName)),
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON on stdout, and nothing else.", rich_help_panel=OUTPUT),
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        help="test, or val: the images that training held out.",
        metavar="NAME",
        rich_help_panel=DATA,
        autocompletion=complete_from(values(EvalSplit)),
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        "-c",
        help="A .pth file, a run's directory or name, or `last`.",
        metavar="PATH",
        show_default="the bundled cnn-small",
        autocompletion=complete_run,
    ),
]


def quiet_option(what: str) -> typer.models.OptionInfo:
    """The option `-q`, which prints one value: `what`."""
    option: typer.models.OptionInfo = typer.Option(
        "--quiet", "-q", help=f"Print {what} only.", rich_help_panel=OUTPUT
    )
    return option
