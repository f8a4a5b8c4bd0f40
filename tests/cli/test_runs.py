"""`mnist runs`: a table, names for scripts, JSON, and damaged runs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnistcli.cli.runs import ORDERS
from mnistcli.evaluation.run_table import SORT_KEYS
from tests.helpers.cli import Mnist, Terminal
from tests.helpers.runs import copy_as_multirun

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """Three runs: `first`, `multi/seed-1`, and `second` with two epochs of three."""
    out = tmp_path / "runs"
    for name in ("first", "second"):
        shutil.copytree(trained, out / name)
    copy_as_multirun(trained, out / "multi", seeds=range(1, 3), num_copies=1)
    rows = (out / "second" / "metrics.csv").read_text().splitlines(keepends=True)
    (out / "second" / "metrics.csv").write_text("".join(rows[:3]))
    return out


def test_the_table_has_a_row_for_each_run(mnist: Mnist, runs: Path) -> None:
    mnist("eval", "first")
    result = mnist("runs", "--sort", "name")
    assert (result.exit_code, result.stderr) == (0, "")
    first, multi, second = result.stdout.splitlines()[3:]
    score = json.loads((runs / "first" / "eval-digits-test.json").read_text())
    assert re.search(r"^first +cnn-26k +digits +26,698 +3/3 ", first)
    assert f" {100 * score['accuracy']:.2f} " in first
    assert first.rstrip().endswith("finished")
    assert multi.startswith("multi/seed-1 ")
    assert re.search(r"^second .* 2/3 .* - .* s  20\d\d-.* unfinished", second)


def test_json_has_everything(mnist: Mnist, runs: Path) -> None:
    mnist("eval", "second")
    record = json.loads(mnist("runs", "--sort", "name", "--json").stdout)
    assert (record["out"], record["damaged"]) == ("runs", [])
    first, _, second = record["runs"]
    assert (first["state"], second["state"]) == ("finished", "unfinished")
    assert (second["num_epochs_done"], second["num_epochs"]) == (2, 3)
    assert (first["arch"], first["dataset"], first["num_params"]) == ("cnn", "digits", 26_698)
    assert first["best"]["val_accuracy"] >= first["last"]["val_accuracy"]
    assert first["test"] is None
    evaluation = json.loads(mnist("eval", "second", "--json").stdout)
    assert "accuracy" in second["test"]
    assert second["test"].items() <= evaluation.items()
    assert first["started"] <= first["written"]
    assert first["settings"] == json.loads((runs / "first" / "settings.json").read_text())


@pytest.mark.usefixtures("runs")
def test_quiet_prints_names_only(mnist: Mnist) -> None:
    result = mnist("runs", "-q", "--sort", "name")
    assert (result.stdout, result.stderr) == ("first\nmulti/seed-1\nsecond\n", "")


def test_the_name_of_the_best_is_what_eval_takes(mnist: Mnist, runs: Path) -> None:
    rows = (runs / "second" / "metrics.csv").read_text().splitlines()
    better = rows[1].split(",")
    better[5] = "1.0"
    (runs / "second" / "metrics.csv").write_text("\n".join([rows[0], ",".join(better)]))
    name = mnist("runs", "--best", "-q").stdout
    assert name == "second\n"
    assert mnist("eval", name.strip()).exit_code == 0


def test_runs_on_different_data_sets_have_no_best(mnist: Mnist, runs: Path) -> None:
    settings = runs / "first" / "settings.json"
    settings.write_text(settings.read_text().replace('"digits"', '"kmnist"'))
    result = mnist("runs", "--best", "-q")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--dataset digits" in result.stderr
    assert mnist("runs", "--best", "-q", "--dataset", "kmnist").stdout == "first\n"
    (runs / "first" / "metrics.csv").unlink()  # without an epoch it is compared with none
    assert mnist("runs", "--best", "-q").exit_code == 0


def test_the_orders_in_the_help_are_those_that_exist() -> None:
    assert tuple(SORT_KEYS) == ORDERS


def test_a_damaged_run_does_not_hide_the_others(mnist: Mnist, runs: Path) -> None:
    (runs / "first" / "settings.json").write_text("nonsense")
    result = mnist("runs", "-q", "--sort", "name")
    assert (result.exit_code, result.stdout) == (0, "multi/seed-1\nsecond\n")
    assert "runs/first/settings.json" in result.stderr
    record = json.loads(mnist("runs", "--json").stdout)
    assert ["first/settings.json" in each["what"] for each in record["damaged"]] == [True]


def test_damage_is_reported_before_that_there_is_no_best(mnist: Mnist, trained: Path) -> None:
    (trained / "metrics.csv").write_text("nonsense")
    result = mnist("runs", "--best", "--out", trained.parent)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "metrics.csv" in result.stderr.splitlines()[0]


@pytest.mark.usefixtures("runs")
def test_filters_may_leave_nothing(mnist: Mnist) -> None:
    result = mnist("runs", "--max-params", "100")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "None of the 3 runs" in result.stderr
    assert json.loads(mnist("runs", "--arch", "mlp", "--json").stdout)["runs"] == []


def test_without_runs_the_next_command_is_named(mnist: Mnist) -> None:
    result = mnist("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "mnist train" in result.stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal_and_wraps_no_name(
    terminal: Terminal, runs: Path, columns: int
) -> None:
    (runs / "first").rename(runs / "cnn-26k-20261121-015350-2")
    lines = ESCAPE.sub("", terminal("runs", columns=columns)).splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("cnn-26k-20261121-015350-2 ") for line in lines)
    assert any("unfinished" in line for line in lines)
    assert ("recipe" in " ".join(lines)) is (columns == 120)


@pytest.mark.usefixtures("runs")
def test_listing_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from mnistcli.cli.app import main\n"
        "try:\n"
        "    main(['runs'])\n"
        "except SystemExit as left:\n"
        "    sys.exit(left.code or int('torch' in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("runs")
def test_one_run_shows_what_differs_from_its_recipe_and_its_epochs(mnist: Mnist) -> None:
    mnist("eval", "first")
    result = mnist("runs", "first")
    assert (result.exit_code, result.stderr) == (0, "")
    fields = dict(re.findall(r"^([a-z]+) +(.+)$", result.stdout, re.MULTILINE))
    assert fields["recipe"] == "cnn-26k with dataset digits, epochs 3"
    assert fields["state"] == "finished, 3 of 3 epochs"
    assert re.fullmatch(r"[\d.]+ %, \d+ errors in 360 images of digits", fields["test"])
    rows = re.findall(r"^ +(\d)/3 .* ([\d.]+) %[* ] .* s$", result.stdout, re.MULTILINE)
    epochs = json.loads(mnist("runs", "first", "--json").stdout)["epochs"]
    assert rows == [(str(e["epoch"]), f"{100 * e['val_accuracy']:.2f}") for e in epochs]


def test_the_seed_and_the_fold_of_a_run_are_shown(mnist: Mnist, runs: Path) -> None:
    settings = json.loads((runs / "first" / "settings.json").read_text())
    settings |= {"val_size": 0, "fold": {"number": 2, "of": 5}, "seed": 7}
    (runs / "first" / "settings.json").write_text(json.dumps(settings))
    record = json.loads(mnist("runs", "first", "--json").stdout)
    expected = {"dataset": "digits", "epochs": 3, "val_size": 0, "folds": 5, "fold": 2, "seed": 7}
    assert record["changes"] == expected


def test_the_table_of_a_run_is_that_of_its_training(mnist: Mnist) -> None:
    trained = mnist("train", "--recipe", "mlp-50-50", "--dataset", "digits", "--epochs", "2")
    pattern = r"^ +(?:epoch|\d/2) .*$"
    shown = re.findall(pattern, mnist("runs", "last").stdout, re.MULTILINE)
    assert len(shown) == 3
    assert shown == re.findall(pattern, trained.stdout, re.MULTILINE)


def test_one_run_as_csv_json_or_name(mnist: Mnist, runs: Path) -> None:
    assert mnist("runs", "first", "--csv").stdout == (runs / "first" / "metrics.csv").read_text()
    (listed,) = (
        run for run in json.loads(mnist("runs", "--json").stdout)["runs"] if run["name"] == "second"
    )
    record = json.loads(mnist("runs", "runs/second", "--json").stdout)
    assert listed.items() <= record.items()
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2]
    assert mnist("runs", "multi/seed-1", "-q").stdout == "multi/seed-1\n"


def test_a_run_without_an_epoch_and_a_damaged_score(mnist: Mnist, runs: Path) -> None:
    (runs / "first" / "metrics.csv").unlink()
    result = mnist("runs", "first")
    assert "unfinished, 0 of 3 epochs" in result.stdout
    assert (result.exit_code, "epoch  " in result.stdout) == (0, False)
    (runs / "second" / "eval-digits-test.json").write_text("nonsense")
    result = mnist("runs", "second")
    assert (result.exit_code, "2/3" in result.stdout) == (0, True)
    assert "eval-digits-test.json" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["nothing"], 3, "mnist train"),
        (["last", "--best"], 2, "--best"),
        (["last", "--arch", "cnn", "--max-params", "9"], 2, "--arch, --max-params"),
        (["last", "--csv", "--json"], 2, "--csv"),
        (["--csv"], 2, "mnist runs last --csv"),
        (["--sort", "size"], 2, "'size'"),
        (["--arch", "cnm"], 2, "Did you mean cnn?"),
        (["--recipe", "sprnt"], 2, "Did you mean sprint?"),
        (["--dataset", "mnits"], 2, "Did you mean mnist?"),
        (["--best"], 3, "mnist train"),
        (["--max-params", "0"], 2, "--max-params"),
    ],
)
def test_wrong_usage_ends_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("runs", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert not result.stdout
