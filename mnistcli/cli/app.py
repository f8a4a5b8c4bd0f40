"""The command line: mounts the commands; the one place where errors become messages."""

import atexit
import gc
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, TextIO

import typer

from mnistcli.cli.bench import bench
from mnistcli.cli.doctor import doctor
from mnistcli.cli.download import download
from mnistcli.cli.draw import draw
from mnistcli.cli.eval import evaluate
from mnistcli.cli.export import export
from mnistcli.cli.parsing import Command, Group
from mnistcli.cli.plot import plot
from mnistcli.cli.predict import predict
from mnistcli.cli.runs import list_runs
from mnistcli.cli.summary import summary
from mnistcli.cli.train import train
from mnistcli.cli.train_finder import train_finder
from mnistcli.errors import EXIT_INTERRUPTED, MnistError
from mnistcli.system.signals import handle_as_ctrl_c
from mnistcli.version import __version__

# Garbage collection thresholds of the first two generations; Python's own are 700 and 10.
GARBAGE_THRESHOLDS = (10_000, 50)

app = typer.Typer(
    name="mnist",
    cls=Group,
    rich_markup_mode="rich",
    # A bug keeps Python's own traceback: it is what a bug report needs.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", cls=Command)(train)
app.command("eval", cls=Command)(evaluate)
app.command("predict", cls=Command)(predict)
app.command("draw", cls=Command)(draw)
app.command("summary", cls=Command)(summary)
app.command("runs", cls=Command)(list_runs)
app.command("plot", cls=Command)(plot)
app.command("export", cls=Command)(export)
app.command("download", cls=Command)(download)
app.command("doctor", cls=Command)(doctor)
app.command("bench", cls=Command)(bench)
app.command("train-finder", cls=Command)(train_finder)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"mnist {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def mnist(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001 (the callback answers it)
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Train, evaluate and use small networks that read handwritten digits.

    First steps:
    $ mnist train --dataset digits
    $ mnist predict --demo
    $ mnist train --arch cnn-small --max-params 8000

    Exit codes:
    0 done, 1 failed, 2 wrong usage or settings, 3 data missing or damaged,
    4 device unavailable, 5 a required bound was missed, 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _freeze_garbage() -> None:
    """Skip the collection at exit: the system reclaims all memory anyway."""
    if "triton" not in sys.modules:  # it prints objects that were not collected to stderr
        gc.freeze()


def _expand_home(argument: str) -> str:
    """The argument with its "~" expanded, which a shell does neither in quotes nor after "="."""
    option, equals, value = ("", "", argument)
    if argument.startswith("--"):
        option, equals, value = argument.partition("=")
    # Not by Path, which would change "a//b" and "./a".
    return f"{option}{equals}{os.path.expanduser(value)}"  # noqa: PTH111


def _open_closed_streams() -> None:
    """Open standard streams that are closed (`>&-`), so that what is printed there is lost.

    The next file that is opened would get the number of such a stream, and what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (until the exit)


def _flush(stream: TextIO) -> bool:
    """Write what is buffered; False if nobody reads it."""
    try:
        stream.flush()
    except BrokenPipeError:
        # Python tries again at the exit, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True


def main(args: list[str] | None = None) -> None:
    """Run the command line `args` (by default `sys.argv[1:]`) and exit.

    The exit code of a command that succeeds is 1 if nobody reads its output, as after `| head`.
    """
    try:
        _run(args)
    except SystemExit as end:
        _flush(sys.stderr)
        if not _flush(sys.stdout) and not end.code:
            sys.exit(1)
        raise


def _run(args: list[str] | None) -> None:
    if threading.current_thread() is threading.main_thread():
        handle_as_ctrl_c()
    if not os.environ.get("COLUMNS", "80").strip("0"):
        del os.environ["COLUMNS"]  # a terminal without a size; Rich would print nothing
    # Importing libraries makes many objects and hardly any garbage: collecting less often, and
    # not at exit, saves a quarter of the time that it takes to load and unload PyTorch.
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    atexit.register(_freeze_garbage)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A character that the console cannot encode becomes "?" instead of an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(args=list(map(_expand_home, sys.argv[1:] if args is None else args)), prog_name="mnist")
    except KeyboardInterrupt:  # outside of a command; inside, Typer handles it
        sys.exit(EXIT_INTERRUPTED)
    except MnistError as error:
        from mnistcli.views.console import print_error

        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk, a permission, an impossible name: the system's message is ours.
        if error.strerror is None:
            raise

        from mnistcli.views.console import print_error

        what = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
        print_error(MnistError(what, fix="Check the path and its permissions."))
        sys.exit(MnistError.exit_code)
