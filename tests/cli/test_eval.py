"""`mnist eval`: figures, splits, gates."""

import json
from pathlib import Path

import pytest
import torch

from mnistcli.evaluation.metrics import wilson_interval
from mnistcli.runs.checkpoint import load_checkpoint
from tests.helpers.cli import Mnist

CLASSES = [str(digit) for digit in range(10)]


def test_the_figures_agree_with_each_other(mnist: Mnist, trained: Path) -> None:
    record = json.loads(mnist("eval", trained, "--json").stdout)
    confusion = record["confusion"]
    assert sum(map(sum, confusion)) == record["num_images"] == 360
    num_correct = sum(confusion[k][k] for k in range(10))
    assert record["num_errors"] == 360 - num_correct == len(record["mistakes"])
    assert record["accuracy"] == num_correct / 360
    assert record["interval"] == list(wilson_interval(num_correct, 360))
    assert [each["name"] for each in record["classes"]] == CLASSES
    for k, each in enumerate(record["classes"]):
        assert each["num_images"] == sum(confusion[k])
        assert each["recall"] == pytest.approx(confusion[k][k] / sum(confusion[k]))


def test_a_person_sees_accuracy_interval_classes_and_confusion(mnist: Mnist, trained: Path) -> None:
    result = mnist("eval", trained)
    assert result.exit_code == 0
    for words in ("Accuracy", "360 test images of digits", "95 % interval", "precision", "Rows"):
        assert words in result.stdout
    assert not result.stderr


def test_quiet_prints_the_accuracy_only(mnist: Mnist, trained: Path) -> None:
    record = json.loads(mnist("eval", trained, "--json").stdout)
    assert mnist("eval", trained, "-q").stdout == f"{100 * record['accuracy']:.2f}\n"


def test_the_validation_split_is_the_one_training_held_out(mnist: Mnist, trained: Path) -> None:

    record = json.loads(mnist("eval", trained, "--split", "val", "--json").stdout)
    card = load_checkpoint(trained / "best.pth").card
    assert record["num_images"] == 144
    # Training judged the same weights on the same images, also in float32.
    assert record["accuracy"] == pytest.approx(card.val_accuracy)


def test_eval_keeps_its_result_in_the_run(mnist: Mnist, trained: Path) -> None:
    record = json.loads(mnist("eval", trained, "--json").stdout)
    kept = json.loads((trained / "eval-digits-test.json").read_text())
    assert kept.items() <= record.items()
    assert kept["num_errors"] == 360 - sum(row[k] for k, row in enumerate(kept["confusion"]))


def test_a_run_is_found_by_name(mnist: Mnist, trained: Path) -> None:
    assert mnist("eval", "small", "--out", trained.parent, "-q").exit_code == 0
    assert mnist("eval", "last", "--out", trained.parent, "-q").exit_code == 0


@pytest.mark.parametrize(("bound", "exit_code"), [("1", 0), ("100", 5)])
def test_a_gate_decides_the_exit_code(
    mnist: Mnist, trained: Path, bound: str, exit_code: int
) -> None:
    result = mnist("eval", trained, "--min-accuracy", bound, "--json")
    assert result.exit_code == exit_code
    assert json.loads(result.stdout)["num_images"] == 360
    assert ("below 100 %" in result.stderr) is (exit_code == 5)


def test_a_bound_that_is_no_number_is_not_met(mnist: Mnist, trained: Path) -> None:
    assert mnist("eval", trained, "--min-accuracy", "nan").exit_code == 5


def test_a_record_is_no_checkpoint(mnist: Mnist, trained: Path) -> None:
    result = mnist("eval", trained / "metrics.csv")
    assert result.exit_code == 3
    assert "is no checkpoint that this version reads" in result.stderr


def test_other_classes_are_not_judged(mnist: Mnist, trained: Path) -> None:
    content = torch.load(trained / "best.pth", weights_only=True)
    content["card"]["classes"] = ["[/x]", *"abcdefghi"]
    torch.save(content, trained / "best.pth")
    result = mnist("eval", trained)
    assert result.exit_code == 2
    assert "whose classes are others" in result.stderr


def test_a_score_that_cannot_be_kept_is_printed_all_the_same(mnist: Mnist, trained: Path) -> None:
    (trained / "eval-digits-test.json").mkdir()
    result = mnist("eval", trained, "-q")
    assert result.exit_code == 0
    assert float(result.stdout) > 50
    assert "Not kept" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["x" * 300], 1, "File name too long"),
        (["none.pth"], 3, "none.pth cannot be read"),
        (["nothing"], 3, "There is no run 'nothing'"),
        (["--split", "train"], 2, "There is no split 'train'"),
        (["--dataset", "mnits"], 2, "Did you mean mnist?"),
        (["--min-accuracy", "101"], 2, "--min-accuracy"),
        (["--min-accuracy", "0.97"], 2, "--min-accuracy"),
        (["--dataset", "digits", "--split", "val"], 2, "no validation split of digits"),
        (["--offline", "--data-dir", "nowhere"], 3, "mnist download"),
        (["--device", "tpu"], 2, "tpu"),
    ],
)
def test_what_cannot_be_judged_ends_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("eval", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_the_bundled_network_is_judged_by_its_name_alone(mnist: Mnist) -> None:
    """`mnist eval $(…)` that found no run must not pass for an answer."""
    result = mnist("eval", "--dataset", "digits", "-q")
    assert "No run was named: this is the bundled network." in result.stderr


def test_the_bundled_weights_read_other_peoples_digits(mnist: Mnist) -> None:
    """Scikit-learn's digits come from other writers and another scanner than MNIST's."""
    result = mnist("eval", "--dataset", "digits", "-q")
    assert result.exit_code == 0
    assert float(result.stdout) > 90


@pytest.mark.mnist
def test_the_bundled_weights_make_exactly_the_cards_errors(mnist: Mnist, mnist_dir: Path) -> None:
    import re

    import mnistcli

    card = (Path(mnistcli.__file__).parent / "models" / "weights" / "cnn-small.md").read_text()
    stated = re.search(r"(\d+) errors in the 10,000 test images", card)
    assert stated
    record = json.loads(mnist("eval", "--data-dir", mnist_dir, "--json").stdout)
    assert record["num_errors"] == int(stated[1])
    assert record["accuracy"] > 0.994


@pytest.mark.mnist
def test_an_altered_file_is_named(mnist: Mnist, mnist_dir: Path, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(mnist_dir, data)
    path = data / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    result = mnist("eval", "--data-dir", data)
    assert result.exit_code == 3
    assert f"{path} is damaged" in result.stderr
