"""`mnist summary`: numbers of parameters and costs, without data or weights."""

import json
from pathlib import Path

import pytest

from mnistcli.config.recipes import RECIPES
from mnistcli.models.registry import ARCHITECTURES
from tests.helpers.cli import Mnist, Terminal


def test_all_architectures_and_recipes_are_listed(mnist: Mnist) -> None:
    result = mnist("summary")
    assert result.exit_code == 0
    for name in (*ARCHITECTURES, *RECIPES):
        assert f"\n{name} " in f"\n{result.stdout}"
    record = json.loads(mnist("summary", "--json").stdout)
    counts = {each["recipe"]: each["num_params"] for each in record["recipes"]}
    assert list(counts) == list(RECIPES)
    assert (counts["cnn-26k"], counts["cnn-small"]) == (26_698, 7_882)
    assert mnist("summary", "-q").stdout.split() == list(RECIPES)


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
