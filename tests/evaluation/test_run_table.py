"""Which runs there are, how far each has come, what is wrong with records."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.cli.options import complete_run
from mnistcli.config.resolve import resolve_settings
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


def epochs(*accuracies: float | None) -> list[EpochResult]:
    return [
        EpochResult(number, 0.1, 1.0, 0.5, None if each is None else 1 - each, each, 2.0, 100.0)
        for number, each in enumerate(accuracies, start=1)
    ]


def entry(name: str, *accuracies: float | None, written: float = 0, **changes: object) -> RunEntry:
    return RunEntry(
        name=name,
        run=Run(Path(name)),
        settings=resolve_settings({"recipe": "cnn-26k", **changes}, environ={}).settings,
        epochs=epochs(*accuracies),
        num_params=26_698,
        score=None,
        state="finished",
        started=None,
        written=written,
    )


def names(entries: list[RunEntry]) -> list[str]:
    return [each.name for each in entries]


def test_a_run_tells_what_its_records_hold(trained: Path) -> None:
    (found,), problems = read_run_entries(trained.parent)
    assert not problems
    assert (found.name, found.state, found.num_params) == ("small", "finished", 26_698)
    assert (found.settings.recipe, found.settings.dataset) == ("cnn-26k", "digits")
    assert found.epochs == read_metrics(Run(trained))
    assert found.seconds == pytest.approx(sum(each.seconds for each in found.epochs))
    assert found.score is None
    assert found.written >= (trained / "metrics.csv").stat().st_mtime_ns / 1e9


def test_the_runs_of_a_series_are_found_one_level_deeper(trained: Path) -> None:
    out = trained.parent
    copy_as_multirun(trained, out / "series", seeds=range(2), num_copies=2)
    shutil.copytree(trained, out / "series" / "deeper" / "seed-2")
    shutil.copytree(trained, out / "no series" / "seed-0")
    (out / "no run").mkdir()
    entries, problems = read_run_entries(out)
    assert names(entries) == ["series/seed-0", "series/seed-1", "small"]
    assert not problems
    assert find_run("series/seed-0", out).best.is_file()
    assert {each.run for each in entries} == set(all_runs(out))


def test_the_shell_completes_to_the_runs_that_there_are(trained: Path) -> None:
    copy_as_multirun(trained, Path("runs/series"), seeds=range(2), num_copies=2)
    shutil.copytree(trained, "runs/alone")
    shutil.copytree(trained, "runs/no series/seed-0")
    listed = names(read_run_entries(Path("runs"))[0])
    assert complete_run("") == ["last", *sorted(["series", *listed])]
    assert listed == ["alone", "series/seed-0", "series/seed-1"]


def test_no_directory_has_no_runs(tmp_path: Path) -> None:
    assert read_run_entries(tmp_path / "nowhere") == ([], [])


def test_a_run_of_fewer_epochs_than_it_is_to_have_is_unfinished_or_being_trained(
    trained: Path,
) -> None:
    settings = trained / "settings.json"
    settings.write_text(settings.read_text().replace('"epochs": 3', '"epochs": 4'))
    assert read_run_entries(trained.parent)[0][0].state == "unfinished"
    with lock_directory(trained, wait=None):
        assert read_run_entries(trained.parent)[0][0].state == "training"
    (trained / "metrics.csv").unlink()
    (begun,), problems = read_run_entries(trained.parent)
    assert (begun.state, begun.epochs, begun.best, begun.accuracy) == ("unfinished", [], None, None)
    assert not problems


def test_looking_writes_nothing(trained: Path, guard: Guard) -> None:
    settings = trained / "settings.json"
    settings.write_text(settings.read_text().replace('"epochs": 3', '"epochs": 4'))
    with lock_directory(trained, wait=None):
        allowed, guard.allowed = guard.allowed, []
        assert read_run_entries(trained.parent)[0][0].state == "training"
        assert not guard.violations, "a directory that is only read is listed too"
        guard.allowed = allowed


def test_looking_makes_no_lock(trained: Path) -> None:
    settings = trained / "settings.json"
    settings.write_text(settings.read_text().replace('"epochs": 3', '"epochs": 4'))
    (trained / ".lock").unlink(missing_ok=True)
    before = sorted(trained.iterdir())
    read_run_entries(trained.parent)
    assert sorted(trained.iterdir()) == before


def test_a_run_that_reached_what_was_asked_for_is_finished(trained: Path) -> None:
    record = json.loads((trained / "settings.json").read_text())
    last = read_metrics(Run(trained))[-1].val_accuracy
    assert last
    for until, state in ((100 * last - 0.01, "finished"), (100 * last + 0.01, "unfinished")):
        changed = json.dumps({**record, "epochs": 9, "until": until})
        (trained / "settings.json").write_text(changed)
        assert read_run_entries(trained.parent)[0][0].state == state


@pytest.mark.parametrize("name", ["settings.json", "metrics.csv"])
def test_a_damaged_run_is_left_out_and_named(trained: Path, name: str) -> None:
    shutil.copytree(trained, trained.parent / "sound")
    (trained / name).write_text("{")
    entries, (problem,) = read_run_entries(trained.parent)
    assert names(entries) == ["sound"]
    assert problem.what == f"{trained / name} is damaged."


@pytest.mark.parametrize("name", ["environment.json", "eval-digits-test.json"])
def test_a_run_is_there_without_what_a_damaged_record_would_tell(
    mnist: Mnist, trained: Path, name: str
) -> None:
    assert mnist("eval", trained).exit_code == 0
    (trained / name).write_text("{")
    (found,), (problem,) = read_run_entries(trained.parent)
    assert found.accuracy
    assert (found.score is None) == (name == "eval-digits-test.json")
    assert (found.num_params is None) == (name == "environment.json")
    assert name in problem.what


def test_of_two_damaged_records_both_are_named(trained: Path) -> None:
    for name in ("environment.json", "eval-digits-test.json"):
        (trained / name).write_text("{")
    _, problems = read_run_entries(trained.parent)
    assert len(problems) == 2


def test_a_run_of_an_older_version_has_no_number_of_parameters(trained: Path) -> None:
    (trained / "environment.json").unlink()
    (found,), problems = read_run_entries(trained.parent)
    assert (found.num_params, found.started, problems) == (None, None, [])


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
def test_the_orders(order: str, expected: list[str]) -> None:
    assert names(sort_entries(THREE, order)) == expected


def test_the_best_has_the_highest_accuracy_of_equals_the_lowest_loss() -> None:
    better = entry("b", 0.99)
    better.epochs[0] = replace(better.epochs[0], val_loss=0.001)
    found = best_entry([*THREE, better])
    assert found
    assert found.name == "b"
    assert best_entry([THREE[2], entry("unjudged", None)]) is None


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
def test_conditions(condition: dict[str, object], expected: list[str]) -> None:
    assert names(filter_entries(THREE, **condition)) == expected  # type: ignore[arg-type]
