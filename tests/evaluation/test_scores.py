"""Scores: saved for a run's best checkpoint, refused if inconsistent; the required accuracy."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mnistcli.data.datasets import DATASETS
from mnistcli.errors import DataError, GateError
from mnistcli.evaluation.eval_data import EvalData
from mnistcli.evaluation.evaluate import evaluate_models
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.evaluation.scores import Score, read_score, require_accuracy, write_score
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run
from tests.helpers.evaluation import make_score
from tests.helpers.training import load_digits

MISTAKE = {"index": 0, "label": 0, "predicted": 1, "probability": 0.9, "label_probability": 0.1}


@pytest.mark.parametrize(
    "change",
    [
        {"split": "all"},
        {"confusion": []},
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
        {"mistakes": [MISTAKE | {"index": 9}]},
        {"mistakes": [MISTAKE | {"predicted": -1}]},
        {"mistakes": [MISTAKE | {"probability": float("nan")}]},
    ],
)
def test_an_inconsistent_score_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
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
    path.write_text(json.dumps(score | change))
    with pytest.raises(DataError, match=r"eval-digits-test\.json is damaged"):
        read_score(Run(tmp_path), "digits", "test")


def test_a_score_is_saved_for_the_best_checkpoint_without_tta_only(trained: Path) -> None:
    models = [load_checkpoint(trained / name) for name in ("best.pth", "last.pth")]
    data = EvalData(DATASETS["digits"], "test", load_digits("test"))
    best, last = (evaluation.score for evaluation in evaluate_models(models, data))
    assert write_score(last) is None
    assert write_score(replace(best, tta=True)) is None
    assert read_score(Run(trained), "digits", "test") is None
    path = write_score(best)
    assert path == trained / "eval-digits-test.json"
    assert read_score(Run(trained), "digits", "test") == best
    assert read_score(Run(trained), "digits", "val") is None
    record = json.loads(path.read_text())
    del record["bins"], record["tta"]  # as saved by older versions
    path.write_text(json.dumps(record))
    assert read_score(Run(trained), "digits", "test") == replace(best, bins=[])


def score(num_correct: int, num_images: int) -> Score:
    return make_score("best.pth", range(num_images - num_correct), num_images=num_images)


def test_an_accuracy_below_the_bound_is_refused() -> None:
    with pytest.raises(GateError) as caught:
        require_accuracy(score(9_930, 10_000), min_percent=99.4)
    assert caught.value.exit_code == 5
    assert "99.30 %" in caught.value.what
    assert "70 of 10,000" in caught.value.why
    with pytest.raises(GateError):
        require_accuracy(score(59_699, 60_000), min_percent=99.5)


def test_every_checkpoint_must_reach_the_bound() -> None:
    scores = score(9_930, 10_000), score(9_950, 10_000), score(9_910, 10_000)
    require_accuracy(*scores, min_percent=99.1)
    with pytest.raises(GateError, match="2 of 3 checkpoints") as caught:
        require_accuracy(*scores, min_percent=99.4)
    assert "99.10 %" in caught.value.why


@pytest.mark.parametrize("min_percent", [None, 0, 99.3])
def test_an_accuracy_at_or_above_the_bound_passes(min_percent: float | None) -> None:
    require_accuracy(score(9_930, 10_000), min_percent=min_percent)


def test_an_accuracy_at_the_bound_passes_whatever_its_binary_fraction() -> None:
    best = score(10_000, 10_000)
    for num_correct in range(0, 10_001, 7):
        exact = replace(best, accuracy=num_correct / 10_000)
        require_accuracy(exact, min_percent=float(f"{num_correct / 100:.2f}"))
