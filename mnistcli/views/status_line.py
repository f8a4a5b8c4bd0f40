"""One line that says what a slow command is doing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from mnistcli.views.console import printable, stderr


@contextmanager
def status_line(*, quiet: bool, terminal_only: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a line: in place on a terminal, below the last one elsewhere.

    With `terminal_only` nothing is shown elsewhere.
    """
    quiet = quiet or (terminal_only and not sys.stderr.isatty())
    console = stderr(quiet=quiet)
    in_place = sys.stderr.isatty() and not console.is_dumb_terminal and not quiet
    spinner = Spinner("dots", style="status.spinner")
    live = (
        Live(spinner, console=console, refresh_per_second=12.5, transient=True)
        if in_place
        else None
    )

    def show(text: str) -> None:
        line = Text(printable(text))
        if live:
            spinner.update(text=line)
            live.start()
            live.refresh()  # so that a short step is shown too
        else:
            console.print(line, soft_wrap=True)

    try:
        yield show
    finally:
        if live:
            live.stop()
