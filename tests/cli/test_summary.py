"""`mnist summary`: counts, costs, and needing nothing."""

import json
from pathlib import Path

import pytest

from mnistcli.config.recipes import RECIPES
from mnistcli.models.registry import ARCHITECTURES
from tests.helpers.cli import Mnist


def test_everything_side_by_side(mnist: Mnist) -> None:
    result = mnist("summary")
    assert result.exit_code == 0
    for name in (*ARCHITECTURES, *RECIPES):
        assert f"\n{name} " in f"\n{result.stdout}"


def test_everything_as_json(mnist: Mnist) -> None:
    record = json.loads(mnist("summary", "--json").stdout)
    counts = {each["recipe"]: each["num_params"] for each in record["recipes"]}
    assert list(counts) == list(RECIPES)
    assert counts["cnn-26k"] == 26_698
    assert counts["cnn-small"] <= 8_000


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_architecture_layer_by_layer(mnist: Mnist, arch: str) -> None:
    record = json.loads(mnist("summary", "--arch", arch, "--json").stdout)
    assert record["model"]["arch"] == arch
    assert record["num_params"] == sum(layer["num_params"] for layer in record["layers"])
    assert record["num_bytes"] == 4 * record["num_params"]
    assert record["layers"][-1]["output_shape"] == [10]
    assert f"{record['num_params']:,} parameters" in mnist("summary", "--arch", arch).stdout
    assert mnist("summary", "--arch", arch, "-q").stdout == f"{record['num_params']}\n"


def test_quiet_lists_the_recipes(mnist: Mnist) -> None:
    assert mnist("summary", "-q").stdout.split() == list(RECIPES)


def test_the_original_ann_is_described_without_being_built(mnist: Mnist) -> None:
    result = mnist("summary", "--arch", "ann", "--hidden", "12288", "6144", "6144", "3072", "-q")
    assert 182.4e6 < int(result.stdout) < 182.7e6


def test_a_budget_picks_the_width(mnist: Mnist) -> None:
    result = mnist("summary", "--arch", "cnn-small", "--max-params", "2000", "-q")
    assert 1_000 < int(result.stdout) <= 2_000


def test_a_checkpoint_is_described(mnist: Mnist, trained: Path) -> None:
    result = mnist("summary", "-c", trained)
    assert result.exit_code == 0
    assert "26,698 parameters" in result.stdout
    assert "best.pth" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--arch", "resnet"], 2, "There is no architecture called 'resnet'"),
        (["--arch", "cnn", "--kernel-size", "28", "--padding", "0"], 2, "shrink"),
        (["--arch", "mlp", "--max-params", "10"], 5, "105,214"),
        (["-c", "none.pth"], 3, "none.pth"),
        (["-c", "none.pth", "--arch", "mlp"], 2, "knows its own architecture"),
    ],
)
def test_what_cannot_be_described_ends_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("summary", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert not result.stdout
