"""A multi-run: each run equals that of a single command, and the summary follows from the runs."""

import itertools
import json
import math
import re
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mnistcli.config.choices import DataSplit
from mnistcli.data import datasets
from mnistcli.data.datasets import Dataset, get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.splits import split_examples
from mnistcli.errors import DataError, RunError
from mnistcli.evaluation.metrics import wilson_interval
from mnistcli.runs.directory import Run, read_settings, write_record
from mnistcli.runs.find import find_run
from mnistcli.runs.history import read_metrics
from mnistcli.system.lock import lock_directory
from mnistcli.training import engine, multirun, trainer
from tests.helpers.cli import Mnist, Terminal
from tests.helpers.paths import REPOSITORY
from tests.helpers.processes import ForkServer
from tests.helpers.runs import (
    assert_same_run,
    signal_at_step,
    signal_while_writing,
    train,
    train_command,
)

MANY = Path("runs/many")
NUM_DIGITS = 1437


def summary(path: Path = MANY) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((path / "summary.json").read_text())
    return record


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "runs": [{**run, "seconds": 0} for run in record["runs"]]}


def command(*words: str, **changes: Any) -> list[str]:
    """The command line of a multi-run called many."""
    return [*train_command(**changes), "--name", "many", *words]


def contents(path: Path = MANY) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def many(mnist: Mnist) -> Path:
    """A multi-run of two seeds with an epoch each."""
    assert mnist(*command("--seeds", "2", epochs=1)).exit_code == 0
    return MANY


def assert_summary_follows(num_val: dict[str, int]) -> None:
    """Compare every figure of the summary with the metrics of the runs."""
    record = summary()
    assert record["schema_version"] == 1
    assert [run["directory"] for run in record["runs"]] == list(num_val)
    accuracies: dict[str, list[float]] = {"last": [], "best": []}
    num_errors = {"last": 0, "best": 0}
    for run in record["runs"]:
        epochs = read_metrics(Run(MANY / run["directory"]))
        assert run["epochs"] == len(epochs)
        assert run["num_val"] == num_val[run["directory"]]
        assert run["seconds"] == pytest.approx(math.fsum(epoch.seconds for epoch in epochs))
        best = max(epochs, key=lambda epoch: (epoch.val_accuracy, -(epoch.val_loss or 0)))
        for which, epoch in (("last", epochs[-1]), ("best", best)):
            accuracy = epoch.val_accuracy
            assert accuracy is not None
            assert run[which] == {
                "epoch": epoch.epoch,
                "val_accuracy": accuracy,
                "val_loss": epoch.val_loss,
            }
            accuracies[which].append(accuracy)
            num_errors[which] += round(run["num_val"] * (1 - accuracy))
    num_images = sum(num_val.values())
    for which, values in accuracies.items():
        spread = record[which]
        assert spread["mean"] == pytest.approx(statistics.fmean(values))
        assert spread["deviation"] == pytest.approx(statistics.stdev(values))
        assert (spread["num_errors"], spread["num_images"]) == (num_errors[which], num_images)
        interval = wilson_interval(num_images - num_errors[which], num_images)
        assert spread["interval"] == pytest.approx(interval)


# Training


def test_each_seed_is_the_run_of_a_single_command(mnist: Mnist) -> None:
    assert mnist(*command("--seeds", "3", "--seed", "5")).exit_code == 0
    assert_summary_follows({"seed-5": 144, "seed-6": 144, "seed-7": 144})
    for seed in (5, 7):
        assert_same_run(MANY / f"seed-{seed}", train(f"alone-{seed}", seed=seed))


def test_folds_validate_on_every_image_once(mnist: Mnist) -> None:
    assert mnist(*command("--folds", "4")).exit_code == 0
    assert_summary_follows({"fold-1": 359, "fold-2": 359, "fold-3": 359, "fold-4": 360})
    assert summary()["last"]["num_images"] == NUM_DIGITS
    num_errors = 0
    for run in summary()["runs"]:
        settings = read_settings(Run(MANY / run["directory"]))
        assert settings.fold
        assert (settings.fold.number, settings.fold.of, settings.seed) == (run["fold"], 4, 0)
        name = f"many/{run['directory']}"
        score = json.loads(mnist("eval", name, "--split", "val", "--json").stdout)
        assert score["num_images"] == run["num_val"]
        assert score["accuracy"] == pytest.approx(run["best"]["val_accuracy"])
        num_errors += score["num_errors"]
    assert summary()["best"]["num_errors"] == num_errors


def test_a_fold_can_be_resumed_and_replayed_as_a_run(mnist: Mnist) -> None:
    fold: dict[str, Any] = {"val_size": 0, "fold": {"number": 2, "of": 3}}
    whole = train("whole", **fold)
    train("one", 2, **fold)
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(Path("runs/one"), whole)
    assert mnist("train", "--config", "runs/one/settings.json", "-n", "again").exit_code == 0
    assert_same_run(Path("runs/again"), whole)


def test_the_training_set_is_loaded_once_and_the_test_set_never(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[DataSplit] = []
    divided: list[tuple[Examples, Examples]] = []

    def note_load(dataset: Dataset, split: DataSplit, folder: Path) -> Examples:
        loaded.append(split)
        return load_dataset(dataset, split, folder)

    def note_split(examples: Examples, settings: Any) -> tuple[Examples, Examples]:
        divided.append(split_examples(examples, settings))
        return divided[-1]

    monkeypatch.setattr(datasets, "load_dataset", note_load)
    monkeypatch.setattr(trainer, "split_examples", note_split)
    assert mnist(*command("--folds", "3", epochs=1)).exit_code == 0
    assert loaded == ["train"]
    everything = sorted_images(load_dataset(get_dataset("digits"), "train", Path()).images_NHW)
    # The first split of all is for the sizes in the header.
    held_out = [sorted_images(val.images_NHW) for _, val in divided[1:]]
    assert sorted(itertools.chain(*held_out)) == everything
    for training, val in divided:
        both = sorted_images(training.images_NHW) + sorted_images(val.images_NHW)
        assert sorted(both) == everything


def sorted_images(images_NHW: Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images_NHW)


def test_budget_config_and_until_apply_to_every_run(mnist: Mnist) -> None:
    before = train("before", epochs=1, seed=1)
    words = "train --arch cnn-small --max-params 1000 --dataset digits -e 2 --until 1 -q"
    result = mnist(*words.split(), "--seeds", "2", "-n", "many")
    assert result.exit_code == 0, result.stderr
    for run in summary()["runs"]:
        settings = read_settings(Run(MANY / run["directory"]))
        assert settings.max_params == 1000
        assert settings.network["width"]
        assert run["epochs"] == 1  # 1 % is reached at once
    config = ("train", "--config", before / "settings.json")
    assert mnist(*config, "--folds", "2", "-n", "folded", "-q").exit_code == 0
    assert [run["seed"] for run in summary(Path("runs/folded"))["runs"]] == [1, 1]


@pytest.mark.slow
def test_two_processes_train_one_multi_run(fork_server: ForkServer) -> None:
    processes = fork_server.start_distributed(2, *command("--seeds", "2", epochs=1))
    results = [process.wait() for process in processes]
    assert [result.exit_code for result in results] == [0, 0], results
    assert results[0].stdout.count("Saved in runs/many\n") == 1
    assert not results[1].stdout
    assert_summary_follows({"seed-0": 144, "seed-1": 144})


# What is printed


def test_seeds_print_a_header_a_line_per_run_and_a_table(mnist: Mnist) -> None:
    result = mnist(*command("--seeds", "2", epochs=2))
    assert result.stdout.count("network    mlp:") == 1
    assert "2 seeds, 0 to 1, in runs/many" in result.stdout
    lines = re.findall(r"^run (\d/2), (seed-\d): ", result.stdout, re.MULTILINE)
    assert lines == [("1/2", "seed-0"), ("2/2", "seed-1")]
    rows = re.findall(r"^(seed-\d) +2 +[\d.]+ % +[\d.]+ +\d +", result.stdout, re.MULTILINE)
    assert rows == ["seed-0", "seed-1"]
    spread = summary()["last"]
    assert f"mean {100 * spread['mean']:.2f} %, SD " in result.stdout
    assert f"{spread['num_errors']} errors in 288" in result.stdout
    # Two seeds may hold out the same image, so there is no interval.
    assert "Wilson" not in result.stdout
    assert "Saved in runs/many" in result.stdout
    assert "mnist eval runs/many\n" in result.stdout


def test_folds_print_an_interval_of_all_their_errors(mnist: Mnist) -> None:
    result = mnist(*command("--folds", "2", epochs=1))
    spread = summary()["last"]
    low, high = wilson_interval(NUM_DIGITS - spread["num_errors"], NUM_DIGITS)
    assert f"{spread['num_errors']:,} errors in 1,437" in result.stdout
    assert f"{100 * low:.2f} to {100 * high:.2f} % (Wilson)" in result.stdout


def test_quiet_prints_the_mean_and_json_one_object(mnist: Mnist) -> None:
    result = mnist(*command("--folds", "2", "-q", epochs=2))
    assert (result.stdout, result.stderr) == (f"{100 * summary()['last']['mean']:.2f}\n", "")
    result = mnist("train", "--resume", "many", "--json")
    assert not result.stderr
    record = json.loads(result.stdout)
    assert record.pop("run") == "runs/many"
    assert record.pop("command_seconds") > 0
    assert record == summary()


def test_the_bar_on_a_terminal_names_the_run(terminal: Terminal) -> None:
    output = terminal(" ".join(command("--seeds", "2", epochs=2)))
    assert "run 2/2, seed-1, epoch 2/2" in output
    assert "Last epochs: mean" in output


def test_a_dry_run_shows_the_first_runs_settings_and_the_layout(mnist: Mnist) -> None:
    result = mnist(*command("--folds", "5", "--dry-run"))
    assert "5 folds, each held out once, split with seed 0" in result.stdout
    record = json.loads(mnist(*command("--folds", "5", "--dry-run", "--json")).stdout)
    assert record["layout"] == {"by": "folds", "num_runs": 5}
    assert record["settings"]["fold"] == {"number": 1, "of": 5}
    assert record["sources"]["fold"] == "flag"
    assert not Path("runs").exists()


# Interrupting and resuming; a run of three folds takes 4 epochs of 3 steps

IN_SECOND_FOLD = 4 * 3 + 8


def test_a_killed_multi_run_is_resumed_to_the_same_summary(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    kill = signal_at_step(signal.SIGKILL, step=IN_SECOND_FOLD)
    assert fork_server.run(*command("--folds", "3"), prepare=kill).exit_code == 137
    assert [run["directory"] for run in summary()["runs"]] == ["fold-1"]
    assert summary()["last"]["deviation"] is None
    before = (MANY / "fold-1" / "best.pth").stat().st_mtime_ns
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 0, result.stderr
    assert (MANY / "fold-1" / "best.pth").stat().st_mtime_ns == before
    MANY.rename("runs/resumed")
    assert mnist(*command("--folds", "3")).exit_code == 0
    assert without_seconds(summary(Path("runs/resumed"))) == without_seconds(summary())
    for name in ("fold-1", "fold-2", "fold-3"):
        assert_same_run(Path("runs/resumed", name), MANY / name)


def test_an_interrupted_multi_run_tells_how_to_resume_it(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    interrupt = signal_at_step(signal.SIGINT, step=IN_SECOND_FOLD)
    result = fork_server.run(*command("--folds", "3"), prepare=interrupt)
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    assert "1 of 3 runs are finished, fold-2 is at epoch 2 of 4" in result.stderr
    assert "mnist train --resume runs/many\n" in result.stderr
    # The run that was trained last is one of this multi-run.
    assert mnist("train", "--resume", "last", "-q").exit_code == 0
    assert len(summary()["runs"]) == 3


def test_a_multi_run_interrupted_before_its_first_epoch_leaves_nothing(
    fork_server: ForkServer,
) -> None:
    interrupt = signal_at_step(signal.SIGINT, step=1)
    assert fork_server.run(*command("--seeds", "2"), prepare=interrupt).exit_code == 130
    assert not MANY.exists()


def test_a_multi_run_killed_before_its_first_epoch_can_be_resumed(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    kill = signal_at_step(signal.SIGKILL, step=1)
    assert fork_server.run(*command("--seeds", "2"), prepare=kill).exit_code == 137
    assert summary()["runs"] == []
    assert mnist("train", "--resume", "last", "-q", "-e", "1").exit_code == 0
    assert [run["epochs"] for run in summary()["runs"]] == [1, 1]


def test_more_epochs_are_for_every_run_even_after_an_interruption(
    fork_server: ForkServer, mnist: Mnist, many: Path
) -> None:
    interrupt = signal_while_writing(signal.SIGINT, epoch=2)
    result = fork_server.run("train", "--resume", "many", "--epochs", "3", prepare=interrupt)
    assert result.exit_code == 130
    assert "0 of 2 runs are finished, seed-0 is at epoch 2 of 3" in result.stderr
    assert mnist("train", "--resume", "many").exit_code == 0
    assert [run["epochs"] for run in summary()["runs"]] == [3, 3]
    assert_summary_follows({"seed-0": 144, "seed-1": 144})


def test_a_failing_run_stops_the_multi_run_and_keeps_the_finished_ones(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = engine._raise_if_diverged

    def fail(state: Any, *args: Any, **options: Any) -> None:
        if state.settings.seed == 1:
            raise RunError("The loss became NaN.", fix="--lr")
        check(state, *args, **options)

    monkeypatch.setattr(engine, "_raise_if_diverged", fail)
    result = mnist(*command("--seeds", "3"))
    assert result.exit_code == 1
    assert "1 of 3 runs are finished" in result.stderr
    assert "The loss became NaN." in result.stderr
    assert [path.name for path in MANY.glob("seed-*")] == ["seed-0"]
    assert len(summary()["runs"]) == 1


def test_a_resumed_multi_run_lists_its_finished_runs_from_the_start(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mnist(*command("--folds", "3", epochs=1)).exit_code == 0
    whole = summary()
    shutil.rmtree(MANY / "fold-1")
    written = []

    def note_write(run: Run, name: str, record: dict[str, Any]) -> None:
        written.append([entry["directory"] for entry in record["runs"]])
        write_record(run, name, record)

    monkeypatch.setattr(multirun, "write_record", note_write)
    assert mnist("train", "--resume", "many").exit_code == 0
    assert written == [["fold-2", "fold-3"]] + [["fold-1", "fold-2", "fold-3"]] * 3
    assert without_seconds(summary()) == without_seconds(whole)


def test_a_finished_multi_run_is_left_unchanged(mnist: Mnist, many: Path) -> None:
    before = contents()
    assert mnist("train", "--resume", "many").exit_code == 0
    assert contents() == before


def test_a_finished_run_takes_new_epochs_and_until_but_keeps_its_precision(
    mnist: Mnist, many: Path
) -> None:
    shutil.rmtree(many / "seed-1")
    finished = (many / "seed-0" / "settings.json").read_bytes()
    resume = ("train", "--resume", "many", "-q")
    assert mnist(*resume, "--precision", "bfloat16").exit_code == 0
    assert (many / "seed-0" / "settings.json").read_bytes() == finished
    assert mnist(*resume, "--epochs", "2", "--until", "1").exit_code == 0
    settings = [read_settings(Run(many / name)) for name in ("seed-0", "seed-1")]
    assert [(run.epochs, run.until, run.precision) for run in settings] == [
        (2, 1, "float32"),
        (2, 1, "bfloat16"),
    ]
    assert [run["epochs"] for run in summary()["runs"]] == [1, 1]


# Naming runs and multi-runs


def test_runs_of_a_multi_run_have_names_but_it_is_not_a_run(mnist: Mnist, many: Path) -> None:
    from mnistcli.cli.options import complete_run

    for name in ("many/seed-0", many / "seed-1", "last"):
        assert mnist("eval", name, "-q").exit_code == 0
    assert mnist("plot", many / "seed-0", "many/seed-1", "-q").exit_code == 0
    assert mnist("plot", "--kind", "frontier", "-q").exit_code == 0
    assert find_run("last", Path("runs")) == Run(many / "seed-1")
    result = mnist("summary", "-c", "many")
    assert result.exit_code == 3
    assert "runs/many is a multi-run" in result.stderr
    assert "runs/many/seed-0" in result.stderr
    assert "many/seed-1, many/seed-0" in mnist("eval", "mani").stderr
    assert "Did you mean many? " in mnist("eval", "mamy").stderr
    assert "Did you mean many/seed-1? " in mnist("eval", "many/seed-11").stderr
    assert complete_run("many") == ["many", "many/seed-0", "many/seed-1"]


def test_a_multi_run_stands_for_its_runs(mnist: Mnist, many: Path) -> None:
    both = ("many/seed-0", many / "seed-1")
    assert mnist("eval", "many").stdout == mnist("eval", *both).stdout
    for kind in ("curves", "frontier"):
        for name, runs in (("multirun.png", ["many"]), ("runs.png", both)):
            assert mnist("plot", *runs, "-k", kind, "-o", name, "-q").exit_code == 0
        assert Path("multirun.png").read_bytes() == Path("runs.png").read_bytes()
    assert mnist("plot", "many", "-k", "confusion").exit_code == 2
    seven = REPOSITORY / "docs" / "images" / "digit.png"
    read = mnist("predict", seven, "--json", "-c", "many").stdout
    assert read == mnist("predict", seven, "--json", "-c", both[0], "-c", both[1]).stdout != ""


def test_runs_without_a_checkpoint_are_left_out_of_a_multi_run(mnist: Mnist, many: Path) -> None:
    (many / "seed-1" / "best.pth").unlink()
    result = mnist("eval", "many", "--json")
    assert "runs/many/seed-1" in result.stderr
    assert json.loads(result.stdout)["checkpoint"].endswith("seed-0/best.pth")
    assert mnist("plot", "many", "-q").stderr == ""  # needs only the epochs
    (many / "seed-0" / "best.pth").unlink()
    result = mnist("eval", "many")
    assert result.exit_code == 3
    assert "best.pth" in result.stderr
    assert "mnist train --resume runs/many" in result.stderr


# What is refused


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--seeds 1", "--seeds 1"),
        ("--folds 101", "2 to 100"),
        ("--seeds 2 --folds 2", "--seeds and --folds"),
        ("--folds 2 --val-size 0.2", "--val-size"),
        ("--seeds 2 --val-size 0", "val_size of 0"),
        ("--seeds 2 --seed 4294967295", "--seed 4294967294"),
        ("--seeds two", "two"),
    ],
)
def test_an_impossible_layout_is_refused(words: str, named: str, mnist: Mnist) -> None:
    for extra in ([], ["--dry-run"]):
        result = mnist(*command(*words.split()), *extra)
        assert result.exit_code == 2
        assert named in result.stderr
        assert not Path("runs").exists()


def no_data(*_: Any) -> Examples:
    raise DataError("The data are missing.")


def test_what_is_refused_leaves_a_multi_run_unchanged(
    mnist: Mnist, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents()
    resume = ("train", "--resume", "many")
    for flag in (("--lr", "1"), ("--seeds", "3"), ("--folds", "3"), ("--dataset", "digits")):
        result = mnist(*resume, "--epochs", "9", *flag)
        assert result.exit_code == 2
        assert flag[0] in result.stderr
    with lock_directory(many, wait=None):
        assert mnist(*resume).exit_code == 1
    monkeypatch.setattr(datasets, "load_dataset", no_data)
    assert mnist(*resume, "--epochs", "9").exit_code == 3
    result = mnist(*command("--seeds", "2"))
    assert result.exit_code == 2
    assert "mnist train --resume runs/many" in result.stderr
    assert contents() == before


def test_fewer_epochs_than_one_of_the_runs_has_are_refused(mnist: Mnist, many: Path) -> None:
    assert mnist("train", "--resume", "many/seed-1", "-e", "3", "-q").exit_code == 0
    before = contents()
    for flags in ((), ("--epochs", "2")):
        result = mnist("train", "--resume", "many", *flags)
        assert result.exit_code == 2
        assert "runs/many/seed-1" in result.stderr
        assert "mnist train --resume runs/many --epochs 3\n" in result.stderr
    assert contents() == before
    assert mnist("train", "--resume", "many", "--epochs", "3", "-q").exit_code == 0
    assert [run["epochs"] for run in summary()["runs"]] == [3, 3]


def test_a_run_with_other_settings_does_not_belong_to_a_multi_run(mnist: Mnist, many: Path) -> None:
    (many / "seed-0").rename("runs/zero")
    (many / "seed-1").rename(many / "seed-0")
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 3
    assert "runs/many/seed-0" in result.stderr
    assert "seed." in result.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"layout": {"by": "seeds", "num_runs": 1}, "settings": {}}']
)
def test_a_damaged_summary_is_refused(text: str, mnist: Mnist) -> None:
    MANY.mkdir(parents=True)
    (MANY / "summary.json").write_text(text)
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 3
    assert "summary.json is damaged" in result.stderr
    assert (MANY / "summary.json").read_text() == text
