"""What can go wrong, each with its exit code and the way out.

A message has three parts: what happened, why, and what to type or change next.
`mnistcli.cli` prints them, one line each, and leaves with `exit_code`.
"""

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Not an error of ours: what a shell expects after Ctrl-C (128 + SIGINT).
EXIT_INTERRUPTED = 130
# Characters of a file that a message quotes.
MAX_QUOTED = 200


class MnistError(Exception):
    """Something failed that the person at the terminal can mend."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        # What a traceback shows below `what`, as a notebook does.
        for note in filter(None, (why, fix)):
            self.add_note(note)


class RunError(MnistError):
    """A run directory cannot be created, written or read."""


class SettingsError(MnistError):
    """A setting, a name or a combination of flags makes no sense."""

    exit_code = 2


class DataError(MnistError):
    """A data set, a checkpoint or a picture is missing or damaged."""

    exit_code = 3


class DeviceError(MnistError):
    """The device that was asked for cannot be used."""

    exit_code = 4


class GateError(MnistError):
    """A demanded bound (`--max-params`, `--min-accuracy`) was missed."""

    exit_code = 5


def shorten(text: object) -> str:
    """What a file or another program says, shortened to what fits in a message."""
    words = str(text)
    return words if len(words) <= MAX_QUOTED else f"{words[:MAX_QUOTED]}…"


def first_line(error: object) -> str:
    """The first line of an error's message, without its full stop; its type if it has none."""
    line = str(error).strip().partition("\n")[0].strip()
    return line.rstrip(".") or type(error).__name__


def first_mismatch(error: Exception) -> str:
    """What PyTorch says of weights or a state that do not fit, shortened, without its full stop."""
    # It names the first thing that does not fit on its second line.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(lines[min(1, len(lines) - 1)].rstrip(". ")) if lines else type(error).__name__


def unknown_name(kind: str, name: str, known: "Iterable[str]") -> SettingsError:
    """The error for a name that is in no registry, with the nearest one that is."""
    known = sorted(known)
    name = shorten(name)
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    fix = f"Did you mean {near[0]}?" if near else "Pick one of these."
    return SettingsError(
        f"There is no {kind} called '{name}'.", why=f"Known: {', '.join(known)}.", fix=fix
    )
