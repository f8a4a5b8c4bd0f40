"""Run directories: what they hold, who may use them, and damaged records."""

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mnistcli.config.resolve import resolve_settings
from mnistcli.errors import DataError, RunError, SettingsError
from mnistcli.runs import directory
from mnistcli.runs.directory import (
    Run,
    create_run,
    lock_run,
    read_record,
    read_settings,
    write_record,
)
from mnistcli.runs.history import read_metrics
from mnistcli.system.lock import lock_directory
from tests.helpers.audit import touches_only

SETTINGS = resolve_settings({"recipe": "mlp-50-50", "dataset": "digits"}, environ={}).settings


def create_finished_run(out: Path, name: str | None) -> Run:
    with create_run(out, name, SETTINGS) as run:
        run.state.touch()
    return run


def test_a_run_holds_the_documented_files(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    records = {"settings.json", "environment.json", "metrics.csv"}
    assert names - {".lock"} == records | {"best.pth", "last.pth", "state.pth"}


def test_the_settings_of_a_run_can_be_used_again(trained: Path) -> None:
    recorded = read_settings(Run(trained))
    assert resolve_settings({}, config=trained / "settings.json", environ={}).settings == recorded
    assert recorded.recipe == "cnn-26k"


def test_the_environment_records_the_reasons_for_its_choices(trained: Path) -> None:
    record = read_record(Run(trained), "environment.json")
    assert record["device"]["value"] in ("cpu", "cuda", "mps")
    assert record["precision"]["reason"]
    assert record["num_params"] == 26_698
    assert record["versions"]["torch"] == str(torch.__version__)


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    run = create_finished_run(tmp_path, "one")
    before = (run.path / "settings.json").read_bytes()
    with pytest.raises(SettingsError, match="already") as refused:
        create_finished_run(tmp_path, "one")
    assert f"mnist train --resume {run.path}" in refused.value.fix
    assert (run.path / "settings.json").read_bytes() == before


@pytest.mark.parametrize("name", ["a/b", "..", "last", "/tmp/x", "\x1b"])
def test_a_name_must_be_the_name_of_one_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot name a run"):
        create_finished_run(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_a_directory_is_free_unless_it_holds_files_or_is_locked(tmp_path: Path) -> None:
    for name, left_behind in (("empty", []), ("used", [".lock", ".x.pth.12-0123abcd.tmp"])):
        (tmp_path / name).mkdir()
        for file in left_behind:
            (tmp_path / name / file).touch()
        assert create_finished_run(tmp_path, name).path == tmp_path / name
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    (tmp_path / "locked").mkdir()
    with lock_directory(tmp_path / "locked", wait=None):
        for name in ("thesis", "locked"):
            with pytest.raises(SettingsError, match="already"):
                create_finished_run(tmp_path, name)
        with pytest.raises(RunError, match="another process"), lock_run(Run(tmp_path / "locked")):
            pytest.fail("the run is locked")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.txt"]


def test_runs_started_in_the_same_second_get_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FixedTime(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "FixedTime":
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(directory, "datetime", FixedTime)
    names = [create_finished_run(tmp_path, None).name for _ in range(3)]
    first = "mlp-50-50-20260102-030405"
    assert names == [first, f"{first}-2", f"{first}-3"]


def test_a_run_without_an_epoch_is_removed_but_not_other_files(tmp_path: Path) -> None:
    with create_run(tmp_path, "one", SETTINGS) as run:
        (run.path / "notes.txt").write_text("mine")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["notes.txt"]
    with create_run(tmp_path, "two", SETTINGS):
        pass
    assert not (tmp_path / "two").exists()


def test_an_output_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write") as failed:
        create_finished_run(tmp_path / "file" / "runs", "one")
    assert "--out" in failed.value.fix


@pytest.mark.parametrize("text", ["", "[]", "{", '{"epochs": 3}', '{"a":' * 100_000])
def test_damaged_settings_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(DataError, match=r"settings\.json is damaged"):
        read_settings(Run(tmp_path))


def test_missing_settings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"settings\.json") as missing:
        read_settings(Run(tmp_path))
    assert missing.value.fix


@pytest.mark.parametrize("name", ["settings.json", "metrics.csv"])
@pytest.mark.parametrize("kind", ["device", "pipe", "huge file"])
def test_endless_files_are_not_read(trained: Path, name: str, kind: str) -> None:
    path = trained / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 10**11)
    with pytest.raises(DataError) as refused:
        (read_settings if name == "settings.json" else read_metrics)(Run(trained))
    assert ("more than 34 MB" if kind == "huge file" else "device or a pipe") in refused.value.why


def test_a_link_is_followed_for_reading_and_replaced_by_writing(
    trained: Path, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere.json"
    (trained / "settings.json").rename(target)
    (trained / "settings.json").symlink_to(target)
    before = target.read_bytes()
    assert read_settings(Run(trained)).recipe == "cnn-26k"
    write_record(Run(trained), "settings.json", {"other": 1})
    assert target.read_bytes() == before
    assert not (trained / "settings.json").is_symlink()


def test_names_in_records_are_not_opened_as_files(trained: Path) -> None:
    record = json.loads((trained / "settings.json").read_text())
    (trained / "settings.json").write_text(json.dumps(record | {"dataset": "../../../etc/passwd"}))
    with touches_only(trained):
        assert read_settings(Run(trained)).dataset.endswith("/etc/passwd")


def test_reading_records_loads_no_torch() -> None:
    code = "import sys, mnistcli.runs.find, mnistcli.runs.history; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
