"""Run directories, records and checkpoints, right and wrong."""

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli import registry, runs
from mnistcli.errors import DataError, MnistError, RunError, SettingsError
from mnistcli.metrics import EpochResult
from mnistcli.runs import Run
from mnistcli.settings import TrainSettings, resolve

EPOCH = EpochResult(1, 0.01, 0.5, 0.9, 0.4, 0.91, 2.0, 1000.0)


def settings_of(recipe: str = "mlp-50-50") -> TrainSettings:
    return resolve({"recipe": recipe, "dataset": "digits"}, environ={}).settings


def new_run(out: Path, name: str | None) -> Run:
    """A run that has finished an epoch."""
    with runs.created(out, name, settings_of()) as run:
        state = {"losses": [EPOCH.val_loss]}
        saved = runs.SavedState(settings=settings_of(), history=[EPOCH], state=state)
        runs.save_state(run, saved)
        runs.write_metrics(run, [EPOCH])
    return run


def test_a_run_holds_what_the_documents_say(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    records = {"settings.json", "environment.json", "metrics.csv"}
    assert names - {".lock"} == records | {"best.pth", "last.pth", "state.pth"}


def test_the_settings_of_a_run_can_be_replayed(trained: Path) -> None:
    recorded = runs.read_settings(Run(trained))
    replayed = resolve({}, config=trained / "settings.json", environ={}).settings
    assert replayed == recorded
    assert recorded.recipe == "cnn-26k"


def test_the_environment_gives_the_reasons_of_its_choices(trained: Path) -> None:
    record = runs.read_record(Run(trained), "environment.json")
    assert record["device"]["value"] in ("cpu", "cuda", "mps")
    assert record["precision"]["reason"]
    assert record["versions"]["torch"] == str(torch.__version__)


def test_metrics_come_back_as_they_were_written(tmp_path: Path) -> None:
    epochs = [EPOCH, replace(EPOCH, epoch=2, val_loss=None, val_accuracy=None)]
    runs.write_metrics(Run(tmp_path), epochs)
    assert runs.read_metrics(Run(tmp_path)) == epochs
    with (tmp_path / "metrics.csv").open(newline="") as handle:
        assert len(list(csv.reader(handle))) == 3


@pytest.mark.parametrize(
    "text", ["", "epoch,lr\n1,x\n", "nonsense", "epoch\n1\n", "\x00", "a,b\n" * 3]
)
def test_damaged_metrics_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv is damaged"):
        runs.read_metrics(Run(tmp_path))


def test_a_directory_without_metrics_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no metrics"):
        runs.read_metrics(Run(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"epochs": 3}', '{"recipe": 5}'])
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(DataError, match=r"settings\.json"):
        runs.read_settings(Run(tmp_path))


def test_a_name_that_is_taken_is_refused_and_the_run_left_alone(tmp_path: Path) -> None:
    first = new_run(tmp_path, "one")
    before = (first.path / "settings.json").read_bytes()
    with pytest.raises(SettingsError, match="already") as refused:
        new_run(tmp_path, "one")
    assert refused.value.exit_code == 2
    assert (first.path / "settings.json").read_bytes() == before


@pytest.mark.parametrize("name", ["a/b", "..", ".", "last", "/tmp/x"])
def test_a_name_is_the_name_of_one_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot name a run"):
        new_run(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_an_output_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write") as failed:
        new_run(tmp_path / "file" / "runs", "one")
    assert "--out" in failed.value.fix


def test_runs_are_found_by_directory_by_name_and_as_the_last(tmp_path: Path) -> None:
    import os

    older, newer = new_run(tmp_path, "older"), new_run(tmp_path, "newer")
    os.utime(older.path / "metrics.csv", (1, 1))
    unfinished = new_run(tmp_path, "unfinished")
    (unfinished.path / "metrics.csv").unlink()
    assert runs.find("older", tmp_path) == older
    assert runs.find(str(newer.path), tmp_path / "elsewhere") == newer
    assert runs.find("last", tmp_path) == newer
    with pytest.raises(DataError, match="no run 'nothing'") as missing:
        runs.find("nothing", tmp_path)
    assert "newer, older" in missing.value.fix


def test_an_empty_directory_has_no_last_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in"):
        runs.find("last", tmp_path)


def test_a_run_without_an_epoch_has_no_checkpoint(tmp_path: Path) -> None:
    (new_run(tmp_path, "empty").path / "metrics.csv").unlink()
    with pytest.raises(DataError, match=r"holds no best\.pth"):
        runs.find_checkpoint("empty", tmp_path)


def test_a_checkpoint_describes_itself(trained: Path) -> None:
    loaded = runs.load_model(trained / "best.pth")
    card = loaded.card
    assert card.settings == runs.read_settings(Run(trained))
    assert card.classes == tuple("0123456789")
    assert (card.mean, card.std, card.input_px) == (0.1593, 0.2980, 28)
    assert sum(p.numel() for p in loaded.network.parameters()) == 26_698
    assert not loaded.network.training


def test_a_checkpoint_holds_plain_types_and_tensors_only(trained: Path) -> None:
    content = torch.load(trained / "best.pth", weights_only=True)
    assert set(content) == {"card", "weights"}
    assert json.loads(json.dumps(content["card"])) == content["card"]
    assert all(tensor.is_contiguous() for tensor in content["weights"].values())


@pytest.mark.parametrize("recipe", registry.RECIPES)
def test_weights_come_back_bit_for_bit(recipe: str, tmp_path: Path, trained: Path) -> None:
    from mnistcli.settings import fit_budget

    settings = fit_budget(settings_of(recipe))
    card = runs.load_model(trained / "best.pth").card.model_copy(update={"settings": settings})
    network = registry.build(settings.arch, settings.network).to(memory_format=torch.channels_last)
    runs.save_checkpoint(tmp_path / "x.pth", network, card)
    back = runs.load_model(tmp_path / "x.pth").network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor.to(back[name].dtype), back[name])


class Malicious:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_checkpoint_is_refused_and_never_run(tmp_path: Path, zipped: bool) -> None:
    bait = tmp_path / "executed"
    content = {"card": {}, "weights": Malicious(bait)}
    if zipped:
        torch.save(content, tmp_path / "evil.pth")
    else:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="no checkpoint of this tool") as refused:
        runs.load_model(tmp_path / "evil.pth")
    assert refused.value.exit_code == 3
    assert "could run code" in refused.value.why
    assert not bait.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, -1])
def test_a_truncated_checkpoint_is_an_error(trained: Path, keep: int) -> None:
    content = (trained / "best.pth").read_bytes()
    (trained / "best.pth").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"best\.pth"):
        runs.load_model(trained / "best.pth")


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as missing:
        runs.load_model(tmp_path / "none.pth")
    assert "No such file" in missing.value.why


@pytest.mark.parametrize("content", [{}, [], 5, {"card": {}}, {"card": 3, "weights": {}}, None])
def test_another_programs_checkpoint_is_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(DataError, match="no checkpoint of this tool"):
        runs.load_model(tmp_path / "other.pth")


def spoil(path: Path, change: Any) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c["weights"].pop("classify.bias"), "Missing key"),
        (lambda c: c["weights"].update(extra=torch.zeros(1)), "Unexpected key"),
        (lambda c: c["weights"].update({"classify.bias": torch.zeros(3)}), "size mismatch"),
        (lambda c: c["weights"]["classify.bias"].fill_(float("nan")), "not finite"),
        (lambda c: c["card"]["settings"]["model"].update(hidden=[64]), "size mismatch"),
        (lambda c: c["card"]["settings"].update(model={"arch": "mlp"}), "card is wrong"),
        (lambda c: c["card"].update(format=2), "card is wrong"),
        (lambda c: c["card"].update(classes=["0"]), "card is wrong"),
        (lambda c: c["card"].update(std=0.0), "card is wrong"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_an_error(trained: Path, change: Any, why: str) -> None:
    spoil(trained / "best.pth", change)
    with pytest.raises(DataError, match="no checkpoint of this tool") as refused:
        runs.load_model(trained / "best.pth")
    assert why in refused.value.why


def test_a_card_that_asks_for_a_huge_network_takes_no_memory(trained: Path) -> None:
    spoil(
        trained / "best.pth", lambda c: c["card"]["settings"]["model"].update(hidden=[65536] * 32)
    )
    with pytest.raises(DataError):
        runs.load_model(trained / "best.pth")


def test_a_score_is_kept_for_a_runs_best_checkpoint_only(trained: Path) -> None:
    from mnistcli import datasets, scoring

    examples = datasets.load(datasets.dataset("digits"), "test", Path())
    for checkpoint, kept in ((trained / "best.pth", True), (trained / "last.pth", False)):
        loaded = runs.load_model(checkpoint)
        score = scoring.judge(loaded, examples, dataset="digits", split="test")
        assert (runs.keep_score(score) is not None) is kept
    assert runs.read_score(Run(trained), "digits", "test") == scoring.judge(
        runs.load_model(trained / "best.pth"), examples, dataset="digits", split="test"
    )
    assert runs.read_score(Run(trained), "digits", "val") is None
    (trained / "eval-digits-test.json").write_text('{"accuracy": 1}')
    with pytest.raises(DataError, match="damaged"):
        runs.read_score(Run(trained), "digits", "test")


def test_records_load_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, mnistcli.runs, mnistcli.plots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_error_names_a_way_out(tmp_path: Path) -> None:
    for call in (
        lambda: runs.load_model(tmp_path / "x.pth"),
        lambda: runs.find("x", tmp_path),
        lambda: runs.read_settings(Run(tmp_path)),
        lambda: runs.read_metrics(Run(tmp_path)),
    ):
        with pytest.raises(MnistError) as failed:
            call()
        assert failed.value.fix
        assert failed.value.why
