"""What `mnist eval` prints, for people and for programs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from mnistcli.config.resolve import resolve_settings
from mnistcli.evaluation.calibration import ConfidenceBin
from mnistcli.evaluation.compare import Comparison, compare, mcnemar_p_value
from mnistcli.evaluation.evaluate import Evaluation
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.evaluation.scores import Mistake, Score, read_score
from mnistcli.runs.checkpoint import BUNDLED_CHECKPOINT
from mnistcli.runs.directory import Run
from mnistcli.views.eval import checkpoint_names, show_evaluations
from tests.helpers.cli import Mnist

ON_DIGITS = ("--dataset", "digits")


def forged(name: str, wrong: range, *, doubtful: tuple[int, ...] = ()) -> Evaluation:
    """A judgement on 100 images, of which those in `wrong` were misread as the other class."""
    score = Score(
        *(name, "mnist", "test", 100, len(wrong), 0.5, 1 - len(wrong) / 100, (0.25, 0.75)),
        classes=[ClassScore("a", 60, 0.5, 0.6, 0.7), ClassScore("b", 40, 0.7, 0.8, 0.8)],
        confusion=[[60, 0], [len(wrong), 40 - len(wrong)]],
        mistakes=[Mistake(index, 1, 0, 0.9, 0.1) for index in wrong],
    )
    bins = [ConfidenceBin(100, score.accuracy, score.accuracy - 0.05)]
    settings = resolve_settings({"arch": "mlp"}, environ={}).settings
    return Evaluation(replace(score, bins=bins), settings, 1_000, doubtful)


def shown(capsys: pytest.CaptureFixture[str], *judged: Evaluation) -> str:
    scores = [each.score for each in judged]
    pairs = [compare(*scores[:2])] if len(scores) > 1 else []
    show_evaluations(judged, pairs, as_json=False, quiet=False)
    return capsys.readouterr().out


def test_one_checkpoint_says_ece_the_means_and_doubtful_labels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, forged("x/a.pth", range(6), doubtful=(1, 2, 50))).splitlines()
    assert lines[:4] == [
        "x/a.pth (mlp-120-84)",
        "Accuracy 94.00 % on 100 test images of mnist",
        "95 % interval 25.00 to 75.00 % (Wilson), 6 errors, loss 0.5000, ECE 5.00 %",
        "Of the errors, 2 are among the 3 images whose label is doubtful",
    ]
    assert lines[9].split() == ["mean", "100", "60.00", "%", "70.00", "%", "75.00", "%"]


@pytest.mark.parametrize(
    ("only_first", "only_second", "sentence"),
    [
        (31, 12, "B is better: 12 images are misread by it only, 31 by A only, p = 0.0054."),
        (12, 31, "A is better: 12 images are misread by it only, 31 by B only, p = 0.0054."),
        (0, 20, "A is better: 0 images are misread by it only, 20 by B only, p < 0.0001."),
        (
            *(1, 7),
            "No difference can be told: 1 image is misread by A only, 7 by B only, p = 0.07.",
        ),
        (0, 0, "No difference can be told: both misread the same images, p = 1."),
    ],
)
def test_two_checkpoints_get_a_sentence(only_first: int, only_second: int, sentence: str) -> None:
    p = mcnemar_p_value(only_first, only_second)
    pair = Comparison("x/A.pth", "x/B.pth", only_first, only_second, 9, p)
    assert pair.in_words("A", "B") == sentence


def test_several_stand_side_by_side_with_their_doubtful_labels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b = forged("a.pth", range(12), doubtful=(1, 2, 50)), forged("b.pth", range(2, 4))
    other_seed = resolve_settings({"arch": "mlp", "seed": 1}, environ={}).settings
    text = shown(capsys, a, replace(b, doubtful=(1, 2, 50), settings=other_seed))
    assert text.startswith("2 checkpoints on 100 test images of mnist\n")
    assert "Of the errors, 2, 1 are among the 3 images whose label is doubtful" in text
    assert "b.pth is better: 0 images are misread by it only, 10 by a.pth only, p = 0.002" in text
    assert (
        "Mean 93.00 %, SD 7.07 %; all errors together, as if on other images each: 88.59 to 95.78 %"
    ) in text
    assert "precision" not in text
    assert "SD" not in shown(capsys, a, b)  # the seed of one is the other's: no repetition


@pytest.fixture
def two(trained: Path) -> tuple[str, str]:
    """Two runs; the best of the other one is the bundled network."""
    other = trained.parent / "other"
    shutil.copytree(trained, other)
    shutil.copy(BUNDLED_CHECKPOINT, other / "best.pth")
    return str(trained), str(other)


def test_runs_are_called_by_their_name_where_that_is_enough(two: tuple[str, str]) -> None:
    shutil.copytree(two[0], "elsewhere/small")
    first, second, third = (str(Path(path) / "best.pth") for path in (*two, "elsewhere/small"))
    last = str(Path(two[0]) / "last.pth")
    assert checkpoint_names([first, second, last]) == ["small", "other", last]
    assert checkpoint_names([first, second, third]) == [two[0], "other", "elsewhere/small"]


def test_a_pipe_has_room_for_long_names(two: tuple[str, str], mnist: Mnist) -> None:
    name = "a-network-whose-name-would-be-broken-where-there-are-eighty-columns"
    shutil.copytree(two[0], f"runs/{name}")
    assert f"\n{name} " in mnist("eval", name, two[1], *ON_DIGITS).stdout


def test_two_checkpoints_on_the_command_line(two: tuple[str, str], mnist: Mnist) -> None:
    result = mnist("eval", *two, *ON_DIGITS, "--ensemble", "--corrupt", "blur")
    assert result.exit_code == 0
    assert "2 checkpoints on 360 test images of digits" in result.stdout
    assert "ensemble" in result.stdout
    assert "small" in result.stdout
    assert max(map(len, result.stdout.splitlines()[:8])) <= 80
    assert "SD 1.75 px" in result.stdout
    assert "Judging 3 worse copies of the 360 pictures too." in result.stderr
    for path, num_params in zip(two, (26_698, 7_894), strict=True):
        kept = read_score(Run(Path(path)), "digits", "test")
        assert kept
        assert f"{100 * kept.accuracy:.2f} %" in result.stdout
        assert f"{num_params:,}" in result.stdout
    assert len(list(Path().glob("**/eval-*.json"))) == 2


def test_seeds_of_one_recipe_get_their_mean_and_spread(mnist: Mnist) -> None:
    series = ("--recipe", "mlp-50-50", "--dataset", "digits", "--epochs", "2", "--name", "two")
    assert mnist("train", *series, "--seeds", "2").exit_code == 0
    names = ("two/seed-0", "two/seed-1")
    record = json.loads(mnist("eval", *names, "--ensemble", "--json").stdout)
    first, second = (each["num_errors"] for each in record["judgements"][:2])
    assert first != second
    found = record["spread"]
    assert found["mean"] == pytest.approx(1 - (first + second) / 720)
    assert found["deviation"] == pytest.approx(abs(first - second) / 360 / 2**0.5)
    assert (found["num_errors"], found["num_images"]) == (first + second, 720)
    shown = mnist("eval", *names).stdout
    assert f"Mean {100 * found['mean']:.2f} %, SD {100 * found['deviation']:.2f} %" in shown


def test_the_record_is_enough_to_draw_every_table(two: tuple[str, str], mnist: Mnist) -> None:
    result = mnist("eval", *two, *ON_DIGITS, "--ensemble", "--corrupt", "noise,thin", "--json")
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    assert (record["dataset"], record["split"], record["num_images"]) == ("digits", "test", 360)
    first, second, ensemble = record["judgements"]
    assert record["spread"] is None, "two recipes have no mean"
    assert ensemble["members"] == [first["checkpoint"], second["checkpoint"]]
    for each in record["judgements"]:
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


def test_tta_is_named_and_leaves_nothing_in_the_run(trained: Path, mnist: Mnist) -> None:
    result = mnist("eval", trained, "--tta")
    assert "on 360 test images of digits, mean of 9 shifts (TTA)" in result.stdout
    assert json.loads(mnist("eval", trained, "--tta", "--json").stdout)["tta"] is True
    assert not list(trained.glob("eval-*.json"))
    mnist("eval", trained)
    kept = (trained / "eval-digits-test.json").read_bytes()
    mnist("eval", trained, "--tta")
    assert (trained / "eval-digits-test.json").read_bytes() == kept


def test_a_calibration_is_shown_and_not_kept(trained: Path, mnist: Mnist) -> None:
    record = json.loads(mnist("eval", trained, "--calibrate", "--json").stdout)
    found = record["calibration"]
    result = mnist("eval", trained, "--calibrate")
    row = result.stdout.splitlines()[-1]
    assert row.split()[1:5] == [
        f"{found['temperature']:.3f}",
        "144",
        f"{record['loss']:.4f}",
        f"{found['loss']:.4f}",
    ]
    kept = read_score(Run(trained), "digits", "test")
    assert kept
    assert kept.loss == record["loss"] != found["loss"]


@pytest.mark.parametrize(("bound", "kind"), [(0.05, "lowest"), (20.0, "highest"), (1.5, "")])
def test_a_temperature_at_the_end_of_those_tried_is_explained(
    trained: Path, mnist: Mnist, monkeypatch: pytest.MonkeyPatch, bound: float, kind: str
) -> None:
    monkeypatch.setattr("mnistcli.judging.fit_temperature", lambda *_: bound)
    result = mnist("eval", trained, "--calibrate")
    said = f"{bound:g} is the {kind} temperature tried: the best lies beyond it."
    assert (said in result.stdout) is bool(kind)
    assert ("temperature tried" in result.stdout) is bool(kind)


def test_every_checkpoint_must_reach_the_gate(two: tuple[str, str], mnist: Mnist) -> None:
    accuracies = [float(line) for line in mnist("eval", *two, *ON_DIGITS, "-q").stdout.split()]
    assert len(accuracies) == 2
    low, high = sorted(accuracies)
    between = round((low + high) / 2, 2)
    assert mnist("eval", *two, *ON_DIGITS, "-q", "--min-accuracy", f"{low - 1}").exit_code == 0
    missed = mnist("eval", *two, *ON_DIGITS, "-q", "--min-accuracy", f"{between}")
    assert missed.exit_code == 5
    assert f"1 of 2 checkpoints are below {between:g} %." in missed.stderr
    assert "The worst, " in missed.stderr
    assert len(missed.stdout.split()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corrupt", "blurr"], "Did you mean blur?"),
        (["--ensemble"], "Name more checkpoints"),
        ([str(BUNDLED_CHECKPOINT)], "Say on which: --dataset digits"),
        ([str(BUNDLED_CHECKPOINT), "--split", "val", *ON_DIGITS], "no validation split in common"),
        (["--calibrate", "--split", "val"], "Judge it on the test set"),
    ],
)
def test_what_cannot_be_judged_is_wrong_usage(
    arguments: list[str], said: str, trained: Path, mnist: Mnist
) -> None:
    result = mnist("eval", trained, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
