"""`mnist train`: what it writes, prints and refuses."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistcli.config.recipes import RECIPES
from mnistcli.config.resolve import resolve_settings
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.training.trainer import load_training_data, start_run, train_run
from tests.helpers.cli import Mnist, shell_code
from tests.helpers.processes import ForkServer

QUICK = ("--recipe", "mlp-50-50", "--dataset", "digits", "--epochs", "2")


def weights(path: str) -> dict[str, torch.Tensor]:
    content: dict[str, dict[str, torch.Tensor]] = torch.load(path, weights_only=True)
    return content["weights"]


def assert_same_weights(first: str, second: str) -> None:
    ours, theirs = weights(f"runs/{first}/last.pth"), weights(f"runs/{second}/last.pth")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def num_epochs(run: str) -> int:
    return len(Path("runs", run, "metrics.csv").read_text().splitlines()) - 1


def test_a_run_is_saved_and_the_next_commands_named(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--name", "one")
    assert result.exit_code == 0
    assert "mnist eval runs/one\n" in result.stdout
    assert "mnist plot runs/one\n" in result.stdout
    for text in ("mlp: 42,310 parameters", "digits: 1,293 to train on, 144 to validate"):
        assert text in result.stdout
    assert len(re.findall(r"^ +\d/2 ", result.stdout, re.MULTILINE)) == 2
    assert not {"\x1b", "\r"} & {*result.stdout}
    assert result.stderr == ""


def test_the_next_command_names_the_data_directory(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--data-dir", "my data", "--name", "one")
    assert "mnist eval runs/one --data-dir 'my data'\n" in result.stdout


def test_quiet_prints_only_the_directory_named_after_recipe_and_time(mnist: Mnist) -> None:
    results = [mnist("train", *QUICK, "--epochs", "1", "-q") for _ in range(2)]
    paths = [result.stdout.strip() for result in results]
    for path, result in zip(paths, results, strict=True):
        assert re.fullmatch(r"runs/mlp-50-50-\d{8}-\d{6}(-\d+)?", path)
        assert (result.stderr, Path(path, "best.pth").is_file()) == ("", True)
    assert paths[0] != paths[1]


def test_json_has_everything_and_is_alone(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--json", "--name", "one")
    record = json.loads(result.stdout)
    assert not result.stderr
    assert set(record) == {
        *("schema_version", "run", "checkpoint", "num_params", "device", "precision", "settings"),
        *("best", "command_seconds", "epochs"),
    }
    assert record["run"] == "runs/one"
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2]
    assert record["best"] in record["epochs"]
    assert record["precision"]["reason"]


def test_flags_become_settings(mnist: Mnist) -> None:
    flags = "--lr 0.02 --batch-size 50 --optimizer sgd --momentum 0.5 --schedule cosine --seed 7"
    flags += " --weight-decay 0.001 --label-smoothing 0.1 --augment --ema 0.9 --val-size 100"
    flags += " --hidden 20 30 --dropout 0.1 --precision float32 --device cpu --max-params 50000"
    result = mnist("train", *QUICK, *flags.split(), "--name", "one")
    assert result.exit_code == 0, result.stderr
    settings = json.loads(Path("runs/one/settings.json").read_text())
    assert settings["model"] == {"arch": "mlp", "hidden": [20, 30], "dropout": 0.1}
    expected = {
        "lr": 0.02,
        "batch_size": 50,
        "optimizer": "sgd",
        "momentum": 0.5,
        "schedule": "cosine",
        "seed": 7,
        "weight_decay": 0.001,
        "label_smoothing": 0.1,
        "augment": True,
        "ema": 0.9,
        "val_size": 100,
        "precision": "float32",
        "device": "cpu",
        "max_params": 50000,
    }
    assert {name: settings[name] for name in expected} == expected


def test_settings_json_replays_to_the_same_weights(mnist: Mnist) -> None:
    mnist("train", "--recipe", "cnn-15k", "--dataset", "digits", "-e", "2", "--augment", "-n", "a")
    mnist("train", "--config", "runs/a/settings.json", "--name", "b")
    assert_same_weights("a", "b")
    assert Path("runs/a/settings.json").read_text() == Path("runs/b/settings.json").read_text()


def test_another_seed_gives_other_weights(mnist: Mnist) -> None:
    for seed in ("0", "1"):
        mnist("train", *QUICK, "--seed", seed, "--name", seed)
    first, second = weights("runs/0/last.pth"), weights("runs/1/last.pth")
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_the_best_checkpoint_has_the_highest_validation_accuracy(mnist: Mnist) -> None:
    mnist("train", *QUICK, "--epochs", "6", "--lr", "0.05", "--name", "one")
    with Path("runs/one/metrics.csv").open() as file:
        accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    best = load_checkpoint(Path("runs/one/best.pth")).card
    assert best.val_accuracy == max(accuracies) == accuracies[best.epoch - 1]
    assert load_checkpoint(Path("runs/one/last.pth")).card.epoch == 6


def test_without_a_validation_split_the_last_epoch_is_kept(mnist: Mnist) -> None:
    assert mnist("train", *QUICK, "--val-size", "0", "--name", "one").exit_code == 0
    assert load_checkpoint(Path("runs/one/best.pth")).card.epoch == 2


def test_a_dry_run_shows_settings_and_sources_and_writes_nothing(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_EPOCHS", "4")
    result = mnist("train", "--arch", "cnn-small", "--lr", "0.5", "--dry-run", "--json")
    record = json.loads(result.stdout)
    assert record["settings"]["model"] == {
        "arch": "cnn-small",
        "width": 64,
        "kernel_size": 5,
        "depthwise": 2,
    }
    assert record["settings"]["epochs"] == 4
    sources = {name: record["sources"][name] for name in ("epochs", "lr", "ema")}
    assert sources == {"epochs": "environment", "lr": "flag", "ema": "recipe cnn-small"}
    assert "environment" in mnist("train", "--dry-run").stdout
    quiet = mnist("train", "--dry-run", "-q")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert not list(Path().iterdir())


def test_a_misspelled_variable_is_noted(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MNIST_EPOCH", "MNIST_SEEDS", "MNIST_ROOT", "MNIST_LR"):
        monkeypatch.setenv(name, "0.5")
    for command in (["train", "--dry-run", "-q"], ["summary", "--arch", "mlp", "-q"]):
        lines = mnist(*command).stderr.splitlines()
        assert [line.split()[0] for line in lines] == ["MNIST_SEEDS", "MNIST_EPOCH"]
        assert "--seeds" in lines[0]
        assert "MNIST_EPOCHS" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "named"),
    [
        ("--arch cnn-smal", 2, "cnn-small"),
        ("--recipe cnn26k", 2, "cnn-26k"),
        ("--epochs 0 --lr -1", 2, "--lr"),
        ("--dataset mnits", 2, "mnits"),
        ("--width 3 --arch mlp", 2, "--width"),
        ("--val-size 5000", 2, "--val-size"),
        ("--val-size 0.0001", 2, "--val-size"),
        ("--val-size 2.5", 2, "--val-size"),
        ("--config none.json", 2, "none.json"),
        ("--name ../up", 2, "../up"),
        ("--arch ann --batch-size 1", 2, "--batch-size"),
        ("--until 90 --val-size 0", 2, "until"),
        (f"--arch mlp --hidden {'65536 ' * 8}", 2, "--hidden"),
        ("--arch cnn --max-params 100", 5, "26,698"),
        ("--arch cnn-small --max-params 45", 5, "--max-params"),
        ("--device cuda", 4, "--device auto"),
        ("--precision float16 --device cpu", 4, "bfloat16"),
        ("--out file", 1, "--out DIR"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    mnist: Mnist, arguments: str, exit_code: int, named: str
) -> None:
    if arguments == "--device cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    Path("file").write_text("")
    result = mnist("train", "--dataset", "digits", *arguments.split())
    assert result.exit_code == exit_code
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout
    assert not list(Path().glob("runs/*"))


def test_a_run_is_never_overwritten(mnist: Mnist) -> None:
    mnist("train", *QUICK, "--name", "one")
    before = Path("runs/one/last.pth").stat().st_mtime_ns
    result = mnist("train", *QUICK, "--name", "one")
    assert result.exit_code == 2
    assert "--resume runs/one" in result.stderr
    assert Path("runs/one/last.pth").stat().st_mtime_ns == before


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="no directory here refuses even root")
def test_a_read_only_output_directory_is_an_error(fork_server: ForkServer) -> None:
    result = fork_server.run("train", *QUICK, "--out", "/sys")
    assert result.exit_code == 1
    assert "/sys/" in result.stderr
    assert "--out DIR" in result.stderr


def test_missing_data_with_offline_names_the_command_that_gets_it(
    mnist: Mnist, tmp_path: Path
) -> None:
    result = mnist("train", "--offline", "--data-dir", tmp_path / "data")
    assert result.exit_code == 3
    assert "mnist download" in result.stderr
    assert not list(Path().glob("runs/*"))


@pytest.mark.slow
def test_a_run_interrupted_in_its_first_epoch_leaves_nothing(fork_server: ForkServer) -> None:
    recipe = "train --recipe cnn-deep --dataset digits --channels 256 512 --name one"
    process = fork_server.start(*recipe.split())
    wait_for(Path("runs/one/environment.json"))
    process.kill(signal.SIGINT)
    assert process.wait().exit_code == 130
    assert not list(Path("runs").iterdir())


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_epoch_and_exits_130() -> None:
    command = "-m mnistcli train --recipe cnn-26k --dataset digits --epochs 10000 --name one"
    process = subprocess.Popen(
        [sys.executable, *command.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(Path("runs/one/metrics.csv"))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert shell_code(process.returncode) == 130
    assert "mnist train --resume runs/one" in stderr
    assert "Traceback" not in stderr
    assert load_checkpoint(Path("runs/one/last.pth")).card.epoch >= 1
    assert not list(Path("runs/one").glob(".*.tmp"))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns_real_mnist_and_reads_a_seven(
    recipe: str, mnist: Mnist, mnist_dir: Path
) -> None:
    """On the first images, of which SGD needs more; `cnn-deep` in a smaller version."""
    num_images = {"mlp-nll-sgd": 54_000, "cnn-deep": 9_600}.get(recipe, 12_800)
    smaller = {"channels": [8, 16, 32, 64]} if recipe == "cnn-deep" else {}
    settings = resolve_settings({"recipe": recipe, "epochs": 1, **smaller}, environ={}).settings
    with start_run(settings, name="some", out=Path("runs")) as run:
        train, val = load_training_data(run.plan, mnist_dir)
        (epoch,) = train_run(run, train.take(torch.arange(num_images)), val.take(torch.arange(500)))
    assert epoch.val_accuracy is not None
    assert epoch.val_accuracy > 0.6  # after one epoch of SGD learning has just begun
    answer = mnist("predict", draw_a_seven(Path("seven.png")), "-c", "some", "-q")
    assert (answer.exit_code, answer.stdout) == (0, "7\n")


def draw_a_seven(path: Path) -> Path:
    from PIL import Image, ImageDraw

    picture = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(picture).line([(25, 22), (75, 22), (45, 80)], fill=0, width=8)
    picture.save(path)
    return path


def test_until_stops_at_the_first_epoch_that_reaches_the_accuracy(mnist: Mnist) -> None:
    epochs = json.loads(mnist("train", *QUICK[:-1], "8", "--json").stdout)["epochs"]
    accuracies = [round(100 * epoch["val_accuracy"], 9) for epoch in epochs]
    target = accuracies[2]
    result = mnist("train", *QUICK[:-1], "8", "--until", str(target), "--name", "part")
    assert re.search(r"Reached [\d.]+ % after \d+\.\d s", result.stdout)
    assert num_epochs("part") == 1 + next(i for i, each in enumerate(accuracies) if each >= target)


def test_a_target_that_is_not_reached_is_reported(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--until", "99.9", "--name", "one")
    assert result.exit_code == 0
    assert "Did not reach 99.9 %" in result.stdout
    assert num_epochs("one") == 2


def test_a_run_that_stopped_early_continues_with_a_higher_target(mnist: Mnist) -> None:
    schedule = ("--schedule", "constant")
    mnist("train", *QUICK, *schedule, "--until", "10", "--name", "one")
    assert num_epochs("one") == 1
    assert "--until 100" in mnist("train", "--resume", "one").stderr
    mnist("train", "--resume", "one", "--until", "100")
    mnist("train", *QUICK, *schedule, "--name", "whole")
    assert_same_weights("one", "whole")


def add_retired_settings(settings: dict[str, Any], teachers: tuple[str, ...]) -> dict[str, Any]:
    """Settings as earlier versions wrote them."""
    table = {"weight": 0.9, "temperature": 2.0}
    return {**settings, "compile": False, "teacher": list(teachers), "distillation": table}


def make_old(run: Path, *teachers: str) -> None:
    """Turn the files of a run into those of an earlier version."""
    path = run / "settings.json"
    path.write_text(json.dumps(add_retired_settings(json.loads(path.read_text()), teachers)))
    for name in ("best.pth", "last.pth"):
        content = torch.load(run / name, weights_only=True)
        content["card"]["settings"] = add_retired_settings(content["card"]["settings"], teachers)
        torch.save(content, run / name)
    state = torch.load(run / "state.pth", weights_only=True)
    state["settings"] = add_retired_settings(state["settings"], teachers)
    state["state"]["teacher"] = "digest" if teachers else None
    torch.save(state, run / "state.pth")


def test_a_run_of_an_earlier_version_is_evaluated_replayed_and_resumed(mnist: Mnist) -> None:
    for name in ("old", "new"):
        mnist("train", *QUICK, "--name", name)
    make_old(Path("runs/old"))
    assert mnist("eval", "old", "-q").stdout == mnist("eval", "new", "-q").stdout
    assert mnist("train", "--config", "runs/old/settings.json", "--dry-run").exit_code == 0
    for name in ("old", "new"):
        assert mnist("train", "--resume", name, "--epochs", "3").exit_code == 0
    assert_same_weights("old", "new")


def test_a_run_trained_with_a_teacher_is_evaluated_but_not_resumed(mnist: Mnist) -> None:
    mnist("train", *QUICK, "--name", "old")
    make_old(Path("runs/old"), "big.pth")
    assert mnist("eval", "old").exit_code == 0
    result = mnist("train", "--resume", "old", "--epochs", "3")
    assert result.exit_code == 3
    assert "--teacher" in result.stderr
