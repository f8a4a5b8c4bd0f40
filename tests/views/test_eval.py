"""What `mnist eval` prints, for people and for programs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.compare import compare_all
from mnistcli.evaluation.evaluate import Evaluation
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT
from mnistcli.views.eval import checkpoint_names, show_evaluations
from tests.helpers.cli import Mnist
from tests.helpers.evaluation import make_score
from tests.helpers.settings import resolve

ON_DIGITS = ("--dataset", "digits")


def evaluation(name: str, wrong: range, *, seed: int = 0) -> Evaluation:
    score = make_score(name, wrong)
    bins = [ConfidenceBin(100, score.accuracy, score.accuracy - 0.05)]
    settings = resolve(arch="mlp", seed=seed)
    return Evaluation(replace(score, bins=bins), settings, 1_000, doubtful=(1, 2, 50))


def shown(capsys: pytest.CaptureFixture[str], *evaluations: Evaluation) -> str:
    comparisons = compare_all([each.score for each in evaluations])
    show_evaluations(evaluations, comparisons, as_json=False, quiet=False)
    return capsys.readouterr().out


def test_one_checkpoint_is_shown_class_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, evaluation("x/a.pth", range(6))).splitlines() == [
        "x/a.pth (mlp-120-84)",
        "Accuracy 94.00 % on 100 test images of mnist",
        "95 % interval 25.00 to 75.00 % (Wilson), 6 errors, loss 0.5000, ECE 5.00 %",
        "Errors on the 3 images with a doubtful label: 2",
        "",
        "class   images   precision    recall        F1",
        "──────────────────────────────────────────────",
        "a           60     50.00 %   60.00 %   70.00 %",
        "b           40     70.00 %   80.00 %   80.00 %",
        "mean       100     60.00 %   70.00 %   75.00 %",
        "",
        "Rows: the true class. Columns: the prediction.",
        "     a    b",
        "───────────",
        "a   60    .",
        "b    6   34",
    ]


def test_checkpoints_are_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = evaluation("a.pth", range(12)), evaluation("b.pth", range(2, 4), seed=1)
    text = shown(capsys, a, b)
    assert text.startswith("2 checkpoints on 100 test images of mnist\n")
    assert "Errors on the 3 images with a doubtful label: 2, 1" in text
    assert "Mean 93.00 %, SD 7.07 %; 95 % interval 88.59 to 95.78 %" in text
    assert "b.pth is better" in text
    assert "precision" not in text
    assert "SD" not in shown(capsys, a, replace(b, settings=a.settings)), "not a repetition"


@pytest.fixture
def pair(trained: Path) -> tuple[str, str]:
    """Two runs; the best checkpoint of the second is the bundled network."""
    other = trained.parent / "other"
    shutil.copytree(trained, other)
    shutil.copy(BUNDLED_CHECKPOINT, other / "best.pth")
    return str(trained), str(other)


def test_runs_are_shown_by_name_where_it_is_unique(pair: tuple[str, str]) -> None:
    shutil.copytree(pair[0], "elsewhere/small")
    first, second, third = (str(Path(path) / "best.pth") for path in (*pair, "elsewhere/small"))
    last = str(Path(pair[0]) / "last.pth")
    assert checkpoint_names([first, second, last]) == ["small", "other", last]
    assert checkpoint_names([first, second, third]) == [pair[0], "other", "elsewhere/small"]
    assert checkpoint_names([first, str(BUNDLED_CHECKPOINT)]) == ["small", "cnn-small"]


def test_a_long_name_is_not_wrapped_in_a_pipe(pair: tuple[str, str], mnist: Mnist) -> None:
    name = "a-network-with-a-name-that-would-be-wrapped-within-eighty-columns-of-text"
    shutil.copytree(pair[0], f"runs/{name}")
    result = mnist("eval", name, pair[1], *ON_DIGITS)
    assert f"\n{name} " in result.stdout


def test_the_record_has_the_figures_of_every_table(pair: tuple[str, str], mnist: Mnist) -> None:
    result = mnist("eval", *pair, *ON_DIGITS, "--ensemble", "--corrupt", "noise,thin", "--json")
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    assert (record["dataset"], record["split"], record["num_images"]) == ("digits", "test", 360)
    first, second, ensemble = record["evaluations"]
    assert record["spread"] is None, "two recipes have no mean"
    assert ensemble["members"] == [first["checkpoint"], second["checkpoint"]]
    for each in record["evaluations"]:
        assert each["macro_f1"] == pytest.approx(fmean(one["f1"] for one in each["classes"]))
        gaps = [
            one["num_images"] * abs(one["accuracy"] - one["confidence"]) for one in each["bins"]
        ]
        assert each["ece"] == pytest.approx(sum(gaps) / 360)
        assert len(each["mistakes"]) == each["num_errors"]
        assert each["doubtful"] == []
        assert [one["severity"] for one in each["corrupted"]] == [1, 2, 3, 1, 2, 3]
        assert each["mean_corrupted_accuracy"] == pytest.approx(
            fmean(one["accuracy"] for one in each["corrupted"])
        )
        assert (each["tta"], each["calibration"]) == (False, None)
    wrong = [{one["index"] for one in each["mistakes"]} for each in (first, second)]
    assert record["pairs"][0] == {
        "first": first["checkpoint"],
        "second": second["checkpoint"],
        "num_only_first": len(wrong[0] - wrong[1]),
        "num_only_second": len(wrong[1] - wrong[0]),
        "num_both": len(wrong[0] & wrong[1]),
        "p": record["pairs"][0]["p"],
    }
    assert len(record["pairs"]) == 3


def test_corrupted_images_are_shown_for_every_checkpoint(
    pair: tuple[str, str], mnist: Mnist
) -> None:
    text = mnist("eval", *pair, *ON_DIGITS, "--ensemble", "--corrupt", "blur").stdout
    rows = [line.split() for line in text.splitlines()[-6:]]
    assert rows[0] == ["corruption", "amount", "small", "other", "ensemble"]
    assert [row[0] for row in rows if row and row[0] in ("blur", "mean")] == ["blur", "mean"]
    assert len(rows[-1]) == 1 + 2 * 3


def test_a_calibration_is_shown_and_not_saved(trained: Path, mnist: Mnist) -> None:
    record = json.loads(mnist("eval", trained, "--calibrate", "--json").stdout)
    calibration = record["calibration"]
    row = mnist("eval", trained, "--calibrate").stdout.splitlines()[-1].split()
    assert row[1:5] == [
        f"{calibration['temperature']:.3f}",
        "144",
        f"{record['loss']:.4f}",
        f"{calibration['loss']:.4f}",
    ]
    saved = json.loads((trained / "eval-digits-test.json").read_text())
    assert saved["loss"] == record["loss"] != calibration["loss"]
    assert "calibration" not in saved


@pytest.mark.parametrize(("temperature", "kind"), [(0.05, "lowest"), (20.0, "highest"), (1.5, "")])
def test_a_temperature_at_a_bound_is_explained(
    trained: Path, mnist: Mnist, monkeypatch: pytest.MonkeyPatch, temperature: float, kind: str
) -> None:
    monkeypatch.setattr("mnistcli.evaluation.evaluate.fit_temperature", lambda *_: temperature)
    text = mnist("eval", trained, "--calibrate").stdout
    assert (f"{temperature:g} is the {kind} temperature" in text) is bool(kind)
    assert ("outside this range" in text) is bool(kind)
