"""What a check of `mnist doctor` finds, and how one is carried out. Loads no torch."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mnistcli.errors import MnistError, first_line

Status = Literal["ok", "warning", "failed", "skipped"]

INSTALL = "Install PyTorch for this machine: https://pytorch.org/get-started/locally"
# The name of the check that fails where a process dies before its first check.
LOADING = "PyTorch"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked, as in "kernels".
        subject: The device, data set or directory, as in "cuda:0"; empty for the machine.
        status: Whether it works.
        finding: One line.
        fix: The command or the action that mends it; empty where nothing is wrong.
        facts: Figures for programs, as plain JSON types.
    """

    name: str
    subject: str
    status: Status
    finding: str
    fix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Subject and name, as in "cuda:0 kernels"."""
        return f"{self.subject} {self.name}".strip()


@dataclass(frozen=True)
class CheckStart:
    """The announcement of a check."""

    name: str
    subject: str


CheckEvents = Generator[CheckStart | Check, None, None]


@dataclass(frozen=True)
class DoctorOptions:
    """The options of `mnist doctor`.

    A `data_dir` of None is the default one; `train_seconds` of 0 skips the training.
    """

    device: str = "auto"
    data_dir: str | None = None
    out: str = "runs"
    train_seconds: float = 10.0


def run_check(
    name: str, subject: str, function: Callable[[], Check]
) -> Generator[CheckStart | Check, None, Check]:
    """Announce a check, carry it out and return it; it fails where `function` raises an error."""
    yield CheckStart(name, subject)
    try:
        check = function()
    except MnistError as error:
        finding = " ".join(f"{error.what} {error.why}".split()).rstrip(".")
        check = Check(name, subject, "failed", finding, fix=error.fix)
    except OSError as error:
        finding = ": ".join(filter(None, (error.filename, error.strerror))) or first_line(error)
        fix = "Check the path and its permissions"
        check = Check(name, subject, "failed", finding, fix=fix)
    except Exception as error:  # noqa: BLE001 (a broken installation may raise anything)
        check = Check(name, subject, "failed", first_line(error), fix=INSTALL)
    yield check
    return check
