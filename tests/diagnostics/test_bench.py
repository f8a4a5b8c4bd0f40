"""Which networks are measured, in which precisions, and what becomes of a failure."""

from typing import Any

import pytest
import torch

from mnistcli.diagnostics import bench
from mnistcli.diagnostics.bench import BenchRow, measure_cases, prepare_cases, select_networks
from mnistcli.diagnostics.measurement import BenchCase, BenchOptions, Measurement, Samples
from mnistcli.errors import DeviceError, GateError, MnistError, RunError, SettingsError
from mnistcli.models.registry import ARCHITECTURES

pytestmark = pytest.mark.usefixtures("measured_here")


def options(*recipes: str, flags: dict[str, str] | None = None, **more: Any) -> BenchOptions:
    networks = select_networks([], recipes, {"device": "cpu", **(flags or {})})
    return BenchOptions(networks, data_dir="data", **more)


def test_by_default_every_architecture_is_measured() -> None:
    networks = [{"arch": name, "ema": "0"} for name in ARCHITECTURES]
    assert select_networks([], [], {"ema": "0"}) == networks
    assert select_networks(["mlp"], ["cnn-15k"], {}) == [{"arch": "mlp"}, {"recipe": "cnn-15k"}]


def test_a_network_is_measured_in_float32_and_in_the_precision_of_auto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    machine, cases = prepare_cases(options("mlp-50-50", "cnn-26k"))
    # For a perceptron auto picks float32, which is already in the list.
    labels = ["mlp-50-50 in float32", "cnn-26k in float32", "cnn-26k in bfloat16"]
    assert [case.label for case in cases] == labels
    assert [case.num_params for case in cases] == [42_310, 26_698, 26_698]
    assert "AMX" in cases[2].precision["reason"]
    assert machine.versions["torch"] == torch.__version__
    assert machine.processor["num_threads"] == torch.get_num_threads()
    assert machine.device == {"value": "cpu", "reason": "requested"}
    assert machine.accelerators == []
    assert "digits" in machine.images
    assert "mnist, which is not in data" in machine.images


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (options("cnn-27k"), SettingsError),
        (options("mlp-50-50", flags={"channels": "3"}), SettingsError),
        (options("mlp-50-50", precisions=["float64"]), SettingsError),
        (options("cnn-15k", flags={"max_params": "9"}), GateError),
        (options("cnn-15k", precisions=["float16"]), DeviceError),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(
    wrong: BenchOptions, error: type[MnistError]
) -> None:
    with pytest.raises(error):
        prepare_cases(wrong)


def test_a_failure_is_a_row_and_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Samples((100.0, 300.0, 200.0))
    measurement = Measurement(speed, speed, speed, 256, 1000, None)
    error = RunError("It was killed.")
    outcomes: list[Measurement | RunError] = [error, measurement]

    def call(*_call: object) -> Measurement:
        outcome = outcomes.pop(0)
        if isinstance(outcome, RunError):
            raise outcome
        return outcome

    monkeypatch.setattr(bench, "call_isolated", call)
    cases = [BenchCase({"recipe": name}, 1, {"value": "float32"}) for name in ("a", "b")]
    starts: list[tuple[str, int, int]] = []
    rows = measure_cases(
        options("mlp-50-50"),
        cases,
        on_start=lambda case, number, num_cases: starts.append((case.label, number, num_cases)),
    )
    assert list(rows) == [BenchRow(cases[0], error), BenchRow(cases[1], measurement)]
    assert starts == [("a in float32", 1, 2), ("b in float32", 2, 2)]
    assert measurement.epoch_seconds == 54_000 / 200
