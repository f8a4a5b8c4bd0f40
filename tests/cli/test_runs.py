"""`mnist runs`: a table, names for scripts, JSON, and what is wrong with a run."""

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
def made(trained: Path, tmp_path: Path) -> Path:
    """Three runs: `first`, `series/seed-1`, and `second`, which ended after two epochs of three."""
    out = tmp_path / "runs"
    for name in ("first", "second"):
        shutil.copytree(trained, out / name)
    copy_as_multirun(trained, out / "series", seeds=range(1, 3), num_copies=1)
    rows = (out / "second" / "metrics.csv").read_text().splitlines(keepends=True)
    (out / "second" / "metrics.csv").write_text("".join(rows[:3]))
    return out


def test_the_table_tells_each_run(mnist: Mnist, made: Path) -> None:
    mnist("eval", "first")
    result = mnist("runs", "--sort", "name")
    assert result.exit_code == 0, result.stderr
    assert not result.stderr
    first, second, series = result.stdout.splitlines()[3:]
    score = json.loads((made / "first" / "eval-digits-test.json").read_text())
    assert re.search(r"^first +cnn-26k +digits +26,698 +3/3 ", first)
    assert f" {100 * score['accuracy']:.2f} " in first
    assert "finished" in first
    assert re.search(r"^second .* 2/3 .* - .* s  20\d\d-.* unfinished", second)
    assert series.startswith("series/seed-1 ")


def test_json_is_complete(mnist: Mnist, made: Path) -> None:
    mnist("eval", "second")
    record = json.loads(mnist("runs", "--sort", "name", "--json").stdout)
    assert (record["out"], record["damaged"]) == ("runs", [])
    first, second, _ = record["runs"]
    assert (first["state"], second["state"]) == ("finished", "unfinished")
    assert (second["num_epochs_done"], second["num_epochs"]) == (2, 3)
    assert (first["arch"], first["dataset"], first["num_params"]) == ("cnn", "digits", 26_698)
    assert first["best"]["val_accuracy"] >= first["last"]["val_accuracy"]
    assert first["test"] is None
    judged = json.loads(mnist("eval", "second", "--json").stdout)
    assert "accuracy" in second["test"]
    assert second["test"].items() <= judged.items()
    assert first["started"] <= first["written"]
    assert first["settings"] == json.loads((made / "first" / "settings.json").read_text())


@pytest.mark.usefixtures("made")
def test_quiet_prints_names_only(mnist: Mnist) -> None:
    result = mnist("runs", "-q", "--sort", "name")
    assert (result.stdout, result.stderr) == ("first\nsecond\nseries/seed-1\n", "")


def test_the_name_of_the_best_is_what_eval_takes(mnist: Mnist, made: Path) -> None:
    rows = (made / "second" / "metrics.csv").read_text().splitlines()
    better = rows[1].split(",")
    better[5] = "1.0"
    (made / "second" / "metrics.csv").write_text("\n".join([rows[0], ",".join(better)]))
    name = mnist("runs", "--best", "-q").stdout
    assert name == "second\n"
    assert mnist("eval", name.strip()).exit_code == 0
    assert [each["name"] for each in json.loads(mnist("runs", "--best", "--json").stdout)["runs"]]


def test_the_best_of_several_data_sets_is_nobody(mnist: Mnist, made: Path) -> None:
    settings = made / "first" / "settings.json"
    settings.write_text(settings.read_text().replace('"digits"', '"kmnist"'))
    result = mnist("runs", "--best", "-q")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "several data sets: digits, kmnist" in result.stderr
    assert "Say which: --dataset digits" in result.stderr
    assert mnist("runs", "--best", "-q", "--dataset", "kmnist").stdout == "first\n"
    (made / "first" / "metrics.csv").unlink()  # with no epoch, it is compared with none
    assert mnist("runs", "--best", "-q").exit_code == 0


def test_the_orders_that_are_offered_are_those_there_are() -> None:
    assert tuple(SORT_KEYS) == ORDERS


def test_a_damaged_run_does_not_hide_the_others(mnist: Mnist, made: Path) -> None:
    (made / "first" / "settings.json").write_text("nonsense")
    result = mnist("runs", "-q", "--sort", "name")
    assert (result.exit_code, result.stdout) == (0, "second\nseries/seed-1\n")
    assert "runs/first/settings.json is damaged." in result.stderr
    record = json.loads(mnist("runs", "--json").stdout)
    assert [each["what"] for each in record["damaged"]] == ["runs/first/settings.json is damaged."]


def test_where_no_run_is_sound_the_damage_is_told_first(mnist: Mnist, trained: Path) -> None:
    (trained / "metrics.csv").write_text("nonsense")
    result = mnist("runs", "--best", "--out", trained.parent)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "metrics.csv is damaged" in result.stderr.splitlines()[0]
    assert "is the best" in result.stderr


@pytest.mark.usefixtures("made")
def test_what_no_run_fits_is_an_empty_list(mnist: Mnist) -> None:
    result = mnist("runs", "--max-params", "100")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "None of the 3 runs in runs fits.\n"
    assert json.loads(mnist("runs", "--arch", "mlp", "--json").stdout)["runs"] == []


def test_no_runs_say_what_to_type(mnist: Mnist) -> None:
    result = mnist("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "There is no run in runs. Train one: mnist train\n"


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.usefixtures("made")
def test_the_table_fits_the_terminal_and_breaks_no_name(
    terminal: Terminal, made: Path, columns: int
) -> None:
    (made / "first").rename(made / "cnn-26k-20261121-015350-2")
    lines = ESCAPE.sub("", terminal("runs", columns=columns)).splitlines()
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("cnn-26k-20261121-015350-2 ") for line in lines)
    assert any("unfinished" in line for line in lines)
    assert ("recipe" in " ".join(lines)) is (columns == 120)


def test_listing_loads_no_torch(made: Path) -> None:
    code = (
        "import sys\n"
        "from mnistcli.cli import main\n"
        "try:\n"
        "    main(['runs'])\n"
        "except SystemExit as left:\n"
        "    sys.exit(left.code or int('torch' in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--sort", "size"], 2, "There is no order called 'size'"),
        (["--arch", "cnm"], 2, "Did you mean cnn?"),
        (["--recipe", "sprnt"], 2, "Did you mean sprint?"),
        (["--dataset", "mnits"], 2, "Did you mean mnist?"),
        (["--best"], 3, "No run in runs is the best"),
        (["--max-params", "0"], 2, "--max-params"),
    ],
)
def test_what_cannot_be_listed_ends_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("runs", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert not result.stdout
