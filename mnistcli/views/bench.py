"""Output of `mnist bench`: progress, the figures of every network, the reference loop's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from mnistcli.diagnostics.bench import BenchRow, OnBenchStart
from mnistcli.diagnostics.measurement import (
    BenchCase,
    BenchOptions,
    MachineInfo,
    Measurement,
    Samples,
)
from mnistcli.views.console import (
    number_column,
    plain_table,
    print_json,
    print_labeled,
    print_line,
    print_note,
    print_table,
    printable,
    stdout,
)
from mnistcli.views.status_line import status_line


@dataclass(frozen=True)
class SamplesRecord:
    """A quantity that was measured several times."""

    median: float
    min: float
    max: float
    samples: list[float]


@dataclass(frozen=True)
class ReferenceRecord:
    """The reference loop: images per second, and how many times as fast `mnist` is."""

    precision: str
    training: SamplesRecord
    ratio: SamplesRecord


@dataclass(frozen=True)
class CaseRecord:
    """A network in one precision; `settings` are a training's, as in `settings.json`."""

    recipe: str
    arch: str
    num_params: int
    batch_size: int
    precision: Mapping[str, str]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class FailedCaseRecord(CaseRecord):
    """A network that could not be measured, and why."""

    failure: str


@dataclass(frozen=True)
class MeasuredCaseRecord(CaseRecord):
    """The figures of a network.

    `training` and `inference` are in images per second, `reference` is the reference loop, and
    `peak_bytes` is null where it is unknown.
    """

    failure: None
    training: SamplesRecord
    epoch_seconds: float
    inference: SamplesRecord
    latency_seconds: SamplesRecord
    num_trained: int
    num_evaluated: int
    peak_bytes: int | None
    reference: list[ReferenceRecord]


@dataclass(frozen=True)
class BenchRecord:
    """The machine and all cases; `loader_processes` is null without the reference loop."""

    machine: MachineInfo
    seconds: float
    repeats: int
    loader_processes: int | None
    interrupted: bool
    results: list[MeasuredCaseRecord | FailedCaseRecord]


@contextmanager
def bench_progress(*, quiet: bool) -> Iterator[OnBenchStart]:
    """The current case: a line that changes on a terminal, a line for each elsewhere."""
    with status_line(quiet=quiet) as show:

        def on_start(case: BenchCase, number: int, num_cases: int) -> None:
            show(f"measuring {case.label} ({number} of {num_cases})")

        show("checking the machine")
        yield on_start


def show_bench(
    machine: MachineInfo,
    options: BenchOptions,
    rows: Sequence[BenchRow],
    *,
    num_cases: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """The rows that were measured, of `num_cases`."""
    interrupted = len(rows) < num_cases
    if as_json:
        print_json(
            BenchRecord(
                machine=machine,
                seconds=options.seconds,
                repeats=options.repeats,
                loader_processes=options.loader_processes if options.reference else None,
                interrupted=interrupted,
                results=[_row_record(row) for row in rows],
            )
        )
    elif quiet:
        for row in rows:
            speed = row.outcome.training.median if isinstance(row.outcome, Measurement) else 0
            print_line(f"{speed:.0f}")
    else:
        _print_report(machine, options, rows)
    if interrupted:
        print_note(f"Interrupted: {len(rows)} of {num_cases} measured.")


def _row_record(row: BenchRow) -> MeasuredCaseRecord | FailedCaseRecord:
    case, outcome = row.case, row.outcome
    record = CaseRecord(
        recipe=case.settings["recipe"],
        arch=case.settings["model"]["arch"],
        num_params=case.num_params,
        batch_size=case.settings["batch_size"],
        precision=case.precision,
        settings=case.settings,
    )
    if not isinstance(outcome, Measurement):
        return FailedCaseRecord(**vars(record), failure=outcome.what)
    return MeasuredCaseRecord(
        **vars(record),
        failure=None,
        training=_samples_record(outcome.training),
        epoch_seconds=outcome.epoch_seconds,
        inference=_samples_record(outcome.inference),
        latency_seconds=_samples_record(outcome.latency_seconds),
        num_trained=outcome.num_trained,
        num_evaluated=outcome.num_evaluated,
        peak_bytes=outcome.peak_bytes,
        reference=[
            ReferenceRecord(
                precision=loop.precision,
                training=_samples_record(loop.training),
                ratio=_samples_record(loop.ratio),
            )
            for loop in outcome.reference
        ],
    )


def _samples_record(quantity: Samples) -> SamplesRecord:
    return SamplesRecord(
        median=quantity.median,
        min=min(quantity.samples),
        max=max(quantity.samples),
        samples=list(quantity.samples),
    )


def _print_report(machine: MachineInfo, options: BenchOptions, rows: Sequence[BenchRow]) -> None:
    console = stdout()
    processor, versions = machine.processor, machine.versions
    devices = ", ".join(each["name"] for each in machine.accelerators) or processor["name"]
    lines = [
        ("device", f"{machine.device['value']} ({machine.device['reason']}): {devices}"),
        ("threads", f"{processor['num_threads']}, on {processor['num_cores']} cores"),
        ("versions", f"PyTorch {versions['torch']}, Python {versions['python']}"),
        ("images", machine.images),
    ]
    print_labeled(console, [(label, printable(value)) for label, value in lines])
    console.print()
    measured = [(row.case, row.outcome) for row in rows if isinstance(row.outcome, Measurement)]
    print_table(_table(measured))
    for row in rows:
        if not isinstance(row.outcome, Measurement):
            failure = f"{row.case.label} failed: {row.outcome.what} {row.outcome.fix}"
            console.print(Text(printable(failure), style="red"), soft_wrap=True)
    console.print(f"\nImages per second: median and range of {options.repeats} samples.")
    if any(_augments_or_averages(case) for case, _ in measured):
        console.print("+ with augmentation or EMA, which the reference loop never has.")
    if options.reference and measured:
        console.print()
        print_table(_reference_table(measured))
        console.print("\nSpeedup: median and range; mnist and the reference loop take turns.")


def _table(measured: Sequence[tuple[BenchCase, Measurement]]) -> Table:
    headers = ("training\nimages/s", "epoch\ns", "inference\nimages/s", "image\nms", "peak\nMB")
    names = (Column("network", no_wrap=True), number_column("para-\nmeters"))
    table = plain_table(*names, *map(number_column, headers))
    for case, figures in measured:
        table.add_row(
            _network_cell(case),
            f"{case.num_params:,}",
            _range_cell(figures.training),
            f"{figures.epoch_seconds:,.1f}",
            _range_cell(figures.inference),
            f"{1000 * figures.latency_seconds.median:,.2f}",
            f"{figures.peak_bytes / 1e6:,.0f}" if figures.peak_bytes else "-",
        )
    return table


def _reference_table(measured: Sequence[tuple[BenchCase, Measurement]]) -> Table:
    headers = ("batch\nsize", "mnist\nimages/s", "reference\nimages/s", "speedup")
    names = (Column("network", no_wrap=True), "reference\nloop in")
    table = plain_table(*names, *map(number_column, headers))
    for case, figures in measured:
        for loop in figures.reference:
            table.add_row(
                _network_cell(case),
                loop.precision,
                str(case.settings["batch_size"]),
                _range_cell(figures.training),
                _range_cell(loop.training),
                _range_cell(loop.ratio, ".2f"),
            )
    return table


def _network_cell(case: BenchCase) -> Text:
    """The network and, below it, the precision."""
    mark = "+" if _augments_or_averages(case) else ""
    return Text.assemble(f"{case.settings['recipe']}{mark}", "\n", (case.precision["value"], "dim"))


def _augments_or_averages(case: BenchCase) -> bool:
    return bool(case.settings["augment"] or case.settings["ema"])


def _range_cell(quantity: Samples, form: str = ",.0f") -> str:
    """The median and, below it, the range."""
    low, high = min(quantity.samples), max(quantity.samples)
    return f"{quantity.median:{form}}\n{low:{form}}-{high:{form}}"
