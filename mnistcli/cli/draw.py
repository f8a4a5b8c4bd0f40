"""`mnist draw`."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.inputs import find_checkpoints
from mnistcli.cli.options import Out, complete_run

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def draw(
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="The network that tells which digit it is: a run, a .pth file, or a bundled one "
            "(reader, cnn-small); repeat it to compare several. Unset: reader.",
            metavar="RUN",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            help="A directory that collects drawings and their labels for mnist predict.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", help="The port; the next free one if it is taken.", min=0, max=65_535
        ),
    ] = 8028,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen on. Any but this machine's own lets others use the page.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Do not open the page in a browser.")
    ] = False,
    out: Out = Path("runs"),
) -> None:
    """Draw digits on a page in the browser and watch networks read them.

    Serves the page to this machine until Ctrl-C. Drawings, and pictures that are
    dropped, pasted or taken with the camera, are read as by mnist predict.

    Examples:
    $ mnist draw
    $ mnist draw -c runs/quick -c cnn-small
    $ mnist draw --keep drawings
    """
    from mnistcli.drawing.serve import listen
    from mnistcli.views.console import print_line, print_note

    with listen(host, port) as listening:
        bound = listening.getsockname()[1]
        if port not in (0, bound):
            print_note(f"Port {port} is taken: using {bound}.")
        if host not in LOOPBACK:
            print_note("Warning: everybody who reaches this machine can use the page.")
        paths = find_checkpoints(checkpoints, out) if checkpoints else []

        from mnistcli.drawing.app import create_app
        from mnistcli.drawing.keep import open_kept
        from mnistcli.drawing.readings import PageReader
        from mnistcli.drawing.serve import serve
        from mnistcli.evaluation.eval_data import require_classes
        from mnistcli.reading.predict import load_networks
        from mnistcli.runs.checkpoint import BUNDLED, load_checkpoint
        from mnistcli.views.eval import checkpoint_names

        models = [load_checkpoint(path) for path in paths]
        if len(models) > 1:
            require_classes(models, models[0].card.settings.dataset)
        networks = load_networks(models)
        bundled = {path: name for name, path in BUNDLED.items()}
        names = checkpoint_names(
            [bundled.get(model.path, str(model.path)) for model in networks.models]
        )
        reader = PageReader(networks, tuple(names))
        reader.warm_up()
        with open_kept(keep) if keep else nullcontext() as kept:
            name = f"[{host}]" if ":" in host else host
            url = f"http://{name}:{bound}/"
            print_line(url)
            sys.stdout.flush()
            print_note("Ctrl-C ends it.")
            if not no_open:
                _open(url)
            serve(create_app(reader, kept, host=host), listening)


def _open(url: str) -> None:
    """Open the page where there is a screen: a browser in the terminal would take it over."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform != "linux" or any(name in os.environ for name in screens):
        import webbrowser

        webbrowser.open(url)
