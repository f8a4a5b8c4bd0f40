"""Which networks `mnist bench` measures, each in a process of its own. Loads no torch.

So one network's peak memory is not another's, and a crash ends no other measurement.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnistcli.diagnostics.isolated import call_isolated
from mnistcli.diagnostics.measurement import BenchCase, BenchOptions, MachineInfo, Measurement
from mnistcli.errors import MnistError
from mnistcli.models.registry import ARCHITECTURES

# Called with the case that is measured next, its number from 1, and the number of cases.
OnBenchStart = Callable[[BenchCase, int, int], None]


@dataclass(frozen=True)
class BenchRow:
    """A case with its figures, or with the error because of which it has none."""

    case: BenchCase
    outcome: Measurement | MnistError


def select_networks(
    archs: Sequence[str], recipes: Sequence[str], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The networks to measure, each with `settings`; by default, every architecture."""
    networks = [{"arch": name} for name in archs] + [{"recipe": name} for name in recipes]
    networks = networks or [{"arch": name} for name in ARCHITECTURES]
    return [{**settings, **network} for network in networks]


def prepare_cases(options: BenchOptions) -> tuple[MachineInfo, list[BenchCase]]:
    """The machine, and every network in every precision, without duplicates.

    Raises:
        SettingsError: a name, a setting or a combination is wrong.
        GateError: a network exceeds its parameter budget.
        DeviceError: the device or the precision does not work here.
    """
    return call_isolated(_prepare_cases_here, options)


def measure_cases(
    options: BenchOptions, cases: Sequence[BenchCase], *, on_start: OnBenchStart
) -> Iterator[BenchRow]:
    """Measure one case after another."""
    for number, case in enumerate(cases, start=1):
        on_start(case, number, len(cases))
        outcome: Measurement | MnistError
        try:
            outcome = call_isolated(_measure_case_here, case, options)
        except MnistError as error:
            outcome = error
        yield BenchRow(case, outcome)


def _prepare_cases_here(options: BenchOptions) -> tuple[MachineInfo, list[BenchCase]]:
    from mnistcli.diagnostics import bench_worker

    return bench_worker.prepare_cases(options)


def _measure_case_here(case: BenchCase, options: BenchOptions) -> Measurement:
    from mnistcli.diagnostics import bench_worker

    return bench_worker.measure_case(case, options)
