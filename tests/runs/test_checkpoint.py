"""Checkpoints: weights and card are loaded as they were saved, and invalid ones are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.errors import DataError
from mnistcli.models.registry import build_network, build_on_meta, get_architecture
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint, save_checkpoint
from mnistcli.runs.directory import Run, read_settings
from tests.helpers.audit import touches_only
from tests.helpers.forged_archives import RAW_PICKLES, archive_of_pickle


def change_saved(path: Path, change: Any) -> None:
    """Change the content of a .pth file."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def assert_invalid(path: Path) -> str:
    """The checkpoint is refused; the reason."""
    with pytest.raises(DataError, match="not a checkpoint that this version reads") as refused:
        load_checkpoint(path)
    assert refused.value.exit_code == 3
    assert len(refused.value.why) < 500
    return refused.value.why


def test_a_checkpoint_describes_its_network(trained: Path) -> None:
    loaded = load_checkpoint(trained / "best.pth")
    card = loaded.card
    assert card.settings == read_settings(Run(trained))
    assert card.classes == tuple("0123456789")
    assert (card.mean, card.std, card.input_px) == (0.1593, 0.2980, 28)
    assert sum(p.numel() for p in loaded.network.parameters()) == 26_698
    assert not loaded.network.training


def test_a_checkpoint_holds_only_plain_values_and_tensors(trained: Path) -> None:
    content = torch.load(trained / "best.pth", weights_only=True)
    assert set(content) == {"card", "weights"}
    assert json.loads(json.dumps(content["card"])) == content["card"]
    assert all(tensor.is_contiguous() for tensor in content["weights"].values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_are_loaded_bit_for_bit(recipe: str, tmp_path: Path, trained: Path) -> None:
    flags = {"recipe": recipe, "dataset": "digits"}
    settings = fit_budget(resolve_settings(flags, environ={}).settings)
    update = {"settings": settings, "input_px": get_architecture(settings.arch).input_px}
    card = load_checkpoint(trained / "best.pth").card.model_copy(update=update)
    network = build_network(settings.arch, settings.network).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "x.pth", network, card)
    loaded = load_checkpoint(tmp_path / "x.pth").network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor.to(loaded[name].dtype), loaded[name])


@pytest.mark.parametrize("pickled", RAW_PICKLES)
def test_malformed_pickles_are_refused(tmp_path: Path, pickled: bytes) -> None:
    for content in (pickled, archive_of_pickle(pickled)):
        (tmp_path / "x.pth").write_bytes(content)
        with touches_only(tmp_path / "x.pth"):
            assert_invalid(tmp_path / "x.pth")


@pytest.mark.parametrize("num_bytes", [0, 100, -1])
def test_a_truncated_checkpoint_is_refused(trained: Path, num_bytes: int) -> None:
    content = (trained / "best.pth").read_bytes()
    (trained / "best.pth").write_bytes(content[:num_bytes])
    assert "damaged" in assert_invalid(trained / "best.pth")


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pth") as missing:
        load_checkpoint(tmp_path / "none.pth")
    assert "No such file" in missing.value.why
    assert missing.value.fix


@pytest.mark.parametrize(
    "content", [{}, [], {"card": {}}, {"card": 3, "weights": {}}, torch.zeros(3), torch.Size([1])]
)
def test_another_programs_file_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert_invalid(tmp_path / "other.pth")


BIAS = "classify.bias"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(more=1), "card and weights"),
        (lambda c: c["weights"].pop(BIAS), "Missing key"),
        (lambda c: c["weights"].update(extra=torch.zeros(1)), "Unexpected key"),
        (lambda c: c["weights"].update({BIAS: torch.zeros(3)}), "size mismatch"),
        (lambda c: c["card"]["settings"]["model"].update(hidden=[64]), "size mismatch"),
        (lambda c: c["weights"].update({5: torch.ones(10)}), "not a dict"),
        (lambda c: c.update(weights=list(c["weights"])), "not a dict"),
        (lambda c: c["weights"].update({BIAS: torch.zeros(1).expand(10)}), BIAS),
        (lambda c: c["weights"].update({BIAS: torch.ones(10).half()}), BIAS),
        (lambda c: c["weights"].update({BIAS: torch.ones(10).to_sparse()}), BIAS),
        (lambda c: c["weights"].update({BIAS: torch.empty(10, device="meta")}), BIAS),
        (lambda c: c["weights"].update({BIAS: [0.0] * 10}), BIAS),
        (lambda c: c["weights"][BIAS].fill_(float("nan")), "not finite"),
        (lambda c: [w.fill_(3e38) for w in c["weights"].values()], "outputs are not finite"),
        (lambda c: c["card"]["settings"].update(model={"arch": "mlp"}), "card"),
        (lambda c: c["card"]["settings"]["model"].update(arch="x" * 9999), "card"),
        (lambda c: c["card"]["settings"].update(recipe="\x1b[2J"), "card"),
        (lambda c: c["card"].update(format=2), "format"),
        (lambda c: c["card"].update(classes=["0"] * 10), "same name"),
        (lambda c: c["card"].update(classes=[*"012345678", "\x1b[2J"]), "classes"),
        (lambda c: c["card"].update(input_px=29), "29 pixels"),
        (lambda c: c["card"].update(std=0.0), "std"),
    ],
)
def test_an_invalid_checkpoint_is_refused(trained: Path, change: Any, why: str) -> None:
    change_saved(trained / "best.pth", change)
    assert why in assert_invalid(trained / "best.pth")


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(BUNDLED_CHECKPOINT.read_bytes())
    change_saved(tmp_path / "best.pth", lambda c: c["weights"]["norms.0.running_var"].fill_(-1))
    assert "outputs are not finite" in assert_invalid(tmp_path / "best.pth")


def test_huge_networks_in_small_files_allocate_no_memory(trained: Path) -> None:
    def expand_weights(content: Any) -> None:
        model = {"hidden": [65_536] * 3, "dropout": 0.0}
        content["card"]["settings"]["model"] = {"arch": "mlp", **model}
        shapes = build_on_meta("mlp", model).state_dict()
        content["weights"] = {n: torch.zeros(1).expand(t.shape) for n, t in shapes.items()}

    change_saved(trained / "best.pth", expand_weights)
    assert_invalid(trained / "best.pth")  # without 32 GB


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_devices_and_pipes_are_not_read(tmp_path: Path, kind: str) -> None:
    import os

    if kind == "pipe":
        os.mkfifo(tmp_path / "best.pth")
    else:
        (tmp_path / "best.pth").symlink_to("/dev/zero")
    with pytest.raises(DataError) as refused:
        load_checkpoint(tmp_path / "best.pth")
    assert "device or a pipe" in refused.value.why


def test_an_error_about_the_best_weights_names_the_last_ones(trained: Path) -> None:
    best = trained / "best.pth"
    best.write_bytes(best.read_bytes()[:1000])
    with pytest.raises(DataError) as caught:
        load_checkpoint(best)
    assert str(trained / "last.pth") in caught.value.fix
    load_checkpoint(trained / "last.pth")
    (trained / "last.pth").unlink()
    with pytest.raises(DataError) as caught:
        load_checkpoint(best)
    assert "last.pth" not in caught.value.fix
