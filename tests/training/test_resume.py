"""`mnist train --resume`: the end is the one of a run that was never stopped; the rest is refused.

The engine's part, over every schedule and optimiser, is in `test_engine`; what happens to a run
whose process or machine fails, in `test_faults`.
"""

import json
import os
import pickle
import random
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
from mnistcli.runs.history import read_metrics
from mnistcli.training.trainer import (
    load_training_data,
    start_run,
    train_run,
)
from tests.helpers.cli import Mnist
from tests.helpers.processes import ForkServer
from tests.helpers.runs import (
    ONE,
    QUICK_SETTINGS,
    assert_same,
    assert_same_run,
    resume,
    saved_state,
    signal_at_step,
    signal_while_writing,
    train,
    train_command,
)

KINDS: dict[str, dict[str, Any]] = {
    "all-random": {},
    "nothing-held-out": {"val_size": 0},
    "plateau": {"schedule": "plateau", "lr": 0.1},
    "bfloat16": {"precision": "bfloat16"},
    "batch-norm": {"recipe": "cnn-small", "width": 2, "hidden": None, "dropout": None},
    "sgd": {"optimizer": "sgd", "schedule": "step", "ema": 0},
}


def files(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a run with its content and time, but for its lock."""
    return {
        entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns)
        for entry in path.iterdir()
        if entry.name != ".lock"
    }


def rates(path: Path) -> list[float]:
    return [epoch.lr for epoch in read_metrics(Run(path))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_after_any_epoch_ends_as_one_that_never_was(kind: str) -> None:
    whole = train("whole", **KINDS[kind])
    for num_done in range(1, QUICK_SETTINGS["epochs"]):
        train(f"stopped-{num_done}", num_done, **KINDS[kind])
        assert_same_run(resume(f"stopped-{num_done}"), whole)


@pytest.mark.parametrize("kind", ["all-random", "nothing-held-out", "plateau"])
def test_a_run_that_is_stopped_after_every_epoch_ends_as_one_that_never_was(kind: str) -> None:
    whole = train("whole", **KINDS[kind])
    train("one", 1, **KINDS[kind])
    for number in (2, 3, 4):
        assert len(read_metrics(Run(resume("one", 1)))) == number
    assert_same_run(ONE, whole)


@pytest.mark.parametrize("held_out", [True, False])
def test_the_checkpoints_after_a_resumed_epoch_are_the_right_ones(held_out: bool) -> None:
    train("one", 1, val_size=0.1 if held_out else 0)
    for number in (2, 3, 4):
        resume("one", 1)
        epochs = read_metrics(Run(ONE))
        top = max(epochs, key=lambda epoch: (epoch.val_accuracy or 0, -(epoch.val_loss or 0)))
        assert load_checkpoint(ONE / "last.pth").card.epoch == number
        assert load_checkpoint(ONE / "best.pth").card.epoch == (top.epoch if held_out else number)


def test_processes_of_their_own_end_with_the_same_bits() -> None:
    """Two interpreters one after the other against this one, by the train_command lines of a person."""

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mnistcli", *words], stderr=subprocess.PIPE, text=True
        )

    # Long enough that it is not done before the signal comes.
    stopped = start(*train_command(epochs=30), "--name", "one")
    deadline = time.monotonic() + 120
    while not (ONE / "metrics.csv").exists():
        assert time.monotonic() < deadline, "no epoch was finished"
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    num_done = len(read_metrics(Run(ONE)))
    assert (
        f"Interrupted after epoch {num_done} of 30.\nGo on: mnist train --resume runs/one" in said
    )
    assert num_done < 30
    going_on = start("train", "--resume", "one")
    _, said = going_on.communicate(timeout=120)
    assert going_on.returncode == 0, said
    assert f"Resuming at epoch {num_done + 1} of 30." in said
    assert_same_run(ONE, train("whole", epochs=30))


@pytest.mark.parametrize("when", [signal_while_writing, signal_at_step])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_process_says_what_is_kept_and_goes_on(
    fork_server: ForkServer, when: Callable[[int], str], number: signal.Signals
) -> None:
    train("whole")
    ended = fork_server.run(*train_command(), "--name", "one", prepare=when(number))
    assert ended.exit_code == 130
    assert "Traceback" not in ended.stderr
    assert "Interrupted after epoch 2 of 4." in ended.stderr
    assert "Go on: mnist train --resume runs/one" in ended.stderr
    assert len(read_metrics(Run(ONE))) == 2
    again = fork_server.run("train", "--resume", "one")
    assert again.exit_code == 0
    assert "Resuming at epoch 3 of 4." in again.stderr
    assert_same_run(ONE, Path("runs/whole"))


def test_ctrl_c_while_the_first_epoch_is_written_keeps_it(fork_server: ForkServer) -> None:
    prepare = signal_while_writing(signal.SIGINT, epoch=1)
    ended = fork_server.run(*train_command(), "--name", "one", prepare=prepare)
    assert ended.exit_code == 130
    assert "Interrupted after epoch 1 of 4." in ended.stderr
    assert "nothing is kept" not in ended.stderr
    train("whole")
    assert_same_run(resume("one"), Path("runs/whole"))


def test_a_consumer_that_fails_leaves_a_run_that_goes_on() -> None:
    whole = train("whole")
    settings = read_settings(Run(whole))

    def fail() -> None:
        with start_run(settings, name="one", out=Path("runs")) as start:
            for epoch in train_run(start, *load_training_data(start.plan, Path())):
                if epoch.epoch == 2:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert_same_run(resume("one"), whole)


# --epochs


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
@pytest.mark.parametrize(("planned", "stopped"), [(2, None), (4, 2)])
def test_with_more_epochs_a_run_is_the_longer_one(
    schedule: str, planned: int, stopped: int | None
) -> None:
    kind: dict[str, Any] = {"schedule": schedule, "lr": 0.1}
    whole = train("whole", **kind, epochs=7)
    train("one", stopped, **kind, epochs=planned)
    resume("one", epochs=7)
    # A best that was reached before says with how many epochs it was trained.
    assert_same_run(ONE, whole, best=False)
    first, second = (load_checkpoint(path / "best.pth") for path in (ONE, whole))
    assert first.card.epoch == second.card.epoch
    assert_same(dict(first.network.state_dict()), dict(second.network.state_dict()))


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step"])
@pytest.mark.parametrize(("planned", "stopped"), [(3, None), (4, 2)])
def test_with_more_epochs_a_run_follows_the_longer_ones_schedule(
    schedule: str, planned: int, stopped: int | None
) -> None:
    whole = train("whole", schedule=schedule, epochs=9)
    train("one", stopped, schedule=schedule, epochs=planned)
    resume("one", epochs=9)
    num_done = stopped or planned
    assert rates(ONE)[num_done:] == rates(whole)[num_done:]
    assert len(rates(ONE)) == 9


def test_more_epochs_are_said_and_recorded(mnist: Mnist, fork_server: ForkServer) -> None:
    train("one", epochs=2)
    result = mnist("train", "--resume", "one", "--epochs", "4")
    assert result.exit_code == 0, result.stderr
    assert "Resuming at epoch 3 of 4." in result.stderr
    assert "Kept in runs/one" in result.stdout
    assert read_settings(Run(ONE)).epochs == 4
    assert load_checkpoint(ONE / "last.pth").card.settings.epochs == 4
    fork_server.run("train", "--resume", "one", "--epochs", "5", "-q")
    record = read_record(Run(ONE), "environment.json")
    assert [life["after_epoch"] for life in record["resumed"]] == [2, 4]
    assert record["resumed"][1]["command"][1:] == [
        "train",
        "--resume",
        "one",
        "--epochs",
        "5",
        "-q",
    ]
    assert record["resumed"][1]["versions"]["torch"] == str(torch.__version__)
    assert "resumed" not in record["resumed"][1]


def test_json_says_all_epochs_of_a_resumed_run(mnist: Mnist) -> None:
    train("one", 2)
    result = mnist("train", "--resume", "one", "--json")
    assert not result.stderr
    record = json.loads(result.stdout)
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2, 3, 4]
    assert record["best"] in record["epochs"]
    assert mnist("train", "--resume", "one", "-q").stdout == "runs/one\n"


@pytest.mark.parametrize("lost", ["missing", "damaged", "strange"])
def test_a_run_goes_on_without_its_record_of_the_environment(lost: str, mnist: Mnist) -> None:
    train("one", 2)
    contents = {"damaged": "{", "strange": '{"resumed": 5}'}
    (ONE / "environment.json").unlink()
    if lost != "missing":
        (ONE / "environment.json").write_text(contents[lost])
    assert mnist("train", "--resume", "one").exit_code == 0
    (life,) = read_record(Run(ONE), "environment.json")["resumed"]
    assert life["after_epoch"] == 2


def test_fewer_epochs_than_are_done_are_refused(mnist: Mnist) -> None:
    train("one", 3)
    before = files(ONE)
    result = mnist("train", "--resume", "one", "--epochs", "2")
    assert result.exit_code == 2
    assert "--epochs 2 is less than runs/one has." in result.stderr
    assert "It has finished 3 epochs" in result.stderr
    assert files(ONE) == before


def test_fewer_epochs_than_were_planned_end_the_run_there(mnist: Mnist) -> None:
    train("one", 2)
    result = mnist("train", "--resume", "one", "--epochs", "3")
    assert result.exit_code == 0
    assert len(read_metrics(Run(ONE))) == 3
    assert read_settings(Run(ONE)).epochs == 3


@pytest.mark.parametrize("value", ["0", "-1", "many", "10001", "1.5"])
def test_a_number_of_epochs_that_is_none_is_refused(value: str, mnist: Mnist) -> None:
    train("one", 1)
    before = files(ONE)
    result = mnist("train", "--resume", "one", "--epochs", value)
    assert result.exit_code == 2
    assert f"--epochs: {value} will not do" in result.stderr
    assert files(ONE) == before


@pytest.mark.parametrize("held_out", [0.1, 0])
def test_a_finished_run_says_so_and_stays_as_it_is(mnist: Mnist, held_out: float) -> None:
    train("one", val_size=held_out)
    assert mnist("eval", "runs/one", "-q").exit_code == 0
    before = files(ONE)
    assert "eval-digits-test.json" in before
    result = mnist("train", "--resume", "one")
    assert result.exit_code == 0
    assert "All 4 epochs are done; to train on, name more: --epochs 8" in result.stderr
    assert "Kept in runs/one" in result.stdout
    assert files(ONE) == before


def test_scores_of_a_best_checkpoint_go_with_it_and_stay_with_it(mnist: Mnist) -> None:
    train("one", 1)
    mnist("eval", "runs/one", "-q")
    score = ONE / "eval-digits-test.json"
    assert score.exists()
    before = load_checkpoint(ONE / "best.pth").card.epoch
    resume("one", 2)
    assert load_checkpoint(ONE / "best.pth").card.epoch > before
    assert not score.exists()
    # A rate so small that the best is not replaced.
    train("still", 1, epochs=2, lr=1e-12, ema=0, dropout=0, augment=False, schedule="constant")
    mnist("eval", "runs/still", "-q")
    kept = (Path("runs/still") / score.name).read_bytes()
    resume("still")
    if load_checkpoint(Path("runs/still/best.pth")).card.epoch == 1:
        assert (Path("runs/still") / score.name).read_bytes() == kept


# What --resume refuses

ALLOWED = {
    "epochs",
    "until",
    "device",
    "precision",
    "data_dir",
    "offline",
    "out",
    "json",
    "quiet",
}


def refused_flags() -> list[tuple[str, ...]]:
    """Every flag of `mnist train` that may not come with --resume, with a value."""
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    found: list[tuple[str, ...]] = []
    for param in train.params:
        if param.name in ALLOWED | {"resume", "help"}:
            continue
        if param.is_flag:
            found += [(flag,) for flag in (*param.opts, *param.secondary_opts)]
        else:
            found.append((max(param.opts, key=len), "1"))
    return found


def test_the_flags_that_are_refused_are_nearly_all() -> None:
    names = {flag for flag, *_ in refused_flags()}
    assert {"--config", "--name", "--dry-run", "--lr", "--augment", "--no-augment"} <= names
    assert len(names) > 20


@pytest.mark.parametrize("flag", refused_flags(), ids=lambda flag: flag[0])
def test_a_flag_that_would_change_the_run_is_refused(flag: tuple[str, ...], mnist: Mnist) -> None:
    path = Path("runs/one")
    path.mkdir(parents=True)
    settings = resolve_settings({"recipe": "mlp-50-50", "dataset": "digits"}, environ={}).settings
    write_record(Run(path), "settings.json", settings.model_dump(mode="json"))
    before = files(path)
    result = mnist("train", "--resume", "one", *flag)
    assert result.exit_code == 2
    assert f"{flag[0].replace('--no-', '--')} cannot be used with --resume." in result.stderr
    assert "Leave out" in result.stderr
    assert files(path) == before


def test_the_environment_changes_no_run_that_goes_on(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole")
    train("one", 2)
    for name, value in {"EPOCHS": "9", "LR": "5", "ARCH": "cnn", "BATCH_SIZE": "x"}.items():
        monkeypatch.setenv(f"MNIST_{name}", value)
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(ONE, whole)


# Which run is meant


def set_times(path: Path, seconds: float) -> None:
    for entry in path.iterdir():
        os.utime(entry, (seconds, seconds))


def test_last_is_the_run_that_was_trained_last_with_or_without_an_epoch(mnist: Mnist) -> None:
    older, newer = train("older", 1), train("newer", 1)
    set_times(older, time.time() - 200)
    set_times(newer, time.time() - 100)
    assert "runs/newer" in mnist("train", "--resume", "last", "--epochs", "2").stdout
    set_times(newer, time.time() - 100)
    # It was begun, and killed in its first epoch.
    dead = Path("runs/dead")
    dead.mkdir()
    (dead / "settings.json").write_bytes((older / "settings.json").read_bytes())
    (Path("runs") / "no-run").mkdir()
    result = mnist("train", "--resume", "last", "--epochs", "2")
    assert "Kept in runs/dead" in result.stdout
    assert "Resuming at epoch 1 of 2." in result.stderr
    set_times(dead, time.time() - 50)
    resume("older", 1)
    assert "Kept in runs/older" in mnist("train", "--resume", "last").stdout


def test_a_run_that_was_killed_in_its_first_epoch_begins_anew(fork_server: ForkServer) -> None:
    prepare = signal_at_step(signal.SIGKILL, step=3)
    assert fork_server.run(*train_command(), "--name", "one", prepare=prepare).exit_code == 137
    assert not (ONE / "state.pth").exists()
    again = fork_server.run("train", "--resume", "last")
    assert again.exit_code == 0, again.stderr
    assert "Resuming at epoch 1 of 4." in again.stderr
    assert_same_run(ONE, train("whole"))
    assert "resumed" not in read_record(Run(ONE), "environment.json")


@pytest.mark.parametrize("left", [[], [".lock"]])
def test_a_directory_that_holds_no_run_can_be_used(left: list[str], mnist: Mnist) -> None:
    ONE.mkdir(parents=True)
    for name in left:
        (ONE / name).touch()
    assert mnist(*train_command(epochs=1), "--name", "one").exit_code == 0
    assert (ONE / "best.pth").exists()


def test_a_directory_with_what_a_killed_process_left_can_be_used(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    """Its lock and the half of a file."""
    prepare = "kill_at_write(1, only='fsync')"
    assert fork_server.run(*train_command(), "--name", "one", prepare=prepare).exit_code == 137
    assert not (ONE / "settings.json").exists()
    assert len(list(ONE.iterdir())) == 2
    assert mnist(*train_command(epochs=1), "--name", "one").exit_code == 0
    assert not list(ONE.glob(".?*.*"))


def test_a_directory_with_anything_else_is_left_alone(mnist: Mnist) -> None:
    ONE.mkdir(parents=True)
    (ONE / "thesis.txt").write_text("years of work")
    result = mnist(*train_command(epochs=1), "--name", "one")
    assert result.exit_code == 2
    assert [path.name for path in ONE.iterdir()] == ["thesis.txt"]


def test_a_name_that_is_taken_says_how_to_go_on_with_it(mnist: Mnist) -> None:
    train("one", 1)
    Path("runs").rename("elsewhere")
    result = mnist(*train_command(), "--name", "one", "--out", "elsewhere")
    assert result.exit_code == 2
    assert "mnist train --resume elsewhere/one" in result.stderr
    assert mnist("train", "--resume", "elsewhere/one").exit_code == 0


@pytest.mark.parametrize("name", ["", "none", ".", "runs", "notes.txt", "empty"])
def test_what_is_no_run_is_refused_and_left_alone(name: str, mnist: Mnist) -> None:
    Path("notes.txt").write_text("")
    Path("empty").mkdir()
    Path("runs").mkdir()
    before = sorted(Path().rglob("*"))
    result = mnist("train", "--resume", name)
    assert result.exit_code == 3
    assert "Traceback" not in result.stderr
    assert sorted(Path().rglob("*")) == before


def test_without_a_run_there_is_no_last_one(mnist: Mnist) -> None:
    result = mnist("train", "--resume", "last")
    assert result.exit_code == 3
    assert "There is no run in runs." in result.stderr


# Damage


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[], object]:
    """Change what a state holds."""

    def spoil() -> None:
        content = torch.load(ONE / "state.pth", weights_only=True)
        change(content)
        torch.save(content, ONE / "state.pth")

    return spoil


def edited(**changes: Any) -> Callable[[], object]:
    """Change the record of the settings."""

    def spoil() -> None:
        record = json.loads((ONE / "settings.json").read_text())
        for name, value in changes.items():
            (record["model"] if name in record["model"] else record)[name] = value
        (ONE / "settings.json").write_text(json.dumps(record))

    return spoil


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def evil_pickle() -> None:
    (ONE / "state.pth").write_bytes(pickle.dumps({"format": 1, "state": Evil()}))


def of_another_network() -> None:
    other = train("other", 2, hidden=[17])
    (ONE / "state.pth").write_bytes((other / "state.pth").read_bytes())


def first_moments(content: dict[str, Any]) -> Any:
    return content["state"]["optimizer"][0]


DAMAGE: dict[str, Callable[[], object]] = {
    "missing": (ONE / "state.pth").unlink,
    "empty": lambda: (ONE / "state.pth").write_bytes(b""),
    "text": lambda: (ONE / "state.pth").write_text("state"),
    "a-list": lambda: torch.save([1, 2], ONE / "state.pth"),
    "a-checkpoint": lambda: (ONE / "state.pth").write_bytes((ONE / "last.pth").read_bytes()),
    "random-bytes": lambda: (ONE / "state.pth").write_bytes(random.Random(0).randbytes(50_000)),
    "evil-pickle": evil_pickle,
    "evil-zip": changed(lambda c: c["state"].update(model=Evil())),
    "another-network": of_another_network,
    "another-format": changed(lambda c: c.update(format=2)),
    "no-history": changed(lambda c: c.update(history=[])),
    "an-epoch-lost": changed(lambda c: c["history"].pop(0)),
    "an-epoch-more": changed(lambda c: c["state"]["losses"].append(0.5)),
    "strange-history": changed(lambda c: c["history"][0].update(lr="fast")),
    "strange-state": changed(lambda c: c.update(state=[])),
    "no-state": changed(lambda c: c.pop("state")),
    "no-model": changed(lambda c: c["state"].pop("model")),
    "wrong-moments": changed(lambda c: first_moments(c).update(exp_avg=torch.zeros(7))),
    "no-moments": changed(lambda c: c["state"].update(optimizer={})),
    "wrong-generator": changed(lambda c: c["state"]["generators"][1].resize_(3)),
    "no-average": changed(lambda c: c["state"].update(average=None)),
    "other-optimizer": edited(optimizer="sgd"),
    "other-network": edited(hidden=[20]),
    "other-rate": edited(lr=0.5),
    "other-seed": edited(seed=3),
    "other-augmentation": edited(augment=False),
    "wrong-setting": edited(epochs="many"),
    "unknown-setting": edited(color="green"),
    "settings-missing": (ONE / "settings.json").unlink,
    "settings-broken": lambda: (ONE / "settings.json").write_text('{"recipe": '),
    "settings-no-table": lambda: (ONE / "settings.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_and_nothing_of_it_overwritten(damage: str, mnist: Mnist) -> None:
    train("one", 2)
    DAMAGE[damage]()
    before = files(ONE)
    result = mnist("train", "--resume", "one", "--epochs", "9")
    assert result.exit_code == 3
    assert "Error: " in result.stderr
    assert len(result.stderr.strip().splitlines()[-3:]) == 3
    assert "Traceback" not in result.stderr
    assert files(ONE) == before
    assert not Path("executed").exists()


def test_a_run_of_an_older_version_says_what_to_do(mnist: Mnist) -> None:
    train("one", 2)
    (ONE / "state.pth").unlink()
    result = mnist("train", "--resume", "one")
    assert "runs/one cannot be resumed." in result.stderr
    assert "mnist train --config runs/one/settings.json" in result.stderr
    advice = ("train", "--config", "runs/one/settings.json", "--name", "anew", "-q")
    assert mnist(*advice).exit_code == 0


def test_a_setting_that_was_changed_is_named(mnist: Mnist) -> None:
    train("one", 2)
    edited(lr=0.5)()
    assert "lr" in mnist("train", "--resume", "one").stderr
    edited(lr=QUICK_SETTINGS["lr"], epochs=6)()
    assert mnist("train", "--resume", "one").exit_code == 0


@pytest.mark.parametrize("keep", [0, 1, 30, 1_000, 20_000, -1, -30, -300])
def test_a_state_that_was_cut_off_is_refused(keep: int, mnist: Mnist) -> None:
    train("one", 1)
    (ONE / "state.pth").write_bytes((ONE / "state.pth").read_bytes()[:keep])
    before = files(ONE)
    result = mnist("train", "--resume", "one")
    assert result.exit_code == 3
    assert "runs/one cannot be resumed." in result.stderr
    assert files(ONE) == before


def test_a_flipped_bit_is_refused_or_harmless(mnist: Mnist) -> None:
    """Forty states with one bit changed, most of them in a number."""
    train("one", 1, epochs=2)
    good, chance, whole = (ONE / "state.pth").read_bytes(), random.Random(1), saved_state(ONE).state
    num_refused = 0
    for _ in range(40):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        (ONE / "state.pth").write_bytes(bad)
        before = files(ONE)
        result = mnist("train", "--resume", "one", "--epochs", "1")
        assert "Traceback" not in result.stderr
        if result.exit_code == 3:
            assert files(ONE) == before
            num_refused += 1
            continue
        # It was where the file says nothing.
        assert result.exit_code == 0
        assert_same(saved_state(ONE).state, whole)
        edited(epochs=2)()
    assert num_refused >= 30
