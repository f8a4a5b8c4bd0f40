"""Scores that are kept in a run: written for its best checkpoint, and refused if inconsistent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.errors import DataError
from mnistcli.evaluation.evaluate import EvalData, evaluate_models
from mnistcli.evaluation.metrics import ClassScore
from mnistcli.evaluation.scores import Score, read_score, write_score
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run

MISTAKE = {"index": 0, "label": 0, "predicted": 1, "probability": 0.9, "label_probability": 0.1}


@pytest.mark.parametrize(
    "change",
    [
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


def test_a_score_is_written_for_the_best_checkpoint_of_a_run_only(trained: Path) -> None:
    examples = load_dataset(get_dataset("digits"), "test", Path())
    models = [load_checkpoint(trained / name) for name in ("best.pth", "last.pth")]
    best, last = evaluate_models(models, EvalData("digits", "test", examples))
    assert write_score(last.score) is None
    assert write_score(best.score) == trained / "eval-digits-test.json"
    assert read_score(Run(trained), "digits", "test") == best.score
    assert read_score(Run(trained), "digits", "val") is None
