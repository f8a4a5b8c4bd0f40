"""`mnist eval`: which checkpoints and images, the figures, what is saved, exit codes."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import mnistcli
from mnistcli.data.datasets import get_dataset
from mnistcli.evaluation.metrics import wilson_interval
from mnistcli.evaluation.scores import read_score
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT, load_checkpoint
from mnistcli.runs.directory import Run
from tests.helpers.cli import Mnist
from tests.helpers.runs import copy_as_multirun

ON_DIGITS = ("--dataset", "digits")


def test_the_figures_agree_with_each_other(mnist: Mnist, trained: Path) -> None:
    record = json.loads(mnist("eval", trained, "--json").stdout)
    confusion = record["confusion"]
    assert sum(map(sum, confusion)) == record["num_images"] == 360
    num_correct = sum(confusion[k][k] for k in range(10))
    assert record["num_errors"] == 360 - num_correct == len(record["mistakes"])
    assert record["accuracy"] == num_correct / 360
    assert record["interval"] == list(wilson_interval(num_correct, 360))
    assert [each["name"] for each in record["classes"]] == [str(digit) for digit in range(10)]
    for k, each in enumerate(record["classes"]):
        assert each["num_images"] == sum(confusion[k])
        assert each["recall"] == pytest.approx(confusion[k][k] / sum(confusion[k]))
    assert mnist("eval", trained, "-q").stdout == f"{100 * record['accuracy']:.2f}\n"


def test_the_validation_split_is_the_one_of_training(mnist: Mnist, trained: Path) -> None:
    record = json.loads(mnist("eval", trained, "--split", "val", "--json").stdout)
    card = load_checkpoint(trained / "best.pth").card
    assert record["num_images"] == 144
    # Training evaluated the same weights on the same images, also in float32.
    assert record["accuracy"] == pytest.approx(card.val_accuracy)


def test_the_score_is_saved_in_the_run(mnist: Mnist, trained: Path) -> None:
    record = json.loads(mnist("eval", trained, "--json").stdout)
    saved = json.loads((trained / "eval-digits-test.json").read_text())
    assert saved.items() <= record.items()


def test_tta_leaves_nothing_in_the_run(mnist: Mnist, trained: Path) -> None:
    assert json.loads(mnist("eval", trained, "--tta", "--json").stdout)["tta"] is True
    assert not list(trained.glob("eval-*.json"))
    mnist("eval", trained)
    saved = (trained / "eval-digits-test.json").read_bytes()
    assert "TTA" in mnist("eval", trained, "--tta").stdout
    assert (trained / "eval-digits-test.json").read_bytes() == saved


def test_a_score_that_cannot_be_saved_is_still_printed(mnist: Mnist, trained: Path) -> None:
    (trained / "eval-digits-test.json").mkdir()
    result = mnist("eval", trained, "-q")
    assert result.exit_code == 0
    assert float(result.stdout) > 50
    assert "not saved" in result.stderr


def test_a_checkpoint_is_named_in_every_way(mnist: Mnist, trained: Path) -> None:
    shutil.copytree(trained, "runs/small")
    path = str(trained / "best.pth")
    expected = mnist("eval", path, "-q").stdout
    for words in (["small"], ["last"], ["runs/small"], ["-c", "small"], ["--checkpoint", path]):
        assert mnist("eval", *words, "-q").stdout == expected


def test_checkpoints_add_up_in_order(mnist: Mnist, trained: Path) -> None:
    copy_as_multirun(trained, Path("runs/multi"), seeds=range(3), num_copies=2)
    words = ["runs/multi", trained, "-c", str(BUNDLED_CHECKPOINT), "-c", "multi/seed-0"]
    record = json.loads(mnist("eval", *words, *ON_DIGITS, "--json").stdout)
    seeds = [f"runs/multi/seed-{seed}/best.pth" for seed in range(2)]
    assert [each["checkpoint"] for each in record["evaluations"]] == [
        *seeds,
        str(trained / "best.pth"),
        str(BUNDLED_CHECKPOINT),
        seeds[0],
    ]


def test_two_checkpoints_are_compared_and_each_is_saved(mnist: Mnist, trained: Path) -> None:
    other = trained.parent / "other"
    shutil.copytree(trained, other)
    shutil.copy(BUNDLED_CHECKPOINT, other / "best.pth")
    result = mnist("eval", trained, other, *ON_DIGITS, "--ensemble", "--corrupt", "blur")
    assert result.exit_code == 0
    assert "3 corrupted copies" in result.stderr
    accuracies = []
    for path in (trained, other):
        score = read_score(Run(path), "digits", "test")
        assert score
        accuracies.append(100 * score.accuracy)
        assert f"{accuracies[-1]:.2f} %" in result.stdout
    assert len(list(Path().glob("**/eval-*.json"))) == 2
    low, high = sorted(accuracies)
    for bound, exit_code in ((low - 1, 0), ((low + high) / 2, 5)):
        command = ["eval", trained, other, *ON_DIGITS, "-q", "--min-accuracy", f"{bound:.2f}"]
        result = mnist(*command)
        assert result.exit_code == exit_code
        assert list(map(float, result.stdout.split())) == pytest.approx(accuracies, abs=0.01)
    assert "1 of 2 checkpoints" in result.stderr


def test_seeds_of_one_recipe_have_a_mean_and_spread(mnist: Mnist) -> None:
    options = ("--recipe", "mlp-50-50", *ON_DIGITS, "--epochs", "2", "--name", "two")
    assert mnist("train", *options, "--seeds", "2").exit_code == 0
    record = json.loads(mnist("eval", "two", "--ensemble", "--json").stdout)
    first, second = (each["num_errors"] for each in record["evaluations"][:2])
    assert first != second
    spread = record["spread"]
    assert spread["mean"] == pytest.approx(1 - (first + second) / 720)
    assert spread["deviation"] == pytest.approx(abs(first - second) / 360 / 2**0.5)
    assert (spread["num_errors"], spread["num_images"]) == (first + second, 720)


@pytest.mark.parametrize(("bound", "exit_code"), [("1", 0), ("100", 5), ("nan", 5)])
def test_a_required_accuracy_decides_the_exit_code(
    mnist: Mnist, trained: Path, bound: str, exit_code: int
) -> None:
    result = mnist("eval", trained, "--min-accuracy", bound, "--json")
    assert result.exit_code == exit_code
    assert json.loads(result.stdout)["num_images"] == 360


def test_other_classes_are_refused(mnist: Mnist, trained: Path) -> None:
    content = torch.load(trained / "best.pth", weights_only=True)
    content["card"]["classes"] = ["[/x]", *"abcdefghi"]
    torch.save(content, trained / "best.pth")
    result = mnist("eval", trained)
    assert result.exit_code == 2
    assert "other classes" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["x" * 300], 1, "File name too long"),
        (["none.pth"], 3, "none.pth"),
        (["nothing"], 3, "nothing"),
        (["trained/small/metrics.csv"], 3, "metrics.csv"),
        (["--split", "all"], 2, "'all'"),
        (["--dataset", "mnits"], 2, "Did you mean mnist?"),
        (["--min-accuracy", "101"], 2, "--min-accuracy"),
        (["--min-accuracy", "0.97"], 2, "--min-accuracy"),
        (["--dataset", "digits", "--split", "val"], 2, "no validation split of digits"),
        (["--offline", "--data-dir", "nowhere"], 3, "mnist download"),
        (["cnn-small", "--offline", "--data-dir", "nowhere"], 3, "--dataset digits"),
        (["--device", "tpu"], 2, "tpu"),
        (["trained/small", "--corrupt", "blurr"], 2, "Did you mean blur?"),
        (["trained/small", "--ensemble"], 2, "--ensemble"),
        (["trained/small", str(BUNDLED_CHECKPOINT)], 2, "--dataset digits"),
        (["trained/small", "--calibrate", "--split", "val"], 2, "--split test"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_impossible_evaluations_end_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("eval", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_other_classes_are_not_sent_to_the_digits(mnist: Mnist, trained: Path) -> None:
    content = torch.load(trained / "best.pth", weights_only=True)
    content["card"]["classes"] = list(get_dataset("fashion-mnist").classes)
    content["card"]["settings"]["dataset"] = "fashion-mnist"
    torch.save(content, trained / "best.pth")
    result = mnist("eval", trained, "--offline", "--data-dir", "nowhere")
    assert result.exit_code == 3
    assert "--dataset fashion-mnist" in result.stderr
    assert "--dataset digits" not in result.stderr


def test_without_a_name_the_newest_run_is_evaluated_and_named(mnist: Mnist, trained: Path) -> None:
    unnamed = mnist("eval", "--out", "trained", "-q")
    assert unnamed.stdout == mnist("eval", trained, "-q").stdout
    assert "trained/small" in unnamed.stderr


def test_the_bundled_network_is_evaluated_with_a_note(mnist: Mnist) -> None:
    """`mnist eval $(…)` that found no run must not pass for a result.

    Scikit-learn's digits come from other writers and another scanner than MNIST's.
    """
    result = mnist("eval", *ON_DIGITS, "-q")
    assert result.exit_code == 0
    assert float(result.stdout) > 90
    assert "the bundled network" in result.stderr


@pytest.mark.mnist
def test_the_bundled_network_makes_exactly_the_errors_of_its_card(
    mnist: Mnist, mnist_dir: Path
) -> None:
    card = (Path(mnistcli.__file__).parent / "models" / "weights" / "cnn-small.md").read_text()
    stated = re.search(r"(\d+) errors in the 10,000 test images", card)
    assert stated
    record = json.loads(mnist("eval", "--data-dir", mnist_dir, "--json").stdout)
    assert record["num_errors"] == int(stated[1])
    assert record["accuracy"] > 0.994


@pytest.mark.mnist
def test_a_changed_data_file_is_named(mnist: Mnist, mnist_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(mnist_dir, data)
    path = data / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    result = mnist("eval", "--data-dir", data)
    assert result.exit_code == 3
    assert f"{path} is damaged" in result.stderr
