"""`mnist train-finder`: it trains on MNIST's digits and writes a file that can be loaded."""

from pathlib import Path

import pytest

from mnistcli.data.datasets import DATASETS
from mnistcli.runs.archive import load_archive
from mnistcli.runs.finder_file import load_finder
from mnistcli.training import finder
from tests.helpers.cli import Mnist
from tests.helpers.small_mnist import put_data, small_mnist, unpacked
from tests.helpers.training import have_same_weights


@pytest.fixture(autouse=True)
def small_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST with 120 digits in `data`, and two pages a step."""
    monkeypatch.setitem(DATASETS, "mnist", small_mnist())
    monkeypatch.setattr(finder, "BATCH_SIZE", 2)
    put_data(Path("data"), unpacked())


def test_a_network_is_trained_and_written(mnist: Mnist) -> None:
    arguments = ("train-finder", "--steps", "2", "--seed", "5", "--data-dir", "data")
    result = mnist(*arguments, "-o", "finder.pth")
    assert (result.exit_code, result.stdout) == (0, "finder.pth\n")
    assert "step 2 of 2" in result.stderr
    network = load_finder(Path("finder.pth"))
    origin = load_archive(Path("finder.pth"))["origin"]
    assert (origin["steps"], origin["seed"]) == (2, 5)
    assert origin["loss"] > 0
    quiet = mnist(*arguments, "--output", "again.pth", "-q")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "again.pth\n", "")
    assert have_same_weights(network, load_finder(Path("again.pth")))


@pytest.mark.parametrize(("option", "value"), [("--steps", "0"), ("--seed", "-1")])
def test_options_have_bounds(mnist: Mnist, option: str, value: str) -> None:
    result = mnist("train-finder", option, value, "--data-dir", "data")
    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.parametrize("output", ["missing/finder.pth", "data"])
def test_a_file_that_cannot_be_written_is_noticed_before_the_training(
    mnist: Mnist, output: str
) -> None:
    result = mnist("train-finder", "--steps", "1", "-o", output, "--data-dir", "data")
    assert result.exit_code == 2
    assert f"'{output}'" in result.stderr
    assert "step 1" not in result.stderr
