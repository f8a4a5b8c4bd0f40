"""Options that several commands share, and their completion.

Options that are settings are text here: `config` validates them, wherever they come from.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mnistcli.config.choices import (
    DatasetName,
    DeviceName,
    EvalSplit,
    Pooling,
    values,
)
from mnistcli.config.recipes import RECIPES
from mnistcli.errors import SettingsError
from mnistcli.models.registry import ARCHITECTURES

MODEL = "Model (default: the recipe's; in brackets: for which --arch)"
TRAINING = "Training (default: the recipe's)"
# Of files that commands write: nobody calls a directory of runs like that.
_WRITTEN_SUFFIXES = (".png", ".svg", ".pdf", ".onnx", ".c", ".pth", ".json", ".csv")
DATA, OUTPUT = "Data", "Output"


def setting(
    *names: str,
    panel: str,
    metavar: str = "NAME",
    help: str = "",  # noqa: A002 (Typer's word)
    choice: Any = None,
    default: str | bool = False,
) -> typer.models.OptionInfo:
    """An option for a setting; `default` is its default where no recipe sets it.

    `choice` is the setting's list in `config.choices`, for completion and a help text.
    """
    option: typer.models.OptionInfo = typer.Option(
        *names,
        help=help or one_of(choice),
        metavar=metavar,
        rich_help_panel=panel,
        autocompletion=complete_from(values(choice)) if choice else None,
        show_default=default,
    )
    return option


def one_of(choice: Any) -> str:
    """The names in one of the lists of `config.choices`, for a help page: "a, b or c."."""
    *most, last = values(choice)
    return f"{', '.join(most)} or {last}."


def complete_from(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Completion from a list of names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Completion from the names of runs and multi-runs in `runs/`, and "last"."""
    # Not by `runs.find`, whose imports take too long for a key press.
    multiruns = [path.parent for path in Path("runs").glob("*/summary.json")]
    runs = [
        path.parent
        for folder in (Path("runs"), *multiruns)
        for path in folder.glob("*/metrics.csv")
    ]
    names = ["last", *sorted(path.relative_to("runs").as_posix() for path in {*multiruns, *runs})]
    return [name for name in names if name.startswith(incomplete)]


def given_settings(ctx: typer.Context) -> dict[str, Any]:
    """The settings given on the command line, by name."""
    from mnistcli.config.settings import MODEL_FIELDS, TrainSettings

    names = {*TrainSettings.model_fields, "arch", *MODEL_FIELDS}
    return {
        name: value
        for name, value in ctx.params.items()
        if name in names and value not in (None, [], ())
    }


def warn_misspelled_variables() -> None:
    """Note environment variables that set nothing but look like one that does."""
    from mnistcli.config.sources import misspelled_variables
    from mnistcli.views.console import print_note

    for name, meant in misspelled_variables(os.environ).items():
        print_note(f"{name} has no effect. Did you mean {meant}?")


def _require_directory_name(ctx: typer.Context, out: Path) -> Path:
    """`--out` as it is; raises SettingsError if it is meant as the file to write."""
    if out.suffix.lower() in _WRITTEN_SUFFIXES and not out.is_dir():
        names_file = any(option.name == "output" for option in ctx.command.params)
        raise SettingsError(
            f"--out is the directory of the runs, not the file '{out}'.",
            fix=f"Name the file with --output {out}" if names_file else "Name a directory.",
        )
    return out


Text = str | None
Arch = Annotated[
    Text,
    typer.Option(
        "--arch",
        "-a",
        help=f"The architecture: {', '.join(ARCHITECTURES)}.",
        metavar="NAME",
        rich_help_panel=MODEL,
        autocompletion=complete_from(tuple(ARCHITECTURES)),
    ),
]
Recipe = Annotated[
    Text,
    typer.Option(
        "--recipe",
        "-r",
        help="A network with the settings to train it; `mnist summary` lists all recipes.",
        metavar="NAME",
        rich_help_panel=MODEL,
        autocompletion=complete_from(tuple(RECIPES)),
    ),
]
MaxParams = Annotated[
    Text,
    setting(
        "--max-params",
        help="Parameter budget. cnn-small gets the largest width that fits; a network of fixed "
        "size that is too large is refused (exit 5).",
        metavar="N",
        panel=MODEL,
    ),
]
Hidden = Annotated[
    Text,
    setting(
        "--hidden",
        help="Sizes of the hidden layers, for example 120 84 (ann, mlp, cnn).",
        metavar="N…",
        panel=MODEL,
    ),
]
Channels = Annotated[
    Text,
    setting(
        "--channels",
        help="Channels of the stages of convolutions, for example 8 16 (cnn, cnn-deep).",
        metavar="N…",
        panel=MODEL,
    ),
]
KernelSize = Annotated[
    Text,
    setting(
        "--kernel-size",
        help="Kernel size in pixels; for cnn-small, of the first convolution: 3, 5 or 7 (cnn, "
        "cnn-small).",
        metavar="N",
        panel=MODEL,
    ),
]
Depthwise = Annotated[
    Text,
    setting(
        "--depthwise",
        help="Number of depthwise kernels per channel (cnn-small).",
        metavar="N",
        panel=MODEL,
    ),
]
Padding = Annotated[
    Text,
    setting(
        "--padding", help="Padding of the convolutions in pixels (cnn).", metavar="N", panel=MODEL
    ),
]
Pool = Annotated[
    Text,
    setting(
        "--pool",
        help="Max pooling: each (after every stage of convolutions) or last (after the last one "
        "only) (cnn).",
        choice=Pooling,
        panel=MODEL,
    ),
]
BatchNorm = Annotated[
    bool | None,
    typer.Option(
        "--batch-norm/--no-batch-norm",
        help="Batch norm after the convolutions (cnn).",
        rich_help_panel=MODEL,
    ),
]
Dropout = Annotated[
    Text,
    setting(
        "--dropout",
        help="Dropout probability (ann, mlp, cnn, cnn-deep).",
        metavar="X",
        panel=MODEL,
    ),
]
Width = Annotated[
    Text,
    setting(
        "--width",
        help="Channels, instead of --max-params; the recipe adapts epochs, learning rate and "
        "augmentation to it (cnn-small).",
        metavar="N",
        panel=MODEL,
    ),
]
BatchSize = Annotated[
    Text, setting("--batch-size", "-b", help="Images per batch.", metavar="N", panel=TRAINING)
]
Augment = Annotated[
    bool | None,
    typer.Option(
        "--augment/--no-augment",
        help="Rotate, scale, shear and shift every image at random.",
        rich_help_panel=TRAINING,
    ),
]
Composed = Annotated[
    Text,
    setting(
        "--composed",
        help="Also train on this many examples composed for reading pictures: digits cut out of "
        "numbers, other hands, and ink that is no digit.",
        metavar="N",
        panel=TRAINING,
        default="0",
    ),
]
Ema = Annotated[
    Text,
    setting(
        "--ema",
        help="Decay of the weights' exponential moving average (0 turns it off).",
        metavar="X",
        panel=TRAINING,
    ),
]
DATASET_HELP = (
    f"The data set: {', '.join(values(DatasetName))}, or the path of your own (CSV, directories of "
    "pictures, .npz, IDX)."
)
Dataset = Annotated[
    Text,
    setting(
        "--dataset",
        "-d",
        help=DATASET_HELP,
        choice=DatasetName,
        panel=DATA,
        default="mnist",
    ),
]
# For commands that work on networks.
AnotherDataset = Annotated[
    Text,
    setting(
        "--dataset",
        "-d",
        help=DATASET_HELP,
        choice=DatasetName,
        panel=DATA,
        default="the one it was trained on",
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Take your own pictures of 28x28 pixels as they are: light on dark.",
        rich_help_panel=DATA,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Directory of the data sets.",
        metavar="DIR",
        show_default="$MNIST_DATA_DIR, or the user's cache directory",
        rich_help_panel=DATA,
        file_okay=False,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Never download: a missing data set is an error.",
        rich_help_panel=DATA,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Directory of the runs.",
        metavar="DIR",
        rich_help_panel=OUTPUT,
        callback=_require_directory_name,
    ),
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
    typer.Option("--json", help="Print JSON on stdout and nothing else.", rich_help_panel=OUTPUT),
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        help="test; val: the images held out in training; train: those trained on.",
        metavar="NAME",
        rich_help_panel=DATA,
        autocompletion=complete_from(values(EvalSplit)),
    ),
]
NO_NAME = "the newest run, or without one the bundled cnn-small"
CheckpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        "-c",
        help="The same as the argument CHECKPOINT.",
        metavar="CHECKPOINT",
        show_default=False,
        autocompletion=complete_run,
    ),
]


def quiet_option(what: str) -> typer.models.OptionInfo:
    """The option `-q`, which prints one value only."""
    option: typer.models.OptionInfo = typer.Option(
        "--quiet", "-q", help=f"Print only {what}.", rich_help_panel=OUTPUT
    )
    return option
