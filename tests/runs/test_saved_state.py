"""`state.pth`: what a run can continue from, and which states are refused."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.errors import DataError
from mnistcli.runs.directory import Run, read_settings
from mnistcli.runs.saved_state import read_state
from tests.helpers.forged_archives import DANGEROUS_CALLS, Call
from tests.helpers.runs import assert_same, saved_state


def assert_refused(path: Path) -> str:
    """The state of the run is refused; the reason."""
    with pytest.raises(DataError, match="cannot be resumed") as refused:
        read_state(Run(path), read_settings(Run(path)))
    assert "mnist train --config" in refused.value.fix
    assert len(refused.value.why) < 500
    return refused.value.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.update(format=2), "format"),
        (lambda s: s.pop("state"), "state"),
        (lambda s: s.update(state=[]), "state"),
        (lambda s: s.update(history=[]), "history"),
        (lambda s: s["history"].pop(0), "not complete"),
        (lambda s: s["history"][0].update(lr="fast"), "lr"),
        (lambda s: s["state"]["losses"].append(0.5), "not complete"),
        (lambda s: s["state"].update(losses=None), "not complete"),
        (lambda s: s["state"]["model"].update(x=torch.zeros(1).expand(10)), "tensors"),
        (lambda s: s["state"]["model"]["classify.bias"].fill_(float("inf")), "tensors"),
        (lambda s: s["settings"].update({"x" * 9000: 1}), "damaged"),
        (lambda s: s["settings"].update(lr=0.5), "lr"),
        (lambda s: s["state"].update(model=Call(*DANGEROUS_CALLS[0])), "could run code"),
    ],
)
def test_an_invalid_state_is_refused(
    trained: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    content = torch.load(trained / "state.pth", weights_only=True)
    change(content)
    torch.save(content, trained / "state.pth")
    assert why in assert_refused(trained)


@pytest.mark.parametrize("num_bytes", [0, 30, 20_000, -1, -300])
def test_a_truncated_state_is_refused(trained: Path, num_bytes: int) -> None:
    content = (trained / "state.pth").read_bytes()
    (trained / "state.pth").write_bytes(content[:num_bytes])
    assert_refused(trained)


def test_a_checkpoint_is_not_a_state(trained: Path) -> None:
    (trained / "state.pth").write_bytes((trained / "last.pth").read_bytes())
    assert_refused(trained)


def test_a_flipped_bit_is_refused_or_changes_nothing(trained: Path) -> None:
    content, rng = (trained / "state.pth").read_bytes(), random.Random(1)
    state = saved_state(trained).state
    num_refused = 0
    for _ in range(40):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (trained / "state.pth").write_bytes(damaged)
        try:
            assert_same(saved_state(trained).state, state)
        except DataError:
            num_refused += 1
    assert num_refused >= 30


def test_without_an_epoch_there_is_no_state(trained: Path) -> None:
    (trained / "state.pth").unlink()
    assert "older versions" in assert_refused(trained)
    (trained / "metrics.csv").unlink()
    assert read_state(Run(trained), read_settings(Run(trained))) is None
