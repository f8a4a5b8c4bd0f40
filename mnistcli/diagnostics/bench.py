"""How fast this machine trains and evaluates: what is measured, process by process. Loads no torch.

Every network and number format is measured by a process of its own, so that
one's peak of memory is not another's, and what crashes or runs out of memory
ends no other measurement.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mnistcli.diagnostics.processes import call_in_process
from mnistcli.errors import MnistError
from mnistcli.models.registry import ARCHITECTURES

# What `mnist train` trains on an epoch: MNIST without the tenth that is held out.
EPOCH_IMAGES = 54_000
DEFAULT_PRECISIONS = ("float32", "auto")

# Called with what is about to be measured, its number from 1, and how many there are.
OnBenchStart = Callable[["BenchCase", int, int], None]
# Carries out a function in another process, as `processes.call`.
Call = Callable[[str, object], Any]


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and for how long.

    `picks` are settings as flags name them, one network each, which differ at
    least in `arch` or `recipe`; `precisions` are measured for each. A
    measurement takes about `seconds` for all its `repeats`. `reference` adds the
    usual loop, whose DataLoader has `loader_processes`.
    """

    picks: Sequence[Mapping[str, Any]]
    precisions: Sequence[str] = DEFAULT_PRECISIONS
    seconds: float = 3.0
    repeats: int = 5
    reference: bool = False
    loader_processes: int = 0
    data_dir: str | None = None


@dataclass(frozen=True)
class MachineInfo:
    """What it is measured on: facts as `mnist doctor --json` has them, and the pictures."""

    versions: Mapping[str, Any]
    processor: Mapping[str, Any]
    accelerators: Sequence[Mapping[str, Any]]
    device: Mapping[str, str]
    pictures: str


@dataclass(frozen=True)
class BenchCase:
    """One network in one number format, before it is measured.

    `settings` are those of a training run, complete, as JSON has them.
    """

    settings: Mapping[str, Any]
    num_params: int
    precision: Mapping[str, str]

    @property
    def label(self) -> str:
        """The network and the format, in words."""
        return f"{self.settings['recipe']} in {self.precision['value']}"


@dataclass(frozen=True)
class Samples:
    """One figure, measured several times."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, or the mean of the two in the middle."""
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.samples)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.samples)

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "median": self.median,
            "min": self.low,
            "max": self.high,
            "samples": list(self.samples),
        }


@dataclass(frozen=True)
class ReferenceResult:
    """The usual loop in one number format, images per second.

    `ratio` is how many times as fast the engine was, turn by turn.
    """

    precision: str
    training: Samples
    ratio: Samples


@dataclass(frozen=True)
class Measurement:
    """What a network does in one number format.

    `training` and `inference` are images per second, `latency_seconds` what one
    picture takes alone. `num_trained` and `num_evaluated` are the images of a
    sample. `peak_bytes` is the peak of a CUDA device's memory that tensors
    took, elsewhere of the whole process's; None where the system tells none.
    """

    training: Samples
    inference: Samples
    latency_seconds: Samples
    num_trained: int
    num_evaluated: int
    peak_bytes: int | None
    usual: tuple[ReferenceResult, ...] = ()

    @property
    def epoch_seconds(self) -> float:
        """What an epoch of `mnist train` on MNIST takes, without its validation."""
        return EPOCH_IMAGES / self.training.median


@dataclass(frozen=True)
class BenchRow:
    """A network in one number format with its figures, or the error that ended it."""

    bench: BenchCase
    outcome: Measurement | MnistError


def select_networks(
    archs: Sequence[str], recipes: Sequence[str], more: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The networks to measure, each with the settings `more`; by default, every architecture."""
    chosen = [{"arch": name} for name in archs] + [{"recipe": name} for name in recipes]
    chosen = chosen or [{"arch": name} for name in ARCHITECTURES]
    return [{**more, **each} for each in chosen]


def prepare_cases(
    wanted: BenchOptions, *, call: Call | None = None
) -> tuple[MachineInfo, list[BenchCase]]:
    """The machine, and what is to be measured on it: no network twice in one number format.

    Raises:
        SettingsError: a name, a setting or a combination makes no sense.
        GateError: a network does not fit its budget.
        DeviceError: the wanted device or precision does not work here.
    """
    found = (call or call_in_process)("mnistcli.measuring:prepare", asdict(wanted))
    return MachineInfo(**found["machine"]), [BenchCase(**each) for each in found["benches"]]


def measure_cases(
    wanted: BenchOptions,
    benches: Sequence[BenchCase],
    *,
    on_start: OnBenchStart,
    call: Call | None = None,
) -> Iterator[BenchRow]:
    """A row for every network and number format, as it is done; `call` is for tests."""
    call = call or call_in_process
    for number, bench in enumerate(benches, start=1):
        on_start(bench, number, len(benches))
        task = {"settings": bench.settings, "wanted": asdict(wanted)}
        outcome: Measurement | MnistError
        try:
            outcome = _parse_measurement(call("mnistcli.measuring:measure", task))
        except MnistError as error:
            outcome = error
        yield BenchRow(bench, outcome)


def _parse_measurement(found: Mapping[str, Any]) -> Measurement:
    def samples(of: Mapping[str, Any], name: str) -> Samples:
        return Samples(tuple(of[name]))

    return Measurement(
        training=samples(found, "training"),
        inference=samples(found, "inference"),
        latency_seconds=samples(found, "latency_seconds"),
        num_trained=found["num_trained"],
        num_evaluated=found["num_evaluated"],
        peak_bytes=found["peak_bytes"],
        usual=tuple(
            ReferenceResult(each["precision"], samples(each, "training"), samples(each, "ratio"))
            for each in found["usual"]
        ),
    )
