"""The measurement of one network: real trainings, sizes of samples, figures."""

from collections.abc import Iterator
from typing import Any

import pytest

from mnistcli.diagnostics import bench_worker
from mnistcli.diagnostics.bench_worker import measure_case, prepare_cases, sample_size
from mnistcli.diagnostics.measurement import BenchOptions, Measurement
from mnistcli.runs.history import EpochResult
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState


def measure(recipe: str, precision: str, *, batch_size: int = 64, **more: Any) -> Measurement:
    network = {"recipe": recipe, "device": "cpu", "batch_size": str(batch_size)}
    options = BenchOptions(
        [network], [precision], **{"seconds": 0.01, "repeats": 2, "data_dir": "data", **more}
    )
    _, (case,) = prepare_cases(options)
    return measure_case(case, options)


@pytest.mark.usefixtures("measured_here")
def test_the_engine_is_measured_with_the_recipes_augmentation_and_ema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states: list[TrainState] = []
    speeds: list[float] = []

    def recording_fit(state: TrainState, *rest: Any) -> Iterator[EpochResult]:
        states.append(state)
        for epoch in fit(state, *rest):
            speeds.append(epoch.images_per_second)
            yield epoch

    monkeypatch.setattr(bench_worker, "fit", recording_fit)
    measurement = measure("cnn-small", "float32", batch_size=16)
    state = states[0]
    assert all(other is state for other in states)
    assert state.settings.augment
    assert state.ema
    assert measurement.training.samples == pytest.approx(speeds[-2:])
    assert measurement.num_trained % 16 == 0
    assert measurement.reference == ()


@pytest.mark.usefixtures("measured_here")
def test_the_reference_loop_is_measured_in_the_same_precision_and_in_float32() -> None:
    measurement = measure("mlp-50-50", "bfloat16", reference=True, repeats=3)
    for quantity in (measurement.training, measurement.inference):
        assert len(quantity.samples) == 3
        assert min(quantity.samples) > 0
    assert min(measurement.latency_seconds.samples) > 0
    # Python with PyTorch needs more than this everywhere; Windows does not report it.
    assert measurement.peak_bytes is None or measurement.peak_bytes > 50e6
    assert [loop.precision for loop in measurement.reference] == ["bfloat16", "float32"]
    for loop in measurement.reference:
        pairs = zip(measurement.training.samples, loop.training.samples, strict=True)
        assert loop.ratio.samples == pytest.approx([engine / other for engine, other in pairs])


@pytest.mark.parametrize(
    ("speed", "unit", "seconds", "size"),
    [
        (1000.0, 10, 1.0, 1000),
        (1000.0, 64, 1.0, 960),
        (1.0, 10, 1.0, 10),  # at least one unit, however long it takes
        (1e9, 128, 1.0, 53_888),
        (1e9, 54_000, 1.0, 54_000),
    ],
)
def test_a_sample_is_as_large_as_its_time_allows(
    speed: float, unit: int, seconds: float, size: int
) -> None:
    sizes: list[int] = []

    def run(num: int) -> float:
        sizes.append(num)
        return num / speed

    assert sample_size(run, unit, seconds) == size
    assert sizes[0] == unit  # to warm up
    assert all(0 < num <= 54_000 and num % unit == 0 for num in sizes)


def test_a_first_run_that_loads_libraries_is_not_counted() -> None:
    times = iter([60.0, 0.1, 0.4])
    assert sample_size(lambda _num: next(times), 100, 1.0) == 1000
