"""Which runs there are, their progress, and which of their files are damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.cli.options import complete_run
from mnistcli.errors import DataError, SettingsError
from mnistcli.evaluation.run_table import (
    RunEntry,
    best_entry,
    filter_entries,
    read_run_entries,
    sort_entries,
)
from mnistcli.runs.directory import Run
from mnistcli.runs.find import all_runs, find_run
from mnistcli.runs.history import EpochResult, read_metrics
from mnistcli.system.lock import lock_directory
from tests.helpers.cli import Mnist
from tests.helpers.guard import Guard
from tests.helpers.runs import copy_as_multirun
from tests.helpers.settings import resolve


def entry(name: str, *accuracies: float | None, written: float = 0, **settings: object) -> RunEntry:
    epochs = [
        EpochResult(
            number, 0.1, 1.0, 0.5, None if accuracy is None else 1 - accuracy, accuracy, 2.0, 100.0
        )
        for number, accuracy in enumerate(accuracies, start=1)
    ]
    return RunEntry(
        name=name,
        run=Run(Path(name)),
        settings=resolve(recipe="cnn-26k", **settings),
        epochs=epochs,
        num_params=26_698,
        score=None,
        state="finished",
        started=None,
        written=written,
    )


def names(entries: list[RunEntry]) -> list[str]:
    return [entry.name for entry in entries]


def change_settings(run: Path, **changes: object) -> None:
    path = run / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_entry_has_what_the_files_record(trained: Path) -> None:
    (run_entry,), problems = read_run_entries(trained.parent)
    assert not problems
    assert (run_entry.name, run_entry.state, run_entry.num_params) == ("small", "finished", 26_698)
    assert (run_entry.settings.recipe, run_entry.settings.dataset) == ("cnn-26k", "digits")
    assert run_entry.epochs == read_metrics(Run(trained))
    assert run_entry.seconds == pytest.approx(sum(epoch.seconds for epoch in run_entry.epochs))
    assert run_entry.score is None
    assert run_entry.written >= (trained / "metrics.csv").stat().st_mtime_ns / 1e9


def test_the_runs_of_a_multirun_are_found_one_level_deeper(trained: Path) -> None:
    out = trained.parent
    copy_as_multirun(trained, out / "multi", seeds=range(2), num_copies=2)
    shutil.copytree(trained, out / "multi" / "deeper" / "seed-2")
    shutil.copytree(trained, out / "not a multi-run" / "seed-0")
    (out / "not a run").mkdir()
    entries, problems = read_run_entries(out)
    assert names(entries) == ["multi/seed-0", "multi/seed-1", "small"]
    assert not problems
    assert find_run("multi/seed-0", out).best.is_file()
    assert {entry.run for entry in entries} == set(all_runs(out))
    out.rename("runs")
    assert complete_run("") == ["last", "multi", "multi/seed-0", "multi/seed-1", "small"]


def test_a_missing_directory_has_no_runs(tmp_path: Path) -> None:
    assert read_run_entries(tmp_path / "nowhere") == ([], [])


def test_a_run_with_epochs_left_is_unfinished_or_training(trained: Path) -> None:
    change_settings(trained, epochs=4)
    assert read_run_entries(trained.parent)[0][0].state == "unfinished"
    with lock_directory(trained, wait=None):
        assert read_run_entries(trained.parent)[0][0].state == "training"
    (trained / "metrics.csv").unlink()
    (started,), problems = read_run_entries(trained.parent)
    assert (started.state, started.epochs, started.accuracy) == ("unfinished", [], None)
    assert (started.best, started.last) == (None, None)
    assert not problems


def test_reading_writes_nothing(trained: Path, guard: Guard) -> None:
    change_settings(trained, epochs=4)
    (trained / ".lock").unlink(missing_ok=True)
    before = sorted(trained.iterdir())
    read_run_entries(trained.parent)
    assert sorted(trained.iterdir()) == before
    with lock_directory(trained, wait=None):
        allowed, guard.allowed = guard.allowed, []
        assert read_run_entries(trained.parent)[0][0].state == "training"
        assert not guard.violations, "works in a directory that is read-only"
        guard.allowed = allowed


def test_a_run_that_reached_its_accuracy_is_finished(trained: Path) -> None:
    last = read_metrics(Run(trained))[-1].val_accuracy
    assert last
    for until, state in ((100 * last - 0.01, "finished"), (100 * last + 0.01, "unfinished")):
        change_settings(trained, epochs=9, until=until)
        assert read_run_entries(trained.parent)[0][0].state == state


@pytest.mark.parametrize("name", ["settings.json", "metrics.csv"])
def test_a_damaged_run_is_left_out_and_named(trained: Path, name: str) -> None:
    shutil.copytree(trained, trained.parent / "intact")
    (trained / name).write_text("{")
    entries, (problem,) = read_run_entries(trained.parent)
    assert names(entries) == ["intact"]
    assert str(trained / name) in problem.what


def test_other_damaged_files_leave_their_columns_empty(mnist: Mnist, trained: Path) -> None:
    assert mnist("eval", trained).exit_code == 0
    (run_entry,), problems = read_run_entries(trained.parent)
    assert run_entry.score
    assert not problems
    for name in ("environment.json", "eval-digits-test.json"):
        (trained / name).write_text("{")
    (run_entry,), problems = read_run_entries(trained.parent)
    assert run_entry.accuracy
    assert (run_entry.num_params, run_entry.score) == (None, None)
    assert [problem.what.split()[0] for problem in problems] == [
        str(trained / name) for name in ("environment.json", "eval-digits-test.json")
    ]


def test_a_run_of_an_older_version_has_no_number_of_parameters(trained: Path) -> None:
    (trained / "environment.json").unlink()
    (run_entry,), problems = read_run_entries(trained.parent)
    assert (run_entry.num_params, run_entry.started, problems) == (None, None, [])


THREE = [
    entry("seed-10", 0.97, 0.98, written=1),
    entry("seed-2", 0.99, 0.95, 0.96, written=3),
    replace(entry("seed-1", written=2, dataset="digits"), num_params=None),
]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("date", ["seed-2", "seed-1", "seed-10"]),
        ("accuracy", ["seed-2", "seed-10", "seed-1"]),
        ("params", ["seed-2", "seed-10", "seed-1"]),
        ("time", ["seed-10", "seed-2", "seed-1"]),
        ("name", ["seed-1", "seed-2", "seed-10"]),
    ],
)
def test_runs_are_sorted(order: str, expected: list[str]) -> None:
    assert names(sort_entries(THREE, order)) == expected


def test_the_best_has_the_highest_accuracy_and_then_the_lowest_loss() -> None:
    better = entry("b", 0.99)
    better.epochs[0] = replace(better.epochs[0], val_loss=0.001)
    assert best_entry([*THREE, better], Path()) is better


def test_there_is_no_best_without_an_accuracy_or_between_data_sets() -> None:
    with pytest.raises(DataError, match="no best run in runs"):
        best_entry([THREE[2], entry("not validated", None)], Path("runs"))
    with pytest.raises(SettingsError) as caught:
        best_entry([THREE[0], entry("d", 0.5, dataset="digits")], Path("runs"))
    assert caught.value.fix == "Choose one: --dataset digits"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, ["seed-10", "seed-2", "seed-1"]),
        ({"dataset": "digits"}, ["seed-1"]),
        ({"recipe": "cnn-26k", "arch": "cnn"}, ["seed-10", "seed-2", "seed-1"]),
        ({"arch": "mlp"}, []),
        ({"max_params": 26_698}, ["seed-10", "seed-2"]),
        ({"max_params": 26_697}, []),
        ({"min_accuracy": 98}, ["seed-10", "seed-2"]),
        ({"min_accuracy": 98.01}, ["seed-2"]),
    ],
)
def test_runs_are_filtered(condition: dict[str, object], expected: list[str]) -> None:
    assert names(filter_entries(THREE, **condition)) == expected  # type: ignore[arg-type]
