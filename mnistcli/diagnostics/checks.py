"""A check of `mnist doctor`: what was checked, how it went, how to mend it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mnistcli.diagnostics.doctor import SILENCE_SECONDS

Status = Literal["ok", "warning", "failed", "skipped"]
TaskKind = Literal["machine", "device", "train"]
INSTALL = "Install PyTorch for this machine: https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    `name` is what was asked ("kernels"), `subject` of what ("cuda:0"; empty: of the
    machine). `finding` is one line, `fix` what to type or do next where something
    is not as it should be, `facts` the figures for programs, as plain JSON types.
    """

    name: str
    subject: str
    status: Status
    finding: str
    fix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Subject and name, in a word or two."""
        return f"{self.subject} {self.name}".strip()


# Called with the name and the subject of a check when it begins.
OnStart = Callable[[str, str], None]


@dataclass(frozen=True)
class DoctorOptions:
    """What to look at: a device or "auto" for all, where data and runs lie, how long to train.

    A `data_dir` of None is the usual one; `train_seconds` of 0 leaves the training out.
    """

    device: str = "auto"
    data_dir: str | None = None
    out: str = "runs"
    train_seconds: float = 10.0


@dataclass(frozen=True)
class Task:
    """What another process does: look at the machine, at one device ("cuda:0"), or train."""

    stage: TaskKind
    device: str
    wanted: DoctorOptions

    @property
    def silence_seconds(self) -> float:
        """How long the process may take for a check before it is given up."""
        return SILENCE_SECONDS + (self.wanted.train_seconds if self.stage == "train" else 0)


def count_noun(number: int, noun: str) -> str:
    """A number of things in words: "1 check", "2 checks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
