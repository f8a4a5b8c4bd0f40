"""Users' own data sets on the command line: train, resume, fine-tune, evaluate, plot, export."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistcli.data import own_data
from mnistcli.runs.checkpoint import load_checkpoint
from tests.helpers.cli import Mnist, Terminal
from tests.helpers.own_data import (
    digit_arrays,
    write_class_folders,
    write_labeled_pictures,
    write_npz,
    write_table,
)

TRAIN = ("--recipe", "mlp-50-50", "--epochs", "2", "--batch-size", "16", "-q", "--name")


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_DATA_DIR", str(tmp_path / "data"))
    own_data._latest.clear()


@pytest.fixture
def table() -> Path:
    """200 digits as a CSV file."""
    return write_table(Path("digits.csv").absolute(), *digit_arrays(200))


def evaluated(mnist: Mnist, *args: str | Path) -> dict[str, Any]:
    result = mnist("eval", *args, "--json")
    assert result.exit_code == 0, result.stderr
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def test_a_run_on_a_table_is_trained_evaluated_and_used(mnist: Mnist, table: Path) -> None:
    result = mnist("train", "--dataset", "digits.csv", *TRAIN, "own")
    assert result.exit_code == 0, result.stderr
    settings = json.loads(Path("runs/own/settings.json").read_text())
    assert settings["dataset"] == str(table)
    assert settings["own_data"]["classes"] == list("0123456789")
    card = load_checkpoint(Path("runs/own/best.pth")).card
    assert card.settings.own_data
    record = evaluated(mnist, "own")
    assert (record["dataset"], record["num_images"]) == (str(table), 20)
    assert record["digest"] == card.settings.own_data.digest
    assert record["test_seed"] == 0
    assert evaluated(mnist, "own", "--split", "val")["num_images"] == 18
    assert evaluated(mnist, "own", "--split", "train")["num_images"] == 162
    text = mnist("eval", "own").stdout
    assert "20 test images of digits.csv" in text
    assert "20 images of digits.csv" in mnist("runs", "own").stdout
    (row,) = json.loads(mnist("runs", "--dataset", "digits.csv", "--json").stdout)["runs"]
    assert row["test"]["num_images"] == 20
    for kind in ("mistakes", "samples", "confusion", "calibration", "embedding", "report"):
        assert mnist("plot", "own", "--kind", kind, "-q").exit_code == 0, kind
    assert mnist("export", "own", "-o", "own.c", "-q").exit_code == 0
    assert mnist("summary", "own", "-q").stdout.strip() == "42310"


def test_what_is_held_out_is_said(mnist: Mnist, table: Path) -> None:
    result = mnist("train", "-d", table, *[word for word in TRAIN if word != "-q"], "own")
    assert "10 % held out for testing by seed 0" in result.stdout
    assert "held out by --seed 0" in mnist("eval", "own").stderr
    assert "all 200 images" in mnist("eval", "cnn-small", "-d", table).stderr


def test_runs_with_several_seeds_hold_out_the_same_test_images(mnist: Mnist, table: Path) -> None:
    assert mnist("train", "-d", table, "--seeds", "2", "--seed", "5", *TRAIN, "m").exit_code == 0
    record = evaluated(mnist, "m")
    assert [each["test_seed"] for each in record["evaluations"]] == [5, 5]
    table.rename("moved.csv")
    resume = ("train", "--resume", "m", "--epochs", "3", "-q")
    assert mnist(*resume).exit_code == 3
    assert mnist(*resume, "-d", "moved.csv").exit_code == 0
    assert evaluated(mnist, "m")["evaluations"][1]["dataset"].endswith("/moved.csv")
    assert mnist("train", "-d", "moved.csv", *TRAIN, "other").exit_code == 0
    result = mnist("eval", "m", "other")
    assert result.exit_code == 2
    assert "different test images" in result.stderr


def test_a_run_finds_its_data_from_any_directory_and_after_a_move(
    mnist: Mnist, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mnist("train", "-d", table, *TRAIN, "own").exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "runs" / "own"
    assert mnist("train", "--resume", run, "--epochs", "3", "-q").exit_code == 0
    before = evaluated(mnist, run)
    shutil.move(table, "moved.csv")
    for command in (("eval", run), ("train", "--resume", run, "--epochs", "4")):
        result = mnist(*command)
        assert result.exit_code == 3
        assert str(table) in result.stderr
        assert "--dataset PATH" in result.stderr
    moved = evaluated(mnist, run, "-d", "moved.csv")
    same = ("num_images", "num_errors", "digest", "test_seed", "mistakes")
    assert [moved[key] for key in same] == [before[key] for key in same]
    result = mnist("train", "--resume", run, "--epochs", "4", "-d", "moved.csv", "-q")
    assert result.exit_code == 0, result.stderr
    assert mnist("train", "--resume", run, "--epochs", "5", "-q").exit_code == 0
    # As a program that uses the network elsewhere, without the data.
    Path("moved.csv").unlink()
    assert mnist("export", run, "-o", "own.c", "-q").exit_code == 0
    assert mnist("summary", run, "-q").exit_code == 0


def test_changed_data_are_refused(mnist: Mnist, table: Path) -> None:
    assert mnist("train", "-d", table, *TRAIN, "own").exit_code == 0
    images, labels = digit_arrays(210)
    write_table(table, images, labels)
    config = ("--config", "runs/own/settings.json")
    for command in (
        ("eval", "own"),
        ("eval", "own", "-d", table),
        ("train", "--resume", "own", "--epochs", "3"),
        ("train", *config, "-q"),
        ("plot", "own", "--kind", "samples"),
    ):
        result = mnist(*command)
        assert result.exit_code == 3, command
        assert "has changed" in result.stderr
    assert mnist("train", *config, "-d", table, "-q", "--name", "new").exit_code == 0
    images_2, _ = digit_arrays(30)
    other = write_table(Path("other.csv"), images_2, labels[:30])
    assert evaluated(mnist, "own", "-d", other)["num_images"] == 30


def test_a_run_is_repeated_by_its_settings_file(mnist: Mnist, table: Path) -> None:
    assert mnist("train", "-d", table, "--seeds", "2", *TRAIN, "m").exit_code == 0
    result = mnist("train", "--config", "runs/m/seed-1/settings.json", "-q", "--name", "again")
    assert result.exit_code == 0
    again, before = Path("runs/again"), Path("runs/m/seed-1")
    assert (again / "last.pth").read_bytes() == (before / "last.pth").read_bytes()


def test_letters_and_62_classes_work_everywhere(mnist: Mnist, terminal: Terminal) -> None:
    names = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    images, _ = digit_arrays(620)
    labels = [names[number % 62] for number in range(620)]
    write_table(Path("letters.csv"), images, labels)
    assert mnist("train", "-d", "letters.csv", *TRAIN, "own").exit_code == 0
    record = evaluated(mnist, "own")
    assert [each["name"] for each in record["classes"]] == list(names)
    assert np.array(record["confusion"]).shape == (62, 62)
    matrix = mnist("eval", "own").stdout.splitlines()[-62:]
    assert [line.split()[0] for line in matrix] == list(names)
    shown = terminal("eval own", MNIST_DATA_DIR=str(Path("data").absolute()))
    assert "--kind confusion" in shown
    lines = re.sub(r"\x1b\[[\d?;]*\w", "", shown).splitlines()
    assert max(map(len, lines)) <= 80
    for kind in ("mistakes", "samples", "confusion", "calibration"):
        assert mnist("plot", "own", "--kind", kind, "-q").exit_code == 0, kind
    assert mnist("summary", "own", "-q").stdout.strip() == str(42_310 + 52 * 51)
    result = mnist("export", "own", "-o", "own.c", "--main", "-q")
    assert result.exit_code == 0, result.stderr
    assert "probabilities[62]" in Path("own.h").read_text()
    write_class_folders(Path("pictures"), 1)
    result = mnist(
        "predict", *Path("pictures").glob("*/*.png"), "-c", "own", "--top", "62", "--json"
    )
    (digit,) = json.loads(result.stdout)["digits"]
    assert list(digit["probabilities"]) == list(names)


def test_pictures_are_trained_on_and_resumed(mnist: Mnist) -> None:
    root = write_class_folders(Path("pictures"), 60)
    (root / "3" / "notes.txt").write_text("x")
    result = mnist("train", "-d", root, *TRAIN, "own")
    assert result.exit_code == 0, result.stderr
    assert "not pictures" in result.stderr
    shutil.rmtree("data")
    own_data._latest.clear()
    assert mnist("train", "--resume", "own", "--epochs", "3", "-q").exit_code == 0
    shutil.rmtree("data")
    own_data._latest.clear()
    assert evaluated(mnist, "own")["num_images"] == 6
    for kind in ("samples", "mistakes", "saliency"):
        shutil.rmtree("data")
        own_data._latest.clear()
        assert mnist("plot", "own", "--kind", kind, "-q").exit_code == 0
    for known in ("digits", "Digits"):
        result = mnist("train", "-d", known, "--raw", *TRAIN, "x")
        assert result.exit_code == 2
        assert "--raw is for your own pictures" in result.stderr
    assert mnist("train", "--raw", *TRAIN, "x").exit_code == 2
    assert mnist("eval", "own", "--raw").exit_code == 2


def test_fine_tuning_starts_from_the_weights_of_a_run(mnist: Mnist, trained: Path) -> None:
    drawings = write_labeled_pictures(Path("drawings"), 30)
    options = ("--from", trained, "-d", drawings)
    plan = json.loads(mnist("train", *options, "--dry-run", "--json").stdout)
    before = load_checkpoint(trained / "best.pth")
    assert plan["settings"]["model"] == before.card.settings.model.model_dump(mode="json")
    assert plan["settings"]["lr"] == pytest.approx(0.1 * before.card.settings.lr)
    assert plan["settings"]["start"]["checkpoint"] == str(trained / "best.pth")
    result = mnist("train", *options, "--epochs", "1", "--lr", "1e-8", "-q", "--name", "tuned")
    assert result.exit_code == 0, result.stderr
    card = load_checkpoint(Path("runs/tuned/last.pth")).card
    assert (card.mean, card.std) == (before.card.mean, before.card.std)
    assert card.classes == before.card.classes
    accuracies = mnist("eval", "tuned", trained, "-d", drawings, "-q").stdout.split()
    assert accuracies[0] == accuracies[1], "such small steps change nothing"
    shutil.rmtree(trained)
    assert mnist("train", "--resume", "tuned", "--epochs", "2", "-q").exit_code == 0
    assert mnist("train", "--config", "runs/tuned/settings.json", "-q").exit_code == 3


def test_fine_tuning_keeps_the_classes_or_gets_a_new_last_layer(
    mnist: Mnist, trained: Path
) -> None:
    images, labels = digit_arrays(100)
    few = [label < 4 for label in labels]
    digits = write_table(Path("few.csv"), images[few], [label for label in labels if label < 4])
    letters = write_table(Path("letters.csv"), images, ["abcdefghij"[label] for label in labels])
    epochs = ("--epochs", "1", "--batch-size", "16", "-q", "--name")
    assert mnist("train", "--from", trained, "-d", digits, *epochs, "few").exit_code == 0
    assert mnist("train", "--from", trained, "-d", letters, *epochs, "letters").exit_code == 0
    few_classes, letter_classes = (
        load_checkpoint(Path("runs", name, "best.pth")).card.classes for name in ("few", "letters")
    )
    assert few_classes == tuple("0123456789")
    assert letter_classes == tuple("abcdefghij")
    assert evaluated(mnist, "few")["classes"][9]["num_images"] == 0
    assert mnist("eval", "few", "letters").exit_code == 2


def test_fine_tuning_on_the_same_data_keeps_the_test_images_unseen(
    mnist: Mnist, table: Path
) -> None:
    assert mnist("train", "-d", table, "--seed", "3", *TRAIN, "own").exit_code == 0
    changes = ("--from", "own", "-d", table, "--epochs", "1", "-q", "--name", "tuned")
    assert mnist("train", *changes).exit_code == 0
    assert evaluated(mnist, "tuned")["test_seed"] == 3


@pytest.mark.parametrize(
    "options",
    [
        ("--hidden", "9"),
        ("--recipe", "cnn-15k"),
        ("--config", "runs/x/settings.json"),
    ],
)
def test_options_that_change_the_network_exclude_from(
    mnist: Mnist, trained: Path, options: tuple[str, str]
) -> None:
    result = mnist("train", "--from", trained, *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert "--from" in result.stderr


def test_an_empty_name_to_start_from_is_not_ignored(mnist: Mnist) -> None:
    assert mnist("train", "--from", "", "-q", "--name", "x").exit_code == 3
    assert not Path("runs/x").exists()


def test_a_training_size_uses_the_first_images_and_the_same_validation(mnist: Mnist) -> None:
    for size in ("100", "200"):
        result = mnist("train", "-d", "digits", "--train-size", size, *TRAIN, f"n{size}")
        assert result.exit_code == 0
    records = [evaluated(mnist, name, "--split", "train") for name in ("n100", "n200")]
    assert [record["num_images"] for record in records] == [100, 200]
    assert evaluated(mnist, "n100", "n200", "--split", "val")["num_images"] == 144
    assert mnist("eval", "n100", "n200", "--split", "train").exit_code == 2
    assert mnist("eval", "n100", "--split", "train", "--calibrate").exit_code == 2
    result = mnist("train", "-d", "digits", "--train-size", "1400", *TRAIN, "x")
    assert result.exit_code == 2
    assert "1,293 of 1,437" in result.stderr
    assert not Path("runs/x").exists()


def test_a_submission_is_written_for_kaggle(mnist: Mnist, trained: Path) -> None:
    images, _ = digit_arrays(20)
    write_table(Path("test.csv"), images)
    result = mnist("predict", "test.csv", "-c", trained, "--submission", "s.csv", "--json")
    assert json.loads(result.stdout)["num_images"] == 20
    assert len(Path("s.csv").read_text().splitlines()) == 21
    assert "MNIST" not in result.stderr
    assert "MNIST" in mnist("predict", "test.csv", "--submission", "s.csv").stderr
    options = ("--epochs", "1", "-q", "--name", "tuned")
    assert mnist("train", "--from", "cnn-small", "-d", "digits", *options).exit_code == 0
    result = mnist("predict", "test.csv", "-c", "tuned", "--submission", "s.csv")
    assert "MNIST" in result.stderr
    for words in (
        ("test.csv", "s.csv", "--submission", "t.csv"),
        ("test.csv", "--submission", "test.csv"),
        ("test.csv", "--submission", "no/where.csv"),
        ("test.csv", "--submission", "t.csv", "--single"),
    ):
        assert mnist("predict", *words).exit_code == 2, words
    assert mnist("predict", "gone.csv", "--submission", "t.csv").exit_code == 3
    assert not Path("t.csv").exists()


@pytest.mark.parametrize("name", ["./gone", "gone/"])
def test_a_missing_directory_is_a_path(mnist: Mnist, name: str) -> None:
    result = mnist("train", "--dataset", name, *TRAIN, "x")
    assert result.exit_code == 3
    assert str(Path("gone").absolute()) in result.stderr


def test_one_s_own_data_are_not_downloaded(mnist: Mnist, table: Path) -> None:
    assert mnist("download", "--dataset", table).exit_code == 2


def test_data_with_one_class_train_nothing_new(mnist: Mnist) -> None:
    images, _ = digit_arrays(20)
    write_npz(Path("ones.npz"), images=images, labels=np.ones(20, int))
    result = mnist("train", "-d", "ones.npz", *TRAIN, "x")
    assert result.exit_code == 2
    assert "one class" in result.stderr
    assert evaluated(mnist, "-d", "ones.npz")["num_images"] == 20
