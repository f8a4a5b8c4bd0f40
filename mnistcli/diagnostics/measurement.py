"""What `mnist bench` measures: its options, the cases, the figures. Loads no torch."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The images of an epoch of `mnist train` on MNIST: a tenth of 60,000 is held out.
EPOCH_IMAGES = 54_000
DEFAULT_PRECISIONS = ("float32", "auto")


@dataclass(frozen=True)
class BenchOptions:
    """The options of `mnist bench`.

    Attributes:
        networks: The settings of each network, as flags name them.
        precisions: Measured for each network.
        seconds: How long to train a network, and again to evaluate it, in all repeats.
        repeats: The number of samples.
        reference: Whether to measure the reference loop too.
        loader_processes: The processes of its DataLoader; 0: none but its own.
        data_dir: None: the default one.
    """

    networks: Sequence[Mapping[str, Any]]
    precisions: Sequence[str] = DEFAULT_PRECISIONS
    seconds: float = 3.0
    repeats: int = 5
    reference: bool = False
    loader_processes: int = 0
    data_dir: str | None = None


@dataclass(frozen=True)
class MachineInfo:
    """The machine, by the facts of `mnist doctor --json`, and the images that it is measured on."""

    versions: Mapping[str, Any]
    processor: Mapping[str, Any]
    accelerators: Sequence[Mapping[str, Any]]
    device: Mapping[str, str]
    images: str


@dataclass(frozen=True)
class BenchCase:
    """One network in one precision, to be measured; `settings` are a training's, as JSON types."""

    settings: Mapping[str, Any]
    num_params: int
    precision: Mapping[str, str]

    @property
    def label(self) -> str:
        """The network and the precision: "cnn-26k in float32"."""
        return f"{self.settings['recipe']} in {self.precision['value']}"


@dataclass(frozen=True)
class Samples:
    """A quantity that was measured several times."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.samples)


@dataclass(frozen=True)
class ReferenceMeasurement:
    """The training speed of the reference loop in one precision, in images per second.

    `ratio` is the engine's speed divided by the loop's, which took turns.
    """

    precision: str
    training: Samples
    ratio: Samples


@dataclass(frozen=True)
class Measurement:
    """The figures of one case.

    Attributes:
        training: Images per second.
        inference: Images per second.
        latency_seconds: The inference of a single image.
        num_trained: The images of a sample of `training`.
        num_evaluated: The images of a sample of `inference`.
        peak_bytes: The most memory that tensors took on a CUDA device, or the whole process
            on a CPU; None where it is unknown.
        reference: The reference loop, in the same precision and in float32.
    """

    training: Samples
    inference: Samples
    latency_seconds: Samples
    num_trained: int
    num_evaluated: int
    peak_bytes: int | None
    reference: tuple[ReferenceMeasurement, ...] = ()

    @property
    def epoch_seconds(self) -> float:
        """An epoch of `mnist train` on MNIST, without its validation."""
        return EPOCH_IMAGES / self.training.median
