"""The errors of the tool, each with an exit code and what to do about it.

A message has three parts: what happened, why, and what to do next.
`mnistcli.cli` prints them on a line each and exits with `exit_code`.
"""

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# What a shell expects after Ctrl-C: 128 + SIGINT.
EXIT_INTERRUPTED = 130
# How many characters of a file a message quotes.
MAX_QUOTED = 200
# What else people call the names of devices and precisions.
ALIASES = {
    "cpu:0": "cpu",
    "cuda:0": "cuda",
    "gpu": "mps" if sys.platform == "darwin" else "cuda",
    "fp32": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
}


class MnistError(Exception):
    """A failure that the user can do something about."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        # Shown below `what` in a traceback, for example in a notebook.
        for note in filter(None, (why, fix)):
            self.add_note(note)


class RunError(MnistError):
    """A run directory cannot be created, written or read."""


class SettingsError(MnistError):
    """A setting, a name or a combination of flags is invalid."""

    exit_code = 2


class DataError(MnistError):
    """A data set, a checkpoint or a picture is missing or damaged."""

    exit_code = 3


class DeviceError(MnistError):
    """The requested device cannot be used."""

    exit_code = 4


class GateError(MnistError):
    """A required bound (`--max-params`, `--min-accuracy`) was missed."""

    exit_code = 5


def shorten(text: object) -> str:
    """Text from a file or another program, cut to `MAX_QUOTED` characters."""
    quoted = str(text)
    return quoted if len(quoted) <= MAX_QUOTED else f"{quoted[:MAX_QUOTED]}…"


def count_noun(number: int, noun: str) -> str:
    """A number and its noun: "1 check", "2 checks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_line(error: object) -> str:
    """The first line of an error's message, without its full stop; its type if it has none."""
    line = str(error).strip().partition("\n")[0].strip()
    return line.rstrip(".") or type(error).__name__


def first_mismatch(error: Exception) -> str:
    """The first mismatch in PyTorch's message about weights or a state that do not fit."""
    # It is on the second line.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(lines[min(1, len(lines) - 1)].rstrip(". ")) if lines else type(error).__name__


def find_known(name: str, known: "Collection[str]") -> str | None:
    """The one of the `known` names that `name` plainly means: as it is, in another case, an alias.

    None if there is none.
    """
    if name in known:
        return name
    folded = name.strip().lower().replace("_", "-")
    return next((each for each in (folded, ALIASES.get(folded)) if each in known), None)


def require_known(kind: str, name: str, known: "Collection[str]") -> str:
    """The one of the `known` names that `name` means; SettingsError, with the nearest, if none."""
    meant = find_known(name, known)
    if meant is None:
        raise unknown_name(kind, name, known)
    return meant


def unknown_name(kind: str, name: str, known: "Iterable[str]") -> SettingsError:
    """The error for a name that is not among the `known`, with the nearest one that is."""
    known = sorted(known)
    name = shorten(name)
    return SettingsError(
        f"There is no {kind} called '{name}'.",
        why=f"Known: {', '.join(known)}.",
        fix=suggest_name(name, known) or "Pick one of these.",
    )


def suggest_name(name: str, known: "Iterable[str]") -> str:
    """A question with the `known` name that is nearest to `name`; empty if none is near."""
    known, index = list(known), name.lower().removeprefix("cuda:")
    if "cuda" in known and name.lower() == f"cuda:{index}" and index.isdecimal():
        return f"Did you mean cuda? The variable CUDA_VISIBLE_DEVICES={index} selects that GPU."
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else ""
