"""Files of the network that finds ink: written, loaded, refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.errors import DataError, RunError
from mnistcli.models.ink_finder import InkFinder
from mnistcli.runs.archive import load_archive, pack
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint
from mnistcli.runs.finder_file import BUNDLED_FINDER, load_finder, save_finder
from tests.helpers.small_mnist import change_a_byte

FILE = Path("finder.pth")


@pytest.fixture
def saved() -> InkFinder:
    torch.manual_seed(3)
    network = InkFinder()
    save_finder(FILE, network, {"steps": 7, "seed": 3})
    return network


def assert_refused(path: Path) -> DataError:
    with pytest.raises(DataError) as refused:
        load_finder(path)
    assert str(path) in refused.value.what
    assert refused.value.exit_code == 3
    return refused.value


def test_a_network_is_loaded_as_it_was_saved_up_to_the_rounding(saved: InkFinder) -> None:
    loaded = load_finder(FILE)
    assert not loaded.training
    weights = loaded.state_dict()
    for name, tensor in saved.state_dict().items():
        assert weights[name].dtype == tensor.dtype, name
        assert torch.allclose(weights[name], tensor, rtol=1e-3, atol=1e-6), name


def test_a_file_is_half_as_large_as_its_weights_and_says_where_they_are_from(
    saved: InkFinder,
) -> None:
    num_bytes = sum(4 * tensor.numel() for tensor in saved.state_dict().values())
    assert FILE.stat().st_size < 0.6 * num_bytes
    assert load_archive(FILE)["origin"] == {"steps": 7, "seed": 3}


def test_the_bundled_network_is_loaded() -> None:
    assert not load_finder().training
    assert load_archive(BUNDLED_FINDER)["origin"]["steps"] > 0


@pytest.mark.usefixtures("saved")
def test_damaged_and_missing_files_are_refused() -> None:
    change_a_byte(FILE)
    assert_refused(FILE)
    FILE.write_bytes(FILE.read_bytes()[:1000])
    assert_refused(FILE)
    FILE.write_text("not an archive")
    assert_refused(FILE)
    assert_refused(Path("missing.pth"))


def test_another_networks_checkpoint_is_refused() -> None:
    assert "finds ink" in assert_refused(BUNDLED_CHECKPOINT).why


@pytest.mark.usefixtures("saved")
def test_other_weights_are_refused() -> None:
    weights: dict[str, Any] = load_archive(FILE)["weights"]
    first = next(iter(weights))
    others = (
        {name: tensor for name, tensor in weights.items() if name != first},
        {**weights, first: torch.zeros(3)},
        {**weights, first: 3},
        {**weights, "more": torch.zeros(3)},
        [1, 2],
        None,
    )
    for other in others:
        Path("other.pth").write_bytes(pack({"origin": {}, "weights": other}))
        assert_refused(Path("other.pth"))


@pytest.mark.usefixtures("saved")
def test_weights_that_are_not_finite_are_refused() -> None:
    content = load_archive(FILE)
    first = next(iter(content["weights"].values()))
    first.view(-1)[0] = torch.nan
    Path("nan.pth").write_bytes(pack(content))
    assert_refused(Path("nan.pth"))


@pytest.mark.usefixtures("saved")
def test_a_file_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(RunError):
        save_finder(Path("missing") / "finder.pth", load_finder(FILE), {})


def test_a_finder_is_no_network_that_reads_digits() -> None:
    with pytest.raises(DataError, match="finds ink"):
        load_checkpoint(BUNDLED_FINDER)
