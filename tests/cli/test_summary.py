"""`mnist summary`: numbers of parameters and costs, without data or weights."""

import json
import re
from pathlib import Path

import pytest

from mnistcli.config.recipes import RECIPES
from mnistcli.models.registry import ARCHITECTURES
from tests.helpers.cli import Mnist, Terminal
from tests.helpers.paths import REPOSITORY


def test_all_architectures_and_recipes_are_listed(mnist: Mnist) -> None:
    result = mnist("summary")
    assert result.exit_code == 0
    for name in (*ARCHITECTURES, *RECIPES):
        assert f"\n{name} " in f"\n{result.stdout}"
    record = json.loads(mnist("summary", "--json").stdout)
    counts = {each["recipe"]: each["num_params"] for each in record["recipes"]}
    assert list(counts) == list(RECIPES)
    for each in record["recipes"]:
        recipe = RECIPES[each["recipe"]]
        assert each["seconds"] == recipe.seconds
        accuracy = recipe.test_percent and pytest.approx(recipe.test_percent / 100)
        assert each["test_accuracy"] == accuracy
    assert (counts["cnn-26k"], counts["cnn-small"]) == (26_698, 7_882)
    assert mnist("summary", "-q").stdout.split() == list(RECIPES)


def test_recipes_are_listed_with_accuracy_and_time_in_80_columns(terminal: Terminal) -> None:
    shown = terminal("summary")
    _, line = re.findall(r"^cnn-deep +eight .*$", shown, re.MULTILINE)
    assert line.split()[-6:] == ["295,002", "52.5", "M", "99.64", "11", "min"]
    (small,) = re.findall(r"^mlp-50-50 .*$", shown, re.MULTILINE)
    assert small.split()[-6:] == ["42,310", "42", "k", "97.26", "4", "s"]
    assert "…" not in shown


def test_accuracies_and_times_of_recipes_are_those_of_the_results_page() -> None:
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    row = r"^\| `{}` \|.*?\| (\d\d\.\d\d) ± .* \| ([\d.]+) x (\d+)(?: \(two cores\))? \|$"
    timed = r"^\| `{}` \|.*? ([\d.]+) s .*?\| (\d\d\.\d\d) ± [\d.]+ % \| \d+ \| \d"
    for name, recipe in RECIPES.items():
        if found := re.search(row.format(re.escape(name)), page, re.MULTILINE):
            percent, seconds = float(found[1]), float(found[2]) * int(found[3])
        elif found := re.search(timed.format(re.escape(name)), page, re.MULTILINE):
            percent, seconds = float(found[2]), float(found[1])
        else:
            assert recipe.test_percent is None
            continue
        assert recipe.test_percent == percent
        assert recipe.seconds == pytest.approx(seconds)


def test_a_layer_that_is_used_again_names_its_row(mnist: Mnist) -> None:
    result = mnist("summary", "--arch", "cnn-small")
    lines = [line.split() for line in result.stdout.splitlines() if "pointwise" in line]
    first, *others = lines
    assert "as" not in first
    assert all(line[4:7] == ["as", "row", first[0]] for line in others)
    assert "counted once" in result.stdout
    assert "as row" not in mnist("summary", "--arch", "cnn").stdout


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_an_architecture_is_shown_layer_by_layer(mnist: Mnist, arch: str) -> None:
    record = json.loads(mnist("summary", "--arch", arch, "--json").stdout)
    assert record["model"]["arch"] == arch
    assert record["num_params"] == sum(layer["num_params"] for layer in record["layers"])
    assert record["num_bytes"] == 4 * record["num_params"] == 4 * record["num_int8_bytes"]
    assert record["layers"][-1]["receptive_field_px"] >= record["input_px"]
    assert record["layers"][-1]["output_shape"] == [10]
    assert f"{record['num_params']:,} parameters" in mnist("summary", "--arch", arch).stdout
    assert mnist("summary", "--arch", arch, "-q").stdout == f"{record['num_params']}\n"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_terminal_of_80_columns_shows_every_column_in_full(terminal: Terminal, arch: str) -> None:
    shown = terminal(f"summary --arch {arch}")
    assert "stride" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("arguments", "num_params"),
    [
        (["--arch", "ann", "--hidden", "12288", "6144", "6144", "3072"], 182_538_250),
        (["--arch", "cnn-small", "--max-params", "2000"], 1_960),
    ],
)
def test_settings_and_a_budget_decide_the_network(
    mnist: Mnist, arguments: list[str], num_params: int
) -> None:
    assert mnist("summary", *arguments, "-q").stdout == f"{num_params}\n"


def test_a_checkpoint_is_named_positionally_or_by_option(mnist: Mnist, trained: Path) -> None:
    out = ("--out", trained.parent)
    results = [
        mnist("summary", *words)
        for words in ((trained,), ("-c", trained), ("small", *out), ("--checkpoint", "last", *out))
    ]
    for result in results:
        assert result.exit_code == 0
        assert "best.pth: cnn (recipe cnn-26k)" in result.stdout
        assert "26,698 parameters" in result.stdout
    assert mnist("summary", trained, "-q").stdout == "26698\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--arch", "resnet"], 2, "'resnet'"),
        (["--arch", "cnn", "--kernel-size", "28", "--padding", "0"], 2, "shrink"),
        (["--arch", "mlp", "--max-params", "10"], 5, "105,214"),
        (["none.pth"], 3, "none.pth"),
        (["-c", "none.pth", "--arch", "mlp"], 2, "--arch"),
        (["a.pth", "-c", "b.pth"], 2, "a.pth and b.pth"),
    ],
)
def test_impossible_networks_end_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("summary", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert not result.stdout
