"""`mnist train --resume`: the run ends as an uninterrupted one; invalid requests are refused.

`test_state` resumes every optimizer and schedule without files; `test_interruptions` has kills,
signals and full disks.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main

from mnistcli.cli.app import app
from mnistcli.config.resolve import resolve_settings
from mnistcli.runs.checkpoint import load_checkpoint
from mnistcli.runs.directory import Run, read_record, read_settings, write_record
from mnistcli.runs.history import best_epoch, read_metrics
from mnistcli.training.trainer import load_training_data, start_run, train_run
from tests.helpers.cli import Mnist
from tests.helpers.runs import (
    ONE,
    assert_same,
    assert_same_run,
    resume,
    train,
    train_command,
)

KINDS: dict[str, dict[str, Any]] = {
    "all-random": {},
    "without-validation": {"val_size": 0},
    "plateau": {"schedule": "plateau", "lr": 0.1},
}


def file_contents(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a run with its content and time, except for its lock."""
    return {
        entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns)
        for entry in path.iterdir()
        if entry.name != ".lock"
    }


def learning_rates(path: Path) -> list[float]:
    return [epoch.lr for epoch in read_metrics(Run(path))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_after_every_epoch_ends_as_an_uninterrupted_one(kind: str) -> None:
    whole = train("whole", **KINDS[kind])
    train("one", 1, **KINDS[kind])
    for number in (2, 3, 4):
        assert len(read_metrics(Run(resume("one", 1)))) == number
        assert load_checkpoint(ONE / "last.pth").card.epoch == number
    assert_same_run(ONE, whole)


def test_an_exception_between_epochs_leaves_a_run_that_can_be_resumed() -> None:
    whole = train("whole")
    settings = read_settings(Run(whole))

    def fail() -> None:
        with start_run(settings, name="one", out=Path("runs")) as run:
            for epoch in train_run(run, *load_training_data(run.plan, Path())):
                if epoch.epoch == 2:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert_same_run(resume("one"), whole)


@pytest.mark.slow
def test_separate_processes_end_with_the_same_bits() -> None:
    """A process that is terminated, and another that resumes the run, by real command lines."""

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mnistcli", *words]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    # So long that it is not finished before the signal comes.
    stopped = start(*train_command(epochs=30), "--name", "one")
    while not (ONE / "metrics.csv").exists():
        assert stopped.poll() is None
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    _, stderr = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    num_done = len(read_metrics(Run(ONE)))
    assert num_done < 30
    assert f"epoch {num_done} of 30" in stderr
    assert "mnist train --resume runs/one" in stderr
    resumed = start("train", "--resume", "one")
    _, stderr = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, stderr
    assert f"epoch {num_done + 1} of 30" in stderr
    assert_same_run(ONE, train("whole", epochs=30))


# Another number of epochs


@pytest.mark.parametrize(
    ("schedule", "planned", "stop_after"), [("constant", 4, 2), ("plateau", 2, None)]
)
def test_a_lengthened_run_equals_the_longer_run(
    schedule: str, planned: int, stop_after: int | None
) -> None:
    kind: dict[str, Any] = {"schedule": schedule, "lr": 0.1}
    whole = train("whole", **kind, epochs=7)
    train("one", stop_after, **kind, epochs=planned)
    resume("one", epochs=7)
    # The card of an earlier best epoch has the settings with which it was trained.
    assert_same_run(ONE, whole, best=False)
    first, second = (load_checkpoint(path / "best.pth") for path in (ONE, whole))
    assert first.card.epoch == second.card.epoch
    assert_same(dict(first.network.state_dict()), dict(second.network.state_dict()))


@pytest.mark.parametrize(
    ("schedule", "planned", "stop_after"), [("onecycle", 3, None), ("cosine", 4, 2)]
)
def test_a_lengthened_run_follows_the_longer_schedule(
    schedule: str, planned: int, stop_after: int | None
) -> None:
    whole = train("whole", schedule=schedule, epochs=9)
    train("one", stop_after, schedule=schedule, epochs=planned)
    resume("one", epochs=9)
    num_done = stop_after or planned
    assert learning_rates(ONE)[num_done:] == learning_rates(whole)[num_done:]
    assert len(learning_rates(ONE)) == 9


def test_more_epochs_are_reported_and_recorded(mnist: Mnist, monkeypatch: Any) -> None:
    train("one", epochs=2)
    result = mnist("train", "--resume", "one", "--epochs", "4")
    assert result.exit_code == 0, result.stderr
    assert "epoch 3 of 4" in result.stderr
    assert "runs/one" in result.stdout
    assert read_settings(Run(ONE)).epochs == 4
    assert load_checkpoint(ONE / "last.pth").card.settings.epochs == 4
    command = ["train", "--resume", "one", "--epochs", "5", "-q"]
    monkeypatch.setattr(sys, "argv", ["mnist", *command])
    assert mnist(*command).exit_code == 0
    record = read_record(Run(ONE), "environment.json")
    assert [resumed["after_epoch"] for resumed in record["resumed"]] == [2, 4]
    assert record["resumed"][1]["command"] == ["mnist", *command]
    assert record["resumed"][1]["versions"]["torch"] == str(torch.__version__)
    assert "resumed" not in record["resumed"][1]


def test_fewer_epochs_than_planned_end_the_run_there(mnist: Mnist) -> None:
    train("one", 2)
    assert mnist("train", "--resume", "one", "--epochs", "3").exit_code == 0
    assert len(read_metrics(Run(ONE))) == 3
    assert read_settings(Run(ONE)).epochs == 3


@pytest.mark.parametrize("value", ["2", "0", "many", "10001"])
def test_an_invalid_number_of_epochs_is_refused(value: str, mnist: Mnist) -> None:
    train("one", 3)
    before = file_contents(ONE)
    result = mnist("train", "--resume", "one", "--epochs", value)
    assert result.exit_code == 2
    assert "--epochs" in result.stderr
    assert value in result.stderr
    assert file_contents(ONE) == before


def test_json_has_all_epochs_of_a_resumed_run(mnist: Mnist) -> None:
    train("one", 2)
    result = mnist("train", "--resume", "one", "--json")
    assert not result.stderr
    record = json.loads(result.stdout)
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2, 3, 4]
    assert record["best"] in record["epochs"]
    assert mnist("train", "--resume", "one", "-q").stdout == "runs/one\n"


@pytest.mark.parametrize("content", [None, "{", '{"resumed": 5}'])
def test_a_run_is_resumed_without_a_valid_environment_record(
    content: str | None, mnist: Mnist
) -> None:
    train("one", 2)
    (ONE / "environment.json").unlink()
    if content:
        (ONE / "environment.json").write_text(content)
    assert mnist("train", "--resume", "one").exit_code == 0
    (resumed,) = read_record(Run(ONE), "environment.json")["resumed"]
    assert resumed["after_epoch"] == 2


@pytest.mark.parametrize("val_size", [0.1, 0])
def test_a_finished_run_is_left_unchanged(mnist: Mnist, val_size: float) -> None:
    train("one", val_size=val_size)
    assert mnist("eval", "runs/one", "-q").exit_code == 0
    before = file_contents(ONE)
    assert "eval-digits-test.json" in before
    result = mnist("train", "--resume", "one")
    assert result.exit_code == 0
    assert "--epochs 8" in result.stderr
    assert file_contents(ONE) == before


def test_scores_are_removed_with_the_best_checkpoint_they_belong_to(mnist: Mnist) -> None:
    train("one", 1)
    mnist("eval", "runs/one", "-q")
    score = ONE / "eval-digits-test.json"
    assert score.exists()
    before = load_checkpoint(ONE / "best.pth").card.epoch
    resume("one", 2)
    assert load_checkpoint(ONE / "best.pth").card.epoch > before
    assert not score.exists()


# What --resume refuses

ALLOWED = {
    *("epochs", "until", "device", "precision", "data_dir", "offline", "out", "json", "quiet"),
    *("resume", "help"),
}


def refused_flags() -> list[tuple[str, ...]]:
    """Every flag of `mnist train` that cannot be used with --resume, with a value."""
    params = typer.main.get_command(app).commands["train"].params  # type: ignore[attr-defined]
    flags: list[tuple[str, ...]] = []
    for param in params:
        if param.name in ALLOWED:
            continue
        if param.is_flag:
            flags += [(flag,) for flag in (*param.opts, *param.secondary_opts)]
        else:
            flags.append((max(param.opts, key=len), "1"))
    return flags


def test_flags_that_would_change_the_run_are_refused(mnist: Mnist) -> None:
    ONE.mkdir(parents=True)
    settings = resolve_settings({"recipe": "mlp-50-50", "dataset": "digits"}, environ={}).settings
    write_record(Run(ONE), "settings.json", settings.model_dump(mode="json"))
    before = file_contents(ONE)
    flags = refused_flags()
    assert len(flags) > 20
    for flag in flags:
        result = mnist("train", "--resume", "one", *flag)
        assert result.exit_code == 2
        assert flag[0].replace("--no-", "--") in result.stderr
        assert "--resume" in result.stderr
        assert file_contents(ONE) == before


@pytest.mark.parametrize("is_removed", [False, True])
@pytest.mark.parametrize("is_last_best", [False, True])
def test_a_lost_best_checkpoint_is_written_again_or_not_recommended(
    mnist: Mnist, is_removed: bool, is_last_best: bool
) -> None:
    # With the smallest learning rate nothing changes, and the first of equal epochs is the best.
    still: dict[str, Any] = {} if is_last_best else {"lr": 1e-30, "schedule": "constant", "ema": 0}
    history = read_metrics(Run(train("one", epochs=2, **still)))
    assert (best_epoch(history) is history[-1]) == is_last_best
    best = ONE / "best.pth"
    if is_removed:
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:-100])
    result = mnist("train", "--resume", "one")
    assert result.exit_code == 0
    assert read_metrics(Run(ONE)) == history
    usable = "runs/one" if is_last_best else "runs/one/last.pth"
    assert f"mnist eval {usable}\n" in result.stdout
    assert ("best.pth" in result.stderr) == (not is_last_best)
    checkpoint = load_checkpoint(ONE / ("best.pth" if is_last_best else "last.pth"))
    assert checkpoint.card.epoch == 2


def test_environment_variables_do_not_change_a_resumed_run(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole")
    train("one", 2)
    for name, value in {"EPOCHS": "9", "LR": "5", "ARCH": "cnn", "BATCH_SIZE": "x"}.items():
        monkeypatch.setenv(f"MNIST_{name}", value)
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


@pytest.mark.parametrize("name", ["", "none", "runs", "notes.txt", "empty", "last"])
def test_a_name_that_is_not_a_run_is_refused(name: str, mnist: Mnist) -> None:
    Path("notes.txt").write_text("")
    Path("empty").mkdir()
    Path("runs").mkdir()
    before = sorted(Path().rglob("*"))
    result = mnist("train", "--resume", name)
    assert result.exit_code == 3
    assert "Traceback" not in result.stderr
    assert sorted(Path().rglob("*")) == before


# Which run is meant


def set_times(path: Path, seconds: float) -> None:
    for entry in path.iterdir():
        os.utime(entry, (seconds, seconds))


def test_last_is_the_run_trained_most_recently_even_without_an_epoch(mnist: Mnist) -> None:
    older, newer = train("older", 1), train("newer", 1)
    set_times(older, time.time() - 200)
    set_times(newer, time.time() - 100)
    # Killed in its first epoch.
    killed = Path("runs/killed")
    killed.mkdir()
    (killed / "settings.json").write_bytes((older / "settings.json").read_bytes())
    (Path("runs") / "not-a-run").mkdir()
    result = mnist("train", "--resume", "last", "--epochs", "2")
    assert "runs/killed" in result.stdout
    assert "epoch 1 of 2" in result.stderr
    set_times(killed, time.time() - 150)
    assert "runs/newer" in mnist("train", "--resume", "last", "--epochs", "2").stdout


# Damage


def change_settings(**changes: Any) -> Callable[[], object]:
    def change() -> None:
        record = json.loads((ONE / "settings.json").read_text())
        for name, value in changes.items():
            (record["model"] if name in record["model"] else record)[name] = value
        (ONE / "settings.json").write_text(json.dumps(record))

    return change


def change_state(change: Callable[[dict[str, Any]], object]) -> Callable[[], object]:
    def write() -> None:
        content = torch.load(ONE / "state.pth", weights_only=True)
        change(content["state"])
        torch.save(content, ONE / "state.pth")

    return write


DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "state-missing": ((ONE / "state.pth").unlink, "state.pth"),
    "state-of-a-checkpoint": (
        lambda: (ONE / "state.pth").write_bytes((ONE / "last.pth").read_bytes()),
        "state.pth",
    ),
    "state-without-ema": (change_state(lambda s: s.update(average=None)), "state.pth"),
    "other-rate": (change_settings(lr=0.5), "lr"),
    "other-network": (change_settings(hidden=[20]), "model"),
    "invalid-setting": (change_settings(epochs="many"), "epochs"),
    "unknown-setting": (change_settings(color="green"), "color"),
    "settings-missing": ((ONE / "settings.json").unlink, "settings.json"),
    "settings-broken": (lambda: (ONE / "settings.json").write_text("{"), "settings.json"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_and_left_unchanged(damage: str, mnist: Mnist) -> None:
    train("one", 2)
    spoil, named = DAMAGE[damage]
    spoil()
    before = file_contents(ONE)
    result = mnist("train", "--resume", "one", "--epochs", "9")
    assert result.exit_code == 3
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert file_contents(ONE) == before


def test_a_run_without_a_state_can_be_trained_anew_as_advised(mnist: Mnist) -> None:
    train("one", 2)
    (ONE / "state.pth").unlink()
    assert "mnist train --config runs/one/settings.json" in mnist("train", "--resume", "one").stderr
    advice = ("train", "--config", "runs/one/settings.json", "--name", "again", "-q")
    assert mnist(*advice).exit_code == 0
