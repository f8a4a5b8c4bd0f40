"""Run directories, records and checkpoints, right and wrong."""

import csv
import json
import os
import pickle
import tarfile
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.errors import DataError, MnistError, RunError, SettingsError
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.evaluation.scores import Score, read_score, write_score
from mnistcli.models.registry import build_network, build_on_meta, get_architecture
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint, save_checkpoint
from mnistcli.runs.directory import Run, create_run, read_record, read_settings, write_record
from mnistcli.runs.find import display_names, find_checkpoint, find_run
from mnistcli.runs.history import HISTORY_COLUMNS, EpochResult, read_metrics, write_metrics
from mnistcli.runs.saved_state import SavedState, read_state, save_state
from tests.fuzz import forged_checkpoints, mutations
from tests.helpers.audit import reading

EPOCH = EpochResult(1, 0.01, 0.5, 0.9, 0.4, 0.91, 2.0, 1000.0)


def settings_of(recipe: str = "mlp-50-50") -> TrainSettings:
    return resolve_settings({"recipe": recipe, "dataset": "digits"}, environ={}).settings


def new_run(out: Path, name: str | None) -> Run:
    """A run that has finished an epoch."""
    with create_run(out, name, settings_of()) as run:
        state = {"losses": [EPOCH.val_loss]}
        saved = SavedState(settings=settings_of(), history=[EPOCH], state=state)
        save_state(run, saved)
        write_metrics(run, [EPOCH])
    return run


def test_a_run_holds_what_the_documents_say(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    records = {"settings.json", "environment.json", "metrics.csv"}
    assert names - {".lock"} == records | {"best.pth", "last.pth", "state.pth"}


def test_the_settings_of_a_run_can_be_replayed(trained: Path) -> None:
    recorded = read_settings(Run(trained))
    replayed = resolve_settings({}, config=trained / "settings.json", environ={}).settings
    assert replayed == recorded
    assert recorded.recipe == "cnn-26k"


def test_the_environment_gives_the_reasons_of_its_choices(trained: Path) -> None:
    record = read_record(Run(trained), "environment.json")
    assert record["device"]["value"] in ("cpu", "cuda", "mps")
    assert record["precision"]["reason"]
    assert record["num_params"] == 26_698
    assert record["versions"]["torch"] == str(torch.__version__)


def test_metrics_come_back_as_they_were_written(tmp_path: Path) -> None:
    epochs = [EPOCH, replace(EPOCH, epoch=2, val_loss=None, val_accuracy=None)]
    write_metrics(Run(tmp_path), epochs)
    assert read_metrics(Run(tmp_path)) == epochs
    with (tmp_path / "metrics.csv").open(newline="") as handle:
        assert len(list(csv.reader(handle))) == 3


@pytest.mark.parametrize(
    "text", ["", "epoch,lr\n1,x\n", "nonsense", "epoch\n1\n", "\x00", "a,b\n" * 3]
)
def test_damaged_metrics_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv is damaged"):
        read_metrics(Run(tmp_path))


def test_a_directory_without_metrics_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no metrics"):
        read_metrics(Run(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"epochs": 3}', '{"recipe": 5}'])
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(DataError, match=r"settings\.json"):
        read_settings(Run(tmp_path))


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


def test_what_came_to_lie_in_a_run_without_an_epoch_is_left_alone(tmp_path: Path) -> None:
    with create_run(tmp_path, "one", settings_of()) as run:
        (run.path / "notes.txt").write_text("mine")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["notes.txt"]
    with create_run(tmp_path, "two", settings_of()):
        pass
    assert not (tmp_path / "two").exists()


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
    assert find_run("older", tmp_path) == older
    assert find_run(str(newer.path), tmp_path / "elsewhere") == newer
    assert find_run("last", tmp_path) == newer
    with pytest.raises(DataError, match="no run 'nothing'") as missing:
        find_run("nothing", tmp_path)
    assert "newer, older" in missing.value.fix


def test_an_empty_directory_has_no_last_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in"):
        find_run("last", tmp_path)


def test_a_run_without_an_epoch_has_no_checkpoint(tmp_path: Path) -> None:
    (new_run(tmp_path, "empty").path / "metrics.csv").unlink()
    with pytest.raises(DataError, match=r"holds no best\.pth"):
        find_checkpoint("empty", tmp_path)


def test_a_checkpoint_describes_itself(trained: Path) -> None:
    loaded = load_checkpoint(trained / "best.pth")
    card = loaded.card
    assert card.settings == read_settings(Run(trained))
    assert card.classes == tuple("0123456789")
    assert (card.mean, card.std, card.input_px) == (0.1593, 0.2980, 28)
    assert sum(p.numel() for p in loaded.network.parameters()) == 26_698
    assert not loaded.network.training


def test_a_checkpoint_holds_plain_types_and_tensors_only(trained: Path) -> None:
    content = torch.load(trained / "best.pth", weights_only=True)
    assert set(content) == {"card", "weights"}
    assert json.loads(json.dumps(content["card"])) == content["card"]
    assert all(tensor.is_contiguous() for tensor in content["weights"].values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_come_back_bit_for_bit(recipe: str, tmp_path: Path, trained: Path) -> None:
    from mnistcli.config.resolve import fit_budget

    settings = fit_budget(settings_of(recipe))
    seen = {"settings": settings, "input_px": get_architecture(settings.arch).input_px}
    card = load_checkpoint(trained / "best.pth").card.model_copy(update=seen)
    network = build_network(settings.arch, settings.network).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "x.pth", network, card)
    back = load_checkpoint(tmp_path / "x.pth").network.state_dict()
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
    with pytest.raises(DataError, match="no checkpoint that this version reads") as refused:
        load_checkpoint(tmp_path / "evil.pth")
    assert refused.value.exit_code == 3
    assert ("could run code" if zipped else "of another kind") in refused.value.why
    assert not bait.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, -1])
def test_a_truncated_checkpoint_is_an_error(trained: Path, keep: int) -> None:
    content = (trained / "best.pth").read_bytes()
    (trained / "best.pth").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"best\.pth"):
        load_checkpoint(trained / "best.pth")


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as missing:
        load_checkpoint(tmp_path / "none.pth")
    assert "No such file" in missing.value.why


@pytest.mark.parametrize("content", [{}, [], 5, {"card": {}}, {"card": 3, "weights": {}}, None])
def test_another_programs_checkpoint_is_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(DataError, match="no checkpoint that this version reads"):
        load_checkpoint(tmp_path / "other.pth")


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
    with pytest.raises(DataError, match="no checkpoint that this version reads") as refused:
        load_checkpoint(trained / "best.pth")
    assert why in refused.value.why


def test_a_card_that_asks_for_a_huge_network_takes_no_memory(trained: Path) -> None:
    spoil(
        trained / "best.pth", lambda c: c["card"]["settings"]["model"].update(hidden=[65536] * 32)
    )
    with pytest.raises(DataError):
        load_checkpoint(trained / "best.pth")


@pytest.mark.parametrize("danger", forged_checkpoints.dangers(), ids=lambda d: d[0].__qualname__)
def test_no_function_in_a_checkpoint_is_called(tmp_path: Path, danger: tuple[Any, ...]) -> None:
    body = forged_checkpoints.pickled({"card": forged_checkpoints.Call(*danger), "weights": {}})
    (tmp_path / "x.pth").write_bytes(forged_checkpoints.archive(body))
    with reading(tmp_path / "x.pth"), pytest.raises(DataError, match="no checkpoint"):
        load_checkpoint(tmp_path / "x.pth")
    assert not forged_checkpoints.BAIT.exists()


@pytest.mark.parametrize("body", forged_checkpoints.RAW_PICKLES)
def test_no_odd_pickle_is_a_bug(tmp_path: Path, body: bytes) -> None:
    for content in (body, forged_checkpoints.archive(body)):
        (tmp_path / "x.pth").write_bytes(content)
        with reading(tmp_path / "x.pth"), pytest.raises(DataError, match="no checkpoint"):
            load_checkpoint(tmp_path / "x.pth")


def test_a_bit_that_flipped_in_a_weight_is_noticed(trained: Path) -> None:
    content = bytearray((trained / "best.pth").read_bytes())
    weights = torch.load(trained / "best.pth", weights_only=True)["weights"]
    at = content.index(weights["classify.weight"].numpy().tobytes())
    content[at + 3] ^= 1
    (trained / "best.pth").write_bytes(content)
    with pytest.raises(DataError, match="no checkpoint") as refused:
        load_checkpoint(trained / "best.pth")
    assert "damaged" in refused.value.why


def test_weights_marked_as_a_directory_are_read_all_the_same(trained: Path) -> None:
    """PyTorch leaves the memory of such a weight as it was, and Python reads it rightly."""
    right = load_checkpoint(trained / "best.pth").network.state_dict()
    content = bytearray((trained / "best.pth").read_bytes())
    with zipfile.ZipFile(trained / "best.pth") as archive:
        at, members = archive.start_dir, archive.infolist()
    for member in members:
        content[at + 38] |= 0x10  # of the external attributes, MS-DOS's bit for a directory
        at += 46 + len(member.filename) + len(member.extra) + len(member.comment)
    (trained / "best.pth").write_bytes(content)
    back = load_checkpoint(trained / "best.pth").network.state_dict()
    assert all(torch.equal(back[name], right[name]) for name in right)


def test_a_packed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    import tracemalloc

    card = pickle.dumps({"card": {}, "weights": {}}, 2)
    files = [("archive/data.pkl", card), ("archive/data/0", bytes(50_000_000))]
    (tmp_path / "bomb.pth").write_bytes(mutations.archive_of(files, packed=True))
    tracemalloc.start()
    with pytest.raises(DataError, match="no checkpoint"):
        load_checkpoint(tmp_path / "bomb.pth")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["tar", "pickles"])
def test_older_formats_of_pytorch_are_not_opened(trained: Path, kind: str) -> None:
    path = trained / "best.pth"
    if kind == "pickles":
        content = torch.load(path, weights_only=True)
        path.write_bytes(forged_checkpoints.saved(content, zipped=False))
    else:
        (trained / "storages").write_bytes(b"x")
        with tarfile.open(path, "w") as tar:
            for name in ("storages", "../../escaped"):
                tar.add(trained / "storages", name)
    with reading(path), pytest.raises(DataError, match="no checkpoint"):  # PyTorch unpacks a tar
        load_checkpoint(path)


THIN = torch.zeros(1).expand


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c["weights"].update({"classify.bias": THIN(10)}), "no tensor that"),
        (lambda c: c["weights"].update({"classify.bias": torch.ones(10).half()}), "no tensor that"),
        (
            lambda c: c["weights"].update({"classify.bias": torch.ones(10) * 1j}),
            "no tensor that",
        ),
        (lambda c: c["weights"].update({"classify.bias": torch.ones(10).to_sparse()}), "no tensor"),
        (lambda c: c["weights"].update({"classify.bias": torch.empty(10, device="meta")}), "no t"),
        (lambda c: c["weights"].update({"classify.bias": [0.0] * 10}), "no tensor that"),
        (lambda c: c["weights"].update({5: torch.ones(10)}), "no table"),
        (lambda c: c.update(weights=list(c["weights"])), "no table"),
        (lambda c: [w.fill_(3e38) for w in c["weights"].values()], "no finite numbers"),
        (lambda c: c["card"].update(classes=["0"] * 10), "same name"),
        (lambda c: c["card"].update(classes=[*"012345678", "\x1b[2J"]), "cannot be shown"),
        (lambda c: c["card"]["settings"].update(recipe="\x1b[2J"), "cannot be shown"),
        (lambda c: c["card"].update(input_px=29), "does not see 29 pixels"),
        (lambda c: c["card"].update(mean=1e300), "card is wrong"),
        (lambda c: c["card"].update(std=1e-30), "card is wrong"),
        (lambda c: c["card"]["settings"]["model"].update(arch="x" * 9999), "card is wrong"),
        (lambda c: c.update(more=1), "does not hold a card"),
    ],
)
def test_a_forged_checkpoint_is_an_error(trained: Path, change: Any, why: str) -> None:
    spoil(trained / "best.pth", change)
    with pytest.raises(DataError, match="no checkpoint that this version reads") as refused:
        load_checkpoint(trained / "best.pth")
    assert why in refused.value.why
    assert len(refused.value.why) < 500


def test_a_negative_variance_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(BUNDLED_CHECKPOINT.read_bytes())
    spoil(tmp_path / "best.pth", lambda c: c["weights"]["norms.0.running_var"].fill_(-1))
    with pytest.raises(DataError, match="no checkpoint that this version reads") as refused:
        load_checkpoint(tmp_path / "best.pth")
    assert "no finite numbers" in refused.value.why


@pytest.mark.parametrize("content", [torch.zeros(3), torch.tensor(3), torch.Size([1])])
def test_a_tensor_alone_is_no_checkpoint(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(DataError, match="no checkpoint that this version reads"):
        load_checkpoint(tmp_path / "x.pth")


def test_tensors_that_are_larger_than_their_file_take_no_memory(trained: Path) -> None:
    def thin(content: Any) -> None:
        model = {"hidden": [65_536] * 3, "dropout": 0.0}
        content["card"]["settings"]["model"] = {"arch": "mlp", **model}
        outline = build_on_meta("mlp", model).state_dict()
        content["weights"] = {name: THIN(each.shape) for name, each in outline.items()}

    spoil(trained / "best.pth", thin)
    with pytest.raises(DataError, match="no checkpoint that this version reads"):  # not 32 GB later
        load_checkpoint(trained / "best.pth")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s["state"]["model"].update({"classify.bias": THIN(10)}), "tensors"),
        (lambda s: s["state"]["model"]["classify.bias"].fill_(float("inf")), "tensors"),
        (lambda s: s["state"]["model"].update(x=torch.empty(10, device="meta")), "tensors"),
        (lambda s: s["state"]["model"].update(x=torch.ones(10).half()), "tensors"),
        (lambda s: s["state"]["losses"].pop(), "not complete"),
        (lambda s: s["state"].update(losses=None), "not complete"),
        (lambda s: s["settings"].update({"x" * 9000: 1}), "damaged"),
    ],
)
def test_a_forged_state_is_an_error(trained: Path, change: Any, why: str) -> None:
    spoil(trained / "state.pth", change)
    with pytest.raises(DataError, match="cannot be resumed") as refused:
        read_state(Run(trained), read_settings(Run(trained)))
    assert why in refused.value.why
    assert len(refused.value.why) < 500


@pytest.mark.parametrize("name", ["settings.json", "metrics.csv", "best.pth", "state.pth"])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_has_no_end_is_not_read(trained: Path, name: str, kind: str) -> None:
    (trained / name).unlink()
    if kind == "pipe":
        os.mkfifo(trained / name)
    else:
        (trained / name).symlink_to("/dev/zero")
    run = Run(trained)
    readers: dict[str, Any] = {
        "settings.json": lambda: read_settings(run),
        "metrics.csv": lambda: read_metrics(run),
        "best.pth": lambda: load_checkpoint(run.best),
        "state.pth": lambda: read_state(run, read_settings(run)),
    }
    with pytest.raises(DataError) as refused:
        readers[name]()
    assert "device or a pipe" in refused.value.why


def test_a_record_of_an_absurd_size_is_not_read(trained: Path) -> None:
    with (trained / "settings.json").open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(DataError) as refused:
        read_settings(Run(trained))
    assert "more than 34 MB" in refused.value.why


def test_a_link_is_followed_to_read_and_replaced_to_write(trained: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    (trained / "settings.json").rename(elsewhere)
    (trained / "settings.json").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert read_settings(Run(trained)).recipe == "cnn-26k"
    write_record(Run(trained), "settings.json", {"other": 1})
    assert elsewhere.read_bytes() == before
    assert not (trained / "settings.json").is_symlink()


def test_no_name_in_a_record_is_a_file_that_is_opened(trained: Path) -> None:
    record = json.loads((trained / "settings.json").read_text())
    (trained / "settings.json").write_text(json.dumps(record | {"dataset": "../../../etc/passwd"}))
    with reading(trained), pytest.raises(DataError, match=r"settings\.json is damaged"):
        read_settings(Run(trained))


@pytest.mark.parametrize("name", ["settings.json", "eval-digits-test.json"])
def test_tables_in_tables_without_end_are_damage(trained: Path, name: str) -> None:
    (trained / name).write_text('{"a":' * 100_000)
    with pytest.raises(DataError, match="damaged"):
        read_record(Run(trained), name)


@pytest.mark.parametrize(
    "row",
    [
        "0,1,1,1,1,1,1,1",
        "10001,1,1,1,1,1,1,1",
        "1,,1,1,1,1,1,1",
        "1,1,nan,1,1,1,1,1",
        "1,1,1,1.5,1,1,1,1",
        "1,1,1,1,1,-0.5,1,1",
        "1,1,1,1,,1,1,1",
        "1,1,inf,1,1,1,1,1",
        "1,1,1,1,1,1,-1,1",
        "1,1,1,1,1,1,1",
        "1,1,1,1,1,1,1,1\n1,1,1,1,1,1,1,1",
        "1," + "x" * 100_000,
    ],
)
def test_figures_that_make_no_sense_are_damage(tmp_path: Path, row: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"{','.join(HISTORY_COLUMNS)}\n{row}\n")
    with pytest.raises(DataError, match=r"metrics\.csv is damaged") as refused:
        read_metrics(Run(tmp_path))
    assert len(refused.value.why) < 300


@pytest.mark.parametrize(
    "change",
    [
        {"confusion": []},
        {"confusion": [[1]]},
        {"confusion": [[2, 0], [0]]},
        {"confusion": [[3, -1], [0, 0]]},
        {"confusion": [[10**400, 0], [0, 0]]},
        {"classes": []},
        {"num_images": 3},
        {"num_errors": 1},
        {"loss": float("nan")},
        {"accuracy": 1.5},
        {"interval": [0.9, 0.1]},
        {"bins": [{"num_images": 1, "accuracy": 1, "confidence": 1}]},
        {"bins": [{"num_images": 2, "accuracy": 1, "confidence": 1.5}]},
        {"tta": True},
        {"mistakes": [{"index": 9, "label": 0, "predicted": 1}]},
        {"mistakes": [{"index": 0, "label": 0, "predicted": -1}]},
        {"mistakes": [{"index": 0, "label": 0, "predicted": 1, "probability": float("nan")}]},
    ],
)
def test_a_score_that_does_not_add_up_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    score = asdict(
        Score(
            *("x/best.pth", "digits", "test", 2, 0, 0.5, 1.0, (0.5, 1.0)),
            classes=[ClassScore(name, 1, 1.0, 1.0, 1.0) for name in "01"],
            confusion=[[1, 0], [0, 1]],
            mistakes=[],
        )
    )
    path = tmp_path / "eval-digits-test.json"
    path.write_text(json.dumps(score))
    assert read_score(Run(tmp_path), "digits", "test")
    usual = {"probability": 0.9, "label_probability": 0.1}
    for mistake in change.get("mistakes", []):
        mistake.update(usual | mistake)
    path.write_text(json.dumps(score | change))
    with pytest.raises(DataError, match=r"eval-digits-test\.json is damaged"):
        read_score(Run(tmp_path), "digits", "test")


def test_a_score_is_kept_for_a_runs_best_checkpoint_only(trained: Path) -> None:
    from mnistcli.data.datasets import get_dataset, load_dataset
    from mnistcli.evaluation.evaluate import EvalData, evaluate_models

    examples = load_dataset(get_dataset("digits"), "test", Path())
    models = [load_checkpoint(trained / name) for name in ("best.pth", "last.pth")]
    best, last = evaluate_models(models, EvalData("digits", "test", examples))
    assert write_score(last.score) is None
    assert write_score(best.score) == trained / "eval-digits-test.json"
    assert read_score(Run(trained), "digits", "test") == best.score
    assert read_score(Run(trained), "digits", "val") is None
    (trained / "eval-digits-test.json").write_text('{"accuracy": 1}')
    with pytest.raises(DataError, match="damaged"):
        read_score(Run(trained), "digits", "test")


def test_records_load_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, mnistcli.runs, mnistcli.plots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_error_names_a_way_out(tmp_path: Path) -> None:
    for call in (
        lambda: load_checkpoint(tmp_path / "x.pth"),
        lambda: find_run("x", tmp_path),
        lambda: read_settings(Run(tmp_path)),
        lambda: read_metrics(Run(tmp_path)),
    ):
        with pytest.raises(MnistError) as failed:
            call()
        assert failed.value.fix
        assert failed.value.why


def test_a_run_is_called_by_its_directory_and_its_series() -> None:
    for place in ("five/seed-0", "five/seed-1", "six/seed-0", "alone"):
        Path(place).mkdir(parents=True)
    Path("five/summary.json").touch()
    zero, one, six, alone = (
        Run(Path(p)) for p in ("five/seed-0", "five/seed-1", "six/seed-0", "alone")
    )
    assert [run.name for run in (zero, one, six, alone)] == [
        "five/seed-0",
        "five/seed-1",
        "seed-0",
        "alone",
    ]
    assert display_names([zero]) == ["five/seed-0"]
    assert display_names([zero, zero]) == ["five/seed-0", "five/seed-0"]
    assert display_names([zero, one, six]) == ["five/seed-0", "five/seed-1", "seed-0"]
    other = Run(Path("elsewhere/alone"))
    assert display_names([zero, alone, other]) == ["five/seed-0", "alone", "elsewhere/alone"]
    assert display_names([]) == []
