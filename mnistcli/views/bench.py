"""What `bench` shows: what it is at, the figures of every network, the usual loop beside them."""

import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

from mnistcli.diagnostics.bench import Measurement
from mnistcli.views.console import (
    number_column,
    plain_table,
    print_json,
    print_line,
    print_note,
    printable,
    stderr,
    stdout,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnistcli.diagnostics.bench import (
        BenchCase,
        BenchOptions,
        BenchRow,
        MachineInfo,
        OnBenchStart,
        ReferenceResult,
        Samples,
    )


@contextmanager
def bench_progress(*, quiet: bool) -> "Iterator[OnBenchStart]":
    """What is being measured: a line that changes on a terminal, a line each elsewhere."""
    console = stderr()
    live = console.status("") if sys.stderr.isatty() and not console.is_dumb_terminal else None

    def show(line: str) -> None:
        if live and not quiet:
            live.update(Text(line))
            live.start()
        elif not quiet:
            console.print(Text(line), soft_wrap=True)

    def on_start(bench: "BenchCase", number: int, num_benches: int) -> None:
        show(f"measuring {printable(bench.label)} ({number} of {num_benches})")

    show("looking at the machine")
    try:
        yield on_start
    finally:
        if live:
            live.stop()


def show_bench(
    machine: "MachineInfo",
    wanted: "BenchOptions",
    rows: "Sequence[BenchRow]",
    *,
    num_benches: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """The rows that were measured, of as many as `num_benches`."""
    if as_json:
        print_json(
            {
                "machine": asdict(machine),
                "seconds": wanted.seconds,
                "repeats": wanted.repeats,
                "loader_processes": wanted.loader_processes if wanted.reference else None,
                "interrupted": len(rows) < num_benches,
                "benches": [_record(row) for row in rows],
            }
        )
    elif quiet:
        for row in rows:
            speed = row.outcome.training.median if isinstance(row.outcome, Measurement) else 0
            print_line(f"{speed:.0f}")
    else:
        _show(machine, wanted, rows)
    if len(rows) < num_benches:
        print_note(f"Interrupted: {len(rows)} of {num_benches} are measured.")


def _record(row: "BenchRow") -> dict[str, Any]:
    bench, outcome = row.bench, row.outcome
    record = {
        "recipe": bench.settings["recipe"],
        "arch": bench.settings["model"]["arch"],
        "num_params": bench.num_params,
        "batch_size": bench.settings["batch_size"],
        "precision": bench.precision,
        "settings": bench.settings,
    }
    if not isinstance(outcome, Measurement):
        return {**record, "failure": outcome.what}
    return {
        **record,
        "failure": None,
        "training": outcome.training.record(),
        "epoch_seconds": outcome.epoch_seconds,
        "inference": outcome.inference.record(),
        "latency_seconds": outcome.latency_seconds.record(),
        "num_trained": outcome.num_trained,
        "num_evaluated": outcome.num_evaluated,
        "peak_bytes": outcome.peak_bytes,
        "usual": [
            {
                "precision": each.precision,
                "training": each.training.record(),
                "ratio": each.ratio.record(),
            }
            for each in outcome.usual
        ],
    }


def _show(machine: "MachineInfo", wanted: "BenchOptions", rows: "Sequence[BenchRow]") -> None:
    console = stdout()
    facts = machine.processor
    devices = ", ".join(each["name"] for each in machine.accelerators) or facts["name"]
    versions = machine.versions
    for label, value in (
        ("device", f"{machine.device['value']} ({machine.device['reason']}): {devices}"),
        ("threads", f"{facts['num_threads']}, on {facts['num_cores']} cores"),
        ("versions", f"PyTorch {versions['torch']}, Python {versions['python']}"),
        ("pictures", machine.pictures),
    ):
        console.print(Text(f"{label:<10}{printable(value)}"), soft_wrap=True)
    console.print()
    measured = [(row.bench, row.outcome) for row in rows if isinstance(row.outcome, Measurement)]
    console.print(_table(measured))
    for row in rows:
        if not isinstance(row.outcome, Measurement):
            finding = f"{row.bench.label} failed: {row.outcome.what} {row.outcome.fix}"
            console.print(Text(printable(finding), style="red"), soft_wrap=True)
    console.print(f"\nImages per second: the median of {wanted.repeats}, and their range.")
    if any(_does_more(bench) for bench, _ in measured):
        console.print(
            "+ augments pictures or averages weights as well, which the usual loop never does."
        )
    if wanted.reference and measured:
        console.print()
        console.print(_reference_table(measured))
        console.print("\nTimes as fast: turn by turn, the median and the range.")


def _table(measured: "Sequence[tuple[BenchCase, Measurement]]") -> Table:
    headers = ("training\nimages/s", "epoch\ns", "inference\nimages/s", "image\nms", "peak\nMB")
    names = (Column("network", no_wrap=True), number_column("para-\nmeters"))
    table = plain_table(*names, *map(number_column, headers))
    for bench, found in measured:
        table.add_row(
            _name(bench),
            f"{bench.num_params:,}",
            _range(found.training),
            f"{found.epoch_seconds:,.1f}",
            _range(found.inference),
            f"{1000 * found.latency_seconds.median:,.2f}",
            f"{found.peak_bytes / 1e6:,.0f}" if found.peak_bytes else "-",
        )
    return table


def _reference_table(measured: "Sequence[tuple[BenchCase, Measurement]]") -> Table:
    headers = ("batch", "mnist\nimages/s", "usual loop\nimages/s", "times\nas fast")
    names = (Column("network", no_wrap=True), "usual loop\ncomputes in")
    table = plain_table(*names, *map(number_column, headers))
    for bench, found in measured:
        for each in found.usual:
            table.add_row(
                _name(bench),
                each.precision,
                str(bench.settings["batch_size"]),
                _range(found.training),
                _range(each.training),
                _ratio(each),
            )
    return table


def _name(bench: "BenchCase") -> Text:
    """The network and, under it, the number format."""
    more = "+" if _does_more(bench) else ""
    return Text.assemble(
        f"{bench.settings['recipe']}{more}", "\n", (bench.precision["value"], "dim")
    )


def _does_more(bench: "BenchCase") -> bool:
    return bool(bench.settings["augment"] or bench.settings["ema"])


def _range(speed: "Samples") -> str:
    """The median and, under it, the range."""
    return f"{speed.median:,.0f}\n{speed.low:,.0f}-{speed.high:,.0f}"


def _ratio(usual: "ReferenceResult") -> str:
    ratio = usual.ratio
    return f"{ratio.median:.2f}\n{ratio.low:.2f}-{ratio.high:.2f}"
