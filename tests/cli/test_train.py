"""`mnist train`: what it writes, what it says, what it refuses."""

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
from tests.helpers.cli import Mnist
from tests.helpers.processes import ForkServer

QUICK = ("--recipe", "mlp-50-50", "--dataset", "digits", "--epochs", "2")


def test_a_run_is_made_and_said_where(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--name", "one")
    assert result.exit_code == 0
    assert "Kept in runs/one" in result.stdout
    assert "mnist eval runs/one\n" in result.stdout
    for words in (
        "mlp: 42,310 parameters",
        "digits: 1,293 to train on, 144 to validate",
        "runs/one",
    ):
        assert words in result.stderr
    assert len(re.findall(r"^ +\d/2 ", result.stderr, re.MULTILINE)) == 2
    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stderr


def test_the_next_command_names_the_same_data(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--data-dir", "my data", "--name", "one")
    assert "mnist eval runs/one --data-dir 'my data'\n" in result.stdout


def test_a_run_without_a_name_is_called_after_recipe_and_time(mnist: Mnist) -> None:
    path = mnist("train", *QUICK, "-q").stdout.strip()
    assert re.fullmatch(r"runs/mlp-50-50-\d{8}-\d{6}", path)
    assert Path(path, "best.pth").is_file()


def test_quiet_prints_the_directory_only(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "-q", "--name", "one")
    assert (result.stdout, result.stderr) == ("runs/one\n", "")


def test_json_says_everything_and_nothing_else(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--json", "--name", "one")
    record = json.loads(result.stdout)
    assert not result.stderr
    assert record["schema_version"] == 1
    assert record["run"] == "runs/one"
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2]
    assert record["best"] in record["epochs"]
    assert record["num_params"] == 42_310
    assert record["precision"]["reason"]


def test_flags_end_up_in_the_settings(mnist: Mnist) -> None:
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


def weights(path: str) -> dict[str, torch.Tensor]:
    content: dict[str, dict[str, torch.Tensor]] = torch.load(path, weights_only=True)
    return content["weights"]


def test_settings_json_replays_to_the_same_bits(mnist: Mnist) -> None:
    mnist("train", "--recipe", "cnn-15k", "--dataset", "digits", "-e", "2", "--augment", "-n", "a")
    mnist("train", "--config", "runs/a/settings.json", "--name", "b")
    first, second = weights("runs/a/last.pth"), weights("runs/b/last.pth")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert Path("runs/a/settings.json").read_text() == Path("runs/b/settings.json").read_text()


def test_another_seed_gives_other_weights(mnist: Mnist) -> None:
    for seed in ("0", "1"):
        mnist("train", *QUICK, "--seed", seed, "--name", seed)
    first, second = weights("runs/0/last.pth"), weights("runs/1/last.pth")
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_best_is_the_epoch_with_the_highest_validation_accuracy(mnist: Mnist) -> None:
    mnist("train", *QUICK, "--epochs", "6", "--lr", "0.05", "--name", "one")
    with Path("runs/one/metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    best = load_checkpoint(Path("runs/one/best.pth")).card
    last = load_checkpoint(Path("runs/one/last.pth")).card
    assert best.val_accuracy == max(float(row["val_accuracy"]) for row in rows)
    assert last.epoch == 6
    assert float(rows[best.epoch - 1]["val_accuracy"]) == best.val_accuracy


def test_without_validation_the_last_epoch_is_kept(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--val-size", "0", "--name", "one")
    assert result.exit_code == 0
    assert "nothing was held out" in result.stdout
    assert load_checkpoint(Path("runs/one/best.pth")).card.epoch == 2


def test_a_dry_run_shows_values_and_sources_and_writes_nothing(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_EPOCHS", "4")
    result = mnist("train", "--arch", "cnn-small", "--lr", "0.5", "--dry-run", "--json")
    record = json.loads(result.stdout)
    assert record["settings"]["model"] == {"arch": "cnn-small", "width": 73}
    assert record["settings"]["epochs"] == 4
    assert record["sources"]["epochs"] == "environment"
    assert record["sources"]["lr"] == "flag"
    assert record["sources"]["ema"] == "recipe cnn-small"
    assert not list(Path().iterdir())
    assert "environment" in mnist("train", "--dry-run").stdout
    quietly = mnist("train", "--dry-run", "-q")
    assert (quietly.exit_code, quietly.stdout, quietly.stderr) == (0, "", "")
    assert json.loads(mnist("train", "--dry-run", "-q", "--json").stdout)["settings"]


def test_a_misspelt_variable_is_noted(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"MNIST_DATA_DIR": "data", "MNIST_ROOT": "data", "MNIST_LR": "0.5"}
    for name, value in {"MNIST_EPOCH": "4", "MNIST_SEEDS": "5", **others}.items():
        monkeypatch.setenv(name, value)
    told = [
        "MNIST_SEEDS sets nothing. Did you mean --seeds?",
        "MNIST_EPOCH sets nothing. Did you mean MNIST_EPOCHS?",
    ]
    for command in (["train", "--dry-run", "-q"], ["summary", "--arch", "mlp", "-q"]):
        assert mnist(*command).stderr.splitlines() == told


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--arch", "cnn-smal"], 2, "Did you mean cnn-small?"),
        (["--recipe", "cnn26k"], 2, "Did you mean cnn-26k?"),
        (["--arch", "mlp", "--recipe", "cnn-26k"], 2, "The recipe cnn-26k is no mlp."),
        (["--epochs", "0"], 2, "--epochs: 0 will not do"),
        (["--epochs", "-3"], 2, "at least 1 and at most 10,000"),
        (["--epochs", "many"], 2, "--epochs: many will not do"),
        (["--lr", "0"], 2, "above 0 and at most 100"),
        (["--lr", "nan"], 2, "--lr: nan will not do"),
        (["--batch-size", "1e9"], 2, "--batch-size"),
        (["--optimizer", "lion"], 2, "one of sgd, adam, adamw"),
        (["--dataset", "mnits"], 2, "--dataset: mnits will not do"),
        (["--width", "3", "--arch", "mlp"], 2, "the architecture mlp has no such setting"),
        (["--hidden", "0", "--arch", "mlp"], 2, "whole numbers from 1 to 65,536"),
        (["--loss", "nll", "--label-smoothing", "0.1"], 2, "label_smoothing needs"),
        (["--val-size", "5000"], 2, "leaves nothing to train on"),
        (["--config", "none.json"], 2, "No such file"),
        (["--name", "../up"], 2, "cannot name a run"),
        (["--arch", "cnn", "--max-params", "100"], 5, "26,698 parameters, more than 100"),
        (["--arch", "cnn-small", "--max-params", "45"], 5, "No cnn-small fits 45 parameters."),
        (["--arch", "ann", "--batch-size", "1"], 2, "cannot be trained on one picture"),
        (["--val-size", "0.0001"], 2, "leaves nothing to validate on"),
        (["--val-size", "2.5"], 2, "is no whole number of pictures"),
        (["--arch", "mlp", "--hidden", *["65536"] * 8], 2, "do not fit in memory"),
        (["--device", "cuda"], 4, "--device auto"),
        (["--precision", "float16", "--device", "cpu"], 4, "bfloat16, float32 or auto"),
    ],
)
def test_wrong_settings_end_in_a_message_and_leave_nothing(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    if arguments[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = mnist("train", "--dataset", "digits", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout
    assert not list(Path().glob("runs/*"))


def test_several_wrong_settings_are_named_together(mnist: Mnist) -> None:
    result = mnist("train", "--epochs", "0", "--lr", "-1")
    assert "2 settings are wrong" in result.stderr
    assert "--epochs: 0" in result.stderr
    assert "--lr: -1" in result.stderr


@pytest.mark.parametrize("text", ['{"epoch": 3}', "{", "[1]", '{"epochs": "x"}'])
def test_a_wrong_config_file_is_named(mnist: Mnist, text: str) -> None:
    Path("my.json").write_text(text)
    result = mnist("train", "--config", "my.json")
    assert result.exit_code == 2
    assert "my.json" in result.stderr


def test_a_name_that_is_taken_costs_no_training(mnist: Mnist) -> None:
    mnist("train", *QUICK, "--name", "one")
    before = Path("runs/one/last.pth").stat().st_mtime_ns
    result = mnist("train", *QUICK, "--name", "one")
    assert result.exit_code == 2
    assert "runs/one already" in result.stderr
    assert Path("runs/one/last.pth").stat().st_mtime_ns == before


def test_an_output_place_that_is_a_file_is_an_error(mnist: Mnist) -> None:
    Path("file").write_text("")
    result = mnist("train", *QUICK, "--out", "file")
    assert result.exit_code == 1
    assert "--out DIR" in result.stderr


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="no directory here refuses even root")
def test_a_read_only_output_directory_is_an_error(fork_server: ForkServer) -> None:
    result = fork_server.run("train", *QUICK, "--out", "/sys")
    assert result.exit_code == 1
    assert "Cannot write /sys/" in result.stderr
    assert "--out DIR" in result.stderr


def test_runs_without_a_name_never_collide(mnist: Mnist) -> None:
    paths = [mnist("train", *QUICK, "--epochs", "1", "-q").stdout.strip() for _ in range(3)]
    assert len(set(paths)) == 3
    assert all(Path(path, "best.pth").is_file() for path in paths)


def test_missing_data_with_offline_says_which_command_gets_it(mnist: Mnist, tmp_path: Path) -> None:
    result = mnist("train", "--offline", "--data-dir", tmp_path / "data")
    assert result.exit_code == 3
    assert "mnist download" in result.stderr
    assert "train-images-idx3-ubyte.gz" in result.stderr
    assert not list(Path().glob("runs/*"))


def shell_code(returncode: int) -> int:
    """The exit code as a shell reports it, 128 + n for a process that ended by signal n.

    Python ends itself by SIGINT at the very end, whatever it was told to exit with, if Ctrl-C
    came while it ran code from a string, as dataclasses do when a module is imported.
    """
    return 128 - returncode if returncode < 0 else returncode


def test_a_run_interrupted_in_its_first_epoch_leaves_nothing(fork_server: ForkServer) -> None:
    recipe = "train --recipe cnn-deep --dataset digits --channels 256 512 --name one"
    child = fork_server.start(*recipe.split())
    deadline = time.monotonic() + 120
    while not Path("runs/one/environment.json").exists():
        assert time.monotonic() < deadline, "training has not begun"
        time.sleep(0.05)
    child.kill(signal.SIGINT)
    assert child.wait().exit_code == 130
    assert not list(Path("runs").iterdir())


def test_ctrl_c_keeps_the_last_epoch_and_exits_130() -> None:
    command = "-m mnistcli train --recipe cnn-26k --dataset digits --epochs 10000 --name one"
    process = subprocess.Popen(
        [sys.executable, *command.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not Path("runs/one/metrics.csv").exists():
        assert time.monotonic() < deadline, "no epoch was finished"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert shell_code(process.returncode) == 130
    assert re.search(r"Interrupted after epoch \d+ of 10000\.\nGo on: mnist train --resume", stderr)
    assert "Traceback" not in stderr
    assert load_checkpoint(Path("runs/one/last.pth")).card.epoch >= 1
    assert not list(Path("runs/one").glob(".*.tmp"))


# Whose epoch takes but seconds, and how much of the validation set they read after it at least:
# after one epoch of SGD the slowest has just begun to read.
QUICK_RECIPES = {"mlp-50-50": 0.9, "mlp-120-84": 0.9, "mlp-nll-sgd": 0.6, "cnn-15k": 0.9}


@pytest.mark.mnist
@pytest.mark.parametrize("recipe", QUICK_RECIPES)
def test_a_recipe_trains_an_epoch_on_real_mnist_and_reads_a_seven(
    recipe: str, mnist: Mnist, mnist_dir: Path
) -> None:
    arguments = ("train", "--recipe", recipe, "--epochs", "1", "--name", recipe, "--json")
    result = mnist(*arguments, "--data-dir", mnist_dir)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["best"]["val_accuracy"] > QUICK_RECIPES[recipe]
    answer = mnist("predict", draw_a_seven(Path("seven.png")), "-c", recipe, "-q")
    assert (answer.exit_code, answer.stdout) == (0, "7\n")


@pytest.mark.mnist
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in QUICK_RECIPES])
def test_a_slower_recipe_trains_on_real_mnist_and_reads_a_seven(
    recipe: str, mnist: Mnist, mnist_dir: Path
) -> None:
    """On the first images: an epoch of all of them takes up to minutes."""
    # Its pictures have five times the pixels, its recipe sixteen channels and more.
    is_deep = recipe == "cnn-deep"
    num, smaller = (9_600, {"channels": [8, 16, 32, 64]}) if is_deep else (12_800, {})
    settings = resolve_settings({"recipe": recipe, "epochs": 1, **smaller}, environ={}).settings
    with start_run(settings, name="slow", out=Path("runs")) as start:
        train, val = load_training_data(start.plan, mnist_dir)
        some = (train.take(torch.arange(num)), val.take(torch.arange(500)))
        (epoch,) = train_run(start, *some)
    assert epoch.val_accuracy is not None
    assert epoch.val_accuracy > 0.9
    answer = mnist("predict", draw_a_seven(Path("seven.png")), "-c", "slow", "-q")
    assert (answer.exit_code, answer.stdout) == (0, "7\n")


def draw_a_seven(path: Path) -> Path:
    from PIL import Image, ImageDraw

    picture = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(picture).line([(25, 22), (75, 22), (45, 80)], fill=0, width=8)
    picture.save(path)
    return path


def test_until_stops_at_the_first_epoch_that_is_accurate_enough(mnist: Mnist) -> None:
    whole = json.loads(mnist("train", *QUICK[:-1], "8", "--json", "--name", "whole").stdout)
    accuracies = [round(100 * epoch["val_accuracy"], 9) for epoch in whole["epochs"]]
    result = mnist("train", *QUICK[:-1], "8", "--until", str(accuracies[2]), "--name", "part")
    assert re.search(r"Reached [\d.]+ % after \d+\.\d s, start-up included\.", result.stdout)
    first = next(index for index, each in enumerate(accuracies) if each >= accuracies[2])
    assert len(Path("runs/part/metrics.csv").read_text().splitlines()) == first + 2


def test_until_that_is_not_reached_trains_all_epochs_and_says_so(mnist: Mnist) -> None:
    result = mnist("train", *QUICK, "--until", "99.9")
    assert result.exit_code == 0
    assert "Did not reach 99.9 %: " in result.stdout
    assert len(re.findall(r"^ +\d/2 ", result.stderr, re.MULTILINE)) == 2


def test_a_run_that_stopped_early_goes_on_when_more_is_asked(mnist: Mnist) -> None:
    schedule = ("--schedule", "constant")
    mnist("train", *QUICK, *schedule, "--until", "10", "--name", "one")
    assert len(Path("runs/one/metrics.csv").read_text().splitlines()) == 2
    again = mnist("train", "--resume", "one")
    assert "It has reached 10 %; to train on: --until 100" in again.stderr
    mnist("train", "--resume", "one", "--until", "100")
    mnist("train", *QUICK, *schedule, "--name", "whole")
    one, whole = weights("runs/one/last.pth"), weights("runs/whole/last.pth")
    assert all(torch.equal(one[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--until", "101"),
            "--until: 101 will not do; it must be a number at least 1 and at most",
        ),
        (("--until", "90", "--val-size", "0"), "until needs a val_size above 0"),
    ],
)
def test_until_must_be_something_that_can_be_reached(
    mnist: Mnist, flags: tuple[str, ...], words: str
) -> None:
    result = mnist("train", *QUICK, *flags)
    assert result.exit_code == 2
    assert words in result.stderr


def with_retired_settings(settings: dict[str, Any], teacher: tuple[str, ...]) -> dict[str, Any]:
    """Settings as version 0.1.0 wrote them."""
    table = {"weight": 0.9, "temperature": 2.0}
    return {**settings, "compile": False, "teacher": list(teacher), "distillation": table}


def of_an_earlier_version(run: Path, teacher: str | None = None) -> None:
    """Give the files of a run the settings that have been removed since."""
    teachers = (teacher,) if teacher else ()
    path = run / "settings.json"
    settings = with_retired_settings(json.loads(path.read_text()), teachers)
    path.write_text(json.dumps(settings))
    for name in ("best.pth", "last.pth"):
        content = torch.load(run / name, weights_only=True)
        content["card"]["settings"] = with_retired_settings(content["card"]["settings"], teachers)
        torch.save(content, run / name)
    state = torch.load(run / "state.pth", weights_only=True)
    state["settings"] = with_retired_settings(state["settings"], teachers)
    state["state"]["teacher"] = teacher and "digest"
    torch.save(state, run / "state.pth")


def test_a_run_of_an_earlier_version_is_evaluated_replayed_and_resumed(mnist: Mnist) -> None:
    for name in ("old", "new"):
        mnist("train", *QUICK, "--name", name)
    of_an_earlier_version(Path("runs/old"))
    assert mnist("eval", "old", "-q").stdout == mnist("eval", "new", "-q").stdout
    assert mnist("train", "--config", "runs/old/settings.json", "--dry-run").exit_code == 0
    for name in ("old", "new"):
        assert mnist("train", "--resume", name, "--epochs", "3").exit_code == 0
    old, new = weights("runs/old/last.pth"), weights("runs/new/last.pth")
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_a_run_that_had_a_teacher_is_evaluated_but_not_resumed(mnist: Mnist) -> None:
    mnist("train", *QUICK, "--name", "old")
    of_an_earlier_version(Path("runs/old"), teacher="big.pth")
    assert mnist("eval", "old").exit_code == 0
    result = mnist("train", "--resume", "old", "--epochs", "3")
    assert result.exit_code == 3
    assert "--teacher" in result.stderr
