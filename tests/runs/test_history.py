"""The epochs of a run and `metrics.csv`."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from mnistcli.errors import DataError
from mnistcli.runs.directory import Run
from mnistcli.runs.history import HISTORY_COLUMNS, EpochResult, read_metrics, write_metrics

EPOCH = EpochResult(1, 0.01, 0.5, 0.9, 0.4, 0.91, 2.0, 1000.0)


def test_metrics_are_read_as_they_were_written(tmp_path: Path) -> None:
    epochs = [EPOCH, replace(EPOCH, epoch=2, val_loss=None, val_accuracy=None)]
    write_metrics(Run(tmp_path), epochs)
    assert read_metrics(Run(tmp_path)) == epochs
    with (tmp_path / "metrics.csv").open(newline="") as handle:
        assert len(list(csv.reader(handle))) == 3


@pytest.mark.parametrize("text", ["", "epoch,lr\n1,x\n", "epoch\n1\n", "\x00", "a,b\n" * 3])
def test_damaged_metrics_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv is damaged"):
        read_metrics(Run(tmp_path))


def test_missing_metrics_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)) as missing:
        read_metrics(Run(tmp_path))
    assert "metrics.csv" in missing.value.why
    assert missing.value.fix


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
        "1,1,1,1,1,1,1",
        "1,1,1,1,1,1,1,1\n1,1,1,1,1,1,1,1",
        "1," + "x" * 100_000,
    ],
)
def test_figures_out_of_bounds_are_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"{','.join(HISTORY_COLUMNS)}\n{row}\n")
    with pytest.raises(DataError, match=r"metrics\.csv is damaged") as refused:
        read_metrics(Run(tmp_path))
    assert len(refused.value.why) < 300
