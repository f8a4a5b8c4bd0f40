"""What is measured: which networks, in which formats, how much of it, and what is made of it."""

import math
from typing import Any

import pytest
import torch

from mnistcli.diagnostics.bench import (
    BenchCase,
    BenchOptions,
    Measurement,
    Samples,
    measure_cases,
    prepare_cases,
    select_networks,
)
from mnistcli.diagnostics.bench_worker import sample_size
from mnistcli.errors import DeviceError, GateError, MnistError, RunError, SettingsError
from mnistcli.models.registry import ARCHITECTURES
from mnistcli.training import engine
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState

pytestmark = pytest.mark.usefixtures("measured_here")

FOUND: dict[str, Any] = {
    "training": [100.0, 300.0, 200.0],
    "inference": [1000.0],
    "latency_seconds": [0.001],
    "num_trained": 256,
    "num_evaluated": 1000,
    "peak_bytes": None,
    "usual": [{"precision": "float32", "training": [50.0], "ratio": [2.0]}],
}


def wanted(*recipes: str, **more: Any) -> BenchOptions:
    flags = {"device": "cpu", **more.pop("flags", {})}
    chosen = select_networks([], recipes, flags)
    short: dict[str, Any] = {"seconds": 0.01, "repeats": 2, "data_dir": "data", **more}
    return BenchOptions(chosen, **short)


def quietly(_bench: BenchCase, _number: int, _of: int) -> None:
    pass


def measured(want: BenchOptions) -> list[Measurement]:
    _, benches = prepare_cases(want)
    outcomes = [row.outcome for row in measure_cases(want, benches, on_start=quietly)]
    assert all(isinstance(outcome, Measurement) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Measurement)]


def test_by_default_every_architecture_is_picked() -> None:
    assert select_networks([], [], {"ema": "0"}) == [
        {"arch": name, "ema": "0"} for name in ARCHITECTURES
    ]
    assert select_networks(["mlp"], ["cnn-15k"], {}) == [{"arch": "mlp"}, {"recipe": "cnn-15k"}]


def test_a_network_is_measured_in_float32_and_in_what_auto_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    _, benches = prepare_cases(wanted("mlp-50-50", "cnn-26k"))
    # A perceptron gains nothing from bfloat16, so auto takes float32, which is there already.
    labels = ["mlp-50-50 in float32", "cnn-26k in float32", "cnn-26k in bfloat16"]
    assert [each.label for each in benches] == labels
    assert [each.num_params for each in benches] == [42_310, 26_698, 26_698]
    assert benches[2].precision["reason"] == "this CPU has AMX"


def test_the_machine_is_told_with_its_versions_and_pictures() -> None:
    machine, _ = prepare_cases(wanted("mlp-50-50"))
    assert machine.versions["torch"] == torch.__version__
    assert machine.processor["num_threads"] == torch.get_num_threads()
    assert machine.device == {"value": "cpu", "reason": "asked for"}
    assert machine.accelerators == []
    instead = "digits, repeated up to 54,000 images instead of mnist, which is not in data"
    assert machine.pictures == instead


@pytest.mark.parametrize(
    ("want", "error"),
    [
        (wanted("cnn-27k"), SettingsError),
        (wanted("mlp-50-50", flags={"channels": "3"}), SettingsError),
        (wanted("mlp-50-50", precisions=["float64"]), SettingsError),
        (wanted("cnn-15k", flags={"max_params": "9"}), GateError),
        (wanted("cnn-15k", precisions=["float16"]), DeviceError),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    want: BenchOptions, error: type[MnistError]
) -> None:
    with pytest.raises(error):
        prepare_cases(want)


def test_the_real_engine_is_measured_with_the_recipes_augmentation_and_average(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states: list[TrainState] = []
    speeds: list[float] = []
    original_fit = fit

    def spied(state: TrainState, *rest: Any) -> Any:
        states.append(state)
        for epoch in original_fit(state, *rest):
            speeds.append(epoch.images_per_second)
            yield epoch

    monkeypatch.setattr(engine, "fit", spied)
    want = wanted("cnn-small", precisions=["float32"], flags={"batch_size": "16"})
    (found,) = measured(want)
    state = states[0]
    assert all(each is state for each in states)
    assert state.settings.augment
    assert state.ema
    assert found.training.samples == pytest.approx(speeds[-2:])
    assert found.num_trained % 16 == 0
    assert state.num_epochs_done == len(speeds)


def test_figures_are_positive_and_as_many_as_asked_for() -> None:
    want = wanted("mlp-50-50", precisions=["bfloat16"], reference=True, repeats=3)
    (found,) = measured(want)
    for samples in (found.training, found.inference):
        assert len(samples.samples) == 3
        assert 0 < samples.low <= samples.median <= samples.high
    assert found.latency_seconds.low > 0
    # Python with PyTorch takes more than this anywhere.
    assert found.peak_bytes is None or found.peak_bytes > 50e6
    assert [each.precision for each in found.usual] == ["bfloat16", "float32"]
    for usual in found.usual:
        pairs = zip(found.training.samples, usual.training.samples, strict=True)
        assert usual.ratio.samples == pytest.approx([ours / theirs for ours, theirs in pairs])


def test_the_usual_loop_is_met_once_where_both_compute_in_float32() -> None:
    (found,) = measured(wanted("mlp-50-50", precisions=["float32"], reference=True))
    assert [each.precision for each in found.usual] == ["float32"]


def test_what_fails_is_a_row_and_ends_nothing_else() -> None:
    answers = iter([RunError("It was killed.", fix="Look"), FOUND])
    begun: list[tuple[str, int, int]] = []

    def call(function: str, task: Any) -> Any:
        assert function == "mnistcli.measuring:measure"
        answer = next(answers)
        if isinstance(answer, RunError):
            raise answer
        return answer

    benches = [BenchCase({"recipe": name}, 1, {"value": "float32"}) for name in ("a", "b")]
    rows = list(
        measure_cases(
            wanted("mlp-50-50"),
            benches,
            on_start=lambda each, number, of: begun.append((each.label, number, of)),
            call=call,
        )
    )
    assert begun == [("a in float32", 1, 2), ("b in float32", 2, 2)]
    assert isinstance(rows[0].outcome, RunError)
    assert isinstance(rows[1].outcome, Measurement)
    assert rows[1].outcome.epoch_seconds == 54_000 / 200
    assert rows[1].outcome.usual[0].ratio.median == 2.0


def test_samples() -> None:
    record = {"median": 2.0, "min": 1.0, "max": 5.0, "samples": [5.0, 1.0, 2.0]}
    assert Samples((5.0, 1.0, 2.0)).record() == record


@pytest.mark.parametrize(
    ("speed", "unit", "seconds", "size"),
    [
        (1000.0, 10, 1.0, 1000),
        (1000.0, 64, 1.0, 960),
        (1.0, 10, 1.0, 10),  # at least one unit, however long it takes
        (1e9, 100, 1.0, 54_000),
        (1e9, 128, 1.0, 53_888),
        (1e9, 54_000, 1.0, 54_000),
    ],
)
def test_a_sample_is_as_large_as_its_time_allows(
    speed: float, unit: int, seconds: float, size: int
) -> None:
    tried: list[int] = []

    def run(num: int) -> float:
        tried.append(num)
        return num / speed

    assert sample_size(run, unit, seconds) == size
    assert tried[0] == unit  # to warm up
    assert all(0 < num <= 54_000 and num % unit == 0 for num in tried)


def test_a_first_run_that_waits_for_libraries_does_not_count() -> None:
    times = iter([60.0, 0.1, 0.4, 1.6])
    assert sample_size(lambda _num: next(times), 100, 1.0) == 1000
    assert math.isclose(next(times), 1.6)
