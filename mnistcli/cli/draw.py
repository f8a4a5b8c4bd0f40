"""`mnist draw`."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mnistcli.cli.inputs import find_checkpoints, load_models
from mnistcli.cli.options import CheckpointOption, Out, complete_run


def draw(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="The network that tells which digit it is: a run, a .pth file, or a bundled one "
            "(reader, cnn-small); several are compared.",
            metavar="CHECKPOINT…",
            show_default="both bundled ones",
            autocompletion=complete_run,
        ),
    ] = None,
    checkpoints: CheckpointOption = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            help="Directory that collects drawings and their labels for mnist predict.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            help="The port; if it is taken, the next free one. 0: any free one.",
            metavar="N",
            min=0,
            max=65_535,
        ),
    ] = 8028,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen on; 0.0.0.0 lets phones in the same network draw.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Do not open the page in the browser.")
    ] = False,
    out: Out = Path("runs"),
) -> None:
    """Draw digits on a page in the browser and watch networks read them.

    Serves the page, to this machine only, until Ctrl-C. Drawings are read as by
    mnist predict; so are pictures dropped, pasted or taken with the camera.

    Examples:
    $ mnist draw
    $ mnist draw runs/quick cnn-small --keep drawings
    $ mnist draw --host 0.0.0.0
    """
    from mnistcli.drawing.server import LOCAL_NAMES, listen, page_url, url_for_others
    from mnistcli.views.console import print_line, print_note

    paths = find_checkpoints([*(names or []), *(checkpoints or [])], out)
    with listen(host, port) as listening:
        bound = listening.getsockname()[1]
        models = load_models(paths)

        import torch

        from mnistcli.drawing.app import create_app
        from mnistcli.drawing.kept_pictures import open_kept
        from mnistcli.drawing.picture_reader import PictureReader
        from mnistcli.drawing.server import serve
        from mnistcli.reading.predict import load_networks
        from mnistcli.views.eval import checkpoint_names

        # On maps this small, several threads mostly wait for each other.
        torch.set_num_threads(1)
        networks = load_networks(models)
        names = checkpoint_names([str(model.path) for model in networks.models])
        reader = PictureReader(networks, tuple(names))
        reader.warm_up()
        classes = networks.reader.card.classes
        with open_kept(keep, classes) if keep else nullcontext() as kept:
            if port not in (0, bound):
                print_note(f"Port {port} is taken, so the page is on {bound}.")
            url = page_url(host, bound)
            print_line(url)
            sys.stdout.flush()
            if host not in LOCAL_NAMES:
                others = url_for_others(host, bound) or f"this machine's address, port {bound}"
                print_note(f"For others: {others}")
                print_note("Warning: everyone in this network can use it; there is no password.")
            print_note("Press Ctrl-C to stop.")
            if not no_open:
                _open(url)
            serve(create_app(reader, kept, host=host), listening)


def _open(url: str) -> None:
    """Open the page if there is a screen; a browser in the terminal would hide our output."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform != "linux" or any(name in os.environ for name in screens):
        import webbrowser

        webbrowser.open(url)
