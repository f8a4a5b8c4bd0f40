"""Several runs at once: each is the one of a single command, and the summary follows from them."""

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
from mnistcli.data import batches, datasets
from mnistcli.data.datasets import Dataset, get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.splits import split_examples
from mnistcli.errors import DataError
from mnistcli.evaluation.metrics import wilson_interval
from mnistcli.runs import directory as runs
from mnistcli.runs.directory import Run, read_settings, write_record
from mnistcli.runs.find import find_run
from mnistcli.runs.history import read_metrics
from mnistcli.system.lock import lock_directory
from tests.helpers.cli import Mnist, Terminal
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


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "runs": [{**each, "seconds": 0} for each in record["runs"]]}


def series(*words: str, **changes: Any) -> list[str]:
    """The command line of a series called many."""
    return [*train_command(**changes), "--name", "many", *words]


def assert_summary_follows(num_val: dict[str, int]) -> None:
    """Every figure of the summary against the metrics of the runs, worked out here."""
    record = summary()
    assert record["schema_version"] == 1
    assert [each["directory"] for each in record["runs"]] == list(num_val)
    accuracies: dict[str, list[float]] = {"last": [], "best": []}
    num_errors = {"last": 0, "best": 0}
    for each in record["runs"]:
        epochs = read_metrics(Run(MANY / each["directory"]))
        assert each["epochs"] == len(epochs)
        assert each["num_val"] == num_val[each["directory"]]
        assert each["seconds"] == pytest.approx(math.fsum(epoch.seconds for epoch in epochs))
        top = max(epochs, key=lambda epoch: (epoch.val_accuracy, -(epoch.val_loss or 0)))
        for which, epoch in (("last", epochs[-1]), ("best", top)):
            accuracy = epoch.val_accuracy
            assert accuracy is not None
            assert each[which] == {
                "epoch": epoch.epoch,
                "val_accuracy": accuracy,
                "val_loss": epoch.val_loss,
            }
            accuracies[which].append(accuracy)
            num_errors[which] += round(each["num_val"] * (1 - accuracy))
    num_images = sum(num_val.values())
    for which, found in accuracies.items():
        spread = record[which]
        assert spread["mean"] == pytest.approx(sum(found) / len(found))
        assert spread["deviation"] == pytest.approx(statistics.stdev(found))
        assert (spread["num_errors"], spread["num_images"]) == (num_errors[which], num_images)
        interval = wilson_interval(num_images - num_errors[which], num_images)
        assert spread["interval"] == pytest.approx(interval)


def test_a_series_of_seeds_is_the_runs_of_single_commands(mnist: Mnist) -> None:
    assert mnist(*series("--seeds", "3", "--seed", "5")).exit_code == 0
    assert_summary_follows({"seed-5": 144, "seed-6": 144, "seed-7": 144})
    for seed in (5, 7):
        assert_same_run(MANY / f"seed-{seed}", train(f"alone-{seed}", seed=seed))


def test_a_series_of_folds_judges_every_image_once(mnist: Mnist) -> None:
    assert mnist(*series("--folds", "4")).exit_code == 0
    assert_summary_follows({"fold-1": 359, "fold-2": 359, "fold-3": 359, "fold-4": 360})
    assert summary()["last"]["num_images"] == NUM_DIGITS
    num_errors = 0
    for each in summary()["runs"]:
        settings = read_settings(Run(MANY / each["directory"]))
        assert settings.fold
        assert (settings.fold.number, settings.fold.of, settings.seed) == (each["fold"], 4, 0)
        place = f"many/{each['directory']}"
        score = json.loads(mnist("eval", place, "--split", "val", "--json").stdout)
        assert score["num_images"] == each["num_val"]
        assert score["accuracy"] == pytest.approx(each["best"]["val_accuracy"])
        num_errors += score["num_errors"]
    assert summary()["best"]["num_errors"] == num_errors


def test_a_fold_is_resumed_as_the_run_that_it_is(mnist: Mnist) -> None:
    fold: dict[str, Any] = {"val_size": 0, "fold": {"number": 2, "of": 3}}
    whole = train("whole", **fold)
    train("one", 2, **fold)
    assert mnist("train", "--resume", "one").exit_code == 0
    assert_same_run(Path("runs/one"), whole)
    assert mnist("train", "--config", "runs/one/settings.json", "-n", "again").exit_code == 0
    assert_same_run(Path("runs/again"), whole)


def test_the_data_are_loaded_once_and_the_test_set_never(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, divided = [], []
    load, divide = load_dataset, split_examples

    def noted(dataset: Dataset, split: DataSplit, folder: Path) -> Examples:
        loaded.append(split)
        return load(dataset, split, folder)

    def parts(examples: Examples, settings: Any) -> tuple[Examples, Examples]:
        found = divide(examples, settings)
        divided.append(found)
        return found

    monkeypatch.setattr(datasets, "load", noted)
    monkeypatch.setattr(batches, "divide", parts)
    assert mnist(*series("--folds", "3", epochs=1)).exit_code == 0
    assert loaded == ["train"]
    # What was really trained on and held out, picture by picture; the first was looked at before.
    everything = pictures(load(get_dataset("digits"), "train", Path()).images_NHW)
    held_out = [pictures(val.images_NHW) for _, val in divided[1:]]
    assert sorted(itertools.chain(*held_out)) == everything
    for training, val in divided:
        assert sorted(pictures(training.images_NHW) + pictures(val.images_NHW)) == everything


def pictures(images_NHW: Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images_NHW)


# How it is shown


def test_the_header_comes_once_then_a_line_a_run_and_a_table(mnist: Mnist) -> None:
    result = mnist(*series("--seeds", "2", epochs=2))
    assert result.stderr.count("network    mlp:") == 1
    assert "runs       2 seeds, 0 to 1, in runs/many" in result.stderr
    assert re.findall(r"^run (\d/2), (seed-\d): validation", result.stderr, re.MULTILINE) == [
        ("1/2", "seed-0"),
        ("2/2", "seed-1"),
    ]
    table = re.findall(r"^(seed-\d) +2 +[\d.]+ % +[\d.]+ +\d +", result.stdout, re.MULTILINE)
    assert table == ["seed-0", "seed-1"]
    spread = summary()["last"]
    assert f"Last epochs: mean {100 * spread['mean']:.2f} %, SD " in result.stdout
    # No interval: the seeds' validation images are partly the same.
    assert f"together {spread['num_errors']} errors in 288.\n" in result.stdout
    assert "the SD is of training and split together" in result.stdout
    assert "Kept in runs/many" in result.stdout
    assert "mnist eval runs/many\n" in result.stdout


def test_folds_have_an_interval_of_all_their_errors(mnist: Mnist) -> None:
    result = mnist(*series("--folds", "2", epochs=1))
    spread = summary()["last"]
    low, high = wilson_interval(NUM_DIGITS - spread["num_errors"], NUM_DIGITS)
    said = f"together {spread['num_errors']:,} errors in 1,437, 95 % interval "
    assert f"{said}{100 * low:.2f} to {100 * high:.2f} % (Wilson)." in result.stdout
    assert "split together" not in result.stdout


def test_quiet_prints_the_mean_and_json_one_object(mnist: Mnist) -> None:
    result = mnist(*series("--folds", "2", "-q", epochs=2))
    assert (result.stdout, result.stderr) == (f"{100 * summary()['last']['mean']:.2f}\n", "")
    result = mnist("train", "--resume", "many", "--json")
    assert not result.stderr
    record = json.loads(result.stdout)
    assert record.pop("series") == "runs/many"
    assert record.pop("command_seconds") > 0
    assert record == summary()


def test_a_terminal_gets_a_bar_that_says_which_run(terminal: Terminal) -> None:
    shown = terminal(" ".join(series("--seeds", "2", epochs=2)))
    assert "run 2/2, seed-1, epoch 2/2" in shown
    assert "Last epochs: mean" in shown


def test_a_dry_run_says_of_how_many_runs_it_shows_the_first(mnist: Mnist) -> None:
    result = mnist(*series("--folds", "5", "--dry-run"))
    assert "5 folds, each held out once, divided by seed 0" in result.stdout
    record = json.loads(mnist(*series("--folds", "5", "--dry-run", "--json")).stdout)
    assert record["layout"] == {"by": "folds", "num_runs": 5}
    assert record["settings"]["fold"] == {"number": 1, "of": 5}
    assert record["sources"]["fold"] == "flag"
    assert not Path("runs").exists()


def test_budget_config_and_until_are_those_of_every_run(mnist: Mnist) -> None:
    before = train("before", epochs=1, seed=1)
    words = "train --arch cnn-small --max-params 1000 --dataset digits -e 2 --until 1 -q"
    trained = mnist(*words.split(), "--seeds", "2", "-n", "many")
    assert trained.exit_code == 0, trained.stderr
    for each in summary()["runs"]:
        settings = read_settings(Run(MANY / each["directory"]))
        assert settings.max_params == 1000
        assert settings.network["width"]
        assert each["epochs"] == 1  # an accuracy of 1 % is soon reached
    config = ("train", "--config", before / "settings.json")
    assert mnist(*config, "--folds", "2", "-n", "folded", "-q").exit_code == 0
    assert [each["seed"] for each in summary(Path("runs/folded"))["runs"]] == [1, 1]


# Breaking off and going on


def steps(num_runs: int) -> int:
    """How many steps so many runs of three folds take: 958 images in batches of 256, 4 epochs."""
    return num_runs * 4 * (958 // 256)


def killed(number: int, *, at_step: int) -> str:
    return signal_at_step(number, step=at_step)


def test_a_series_whose_process_is_killed_goes_on_to_the_same_summary(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    words = series("--folds", "3")
    prepare = killed(signal.SIGKILL, at_step=steps(1) + 8)
    assert fork_server.run(*words, prepare=prepare).exit_code == 137
    assert [each["directory"] for each in summary()["runs"]] == ["fold-1"]
    assert summary()["last"]["deviation"] is None
    before = (MANY / "fold-1" / "best.pth").stat().st_mtime_ns
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 0, result.stderr
    assert "Resuming" in result.stderr
    assert (MANY / "fold-1" / "best.pth").stat().st_mtime_ns == before
    MANY.rename("runs/resumed")
    assert mnist(*words).exit_code == 0
    assert timeless(summary(Path("runs/resumed"))) == timeless(summary())
    for name in ("fold-1", "fold-2", "fold-3"):
        assert_same_run(Path("runs/resumed", name), MANY / name)


def test_an_interrupted_series_says_how_to_go_on_and_does(fork_server: ForkServer, mnist: Mnist) -> None:
    prepare = killed(signal.SIGINT, at_step=steps(1) + 8)
    ended = fork_server.run(*series("--folds", "3"), prepare=prepare)
    assert ended.exit_code == 130
    assert "Traceback" not in ended.stderr
    assert "Interrupted: 1 of 3 runs are finished, fold-2 has reached epoch 2 of 4." in ended.stderr
    assert "Go on: mnist train --resume runs/many" in ended.stderr
    # The run that was trained last is one of this series.
    assert mnist("train", "--resume", "last", "-q").exit_code == 0
    assert len(summary()["runs"]) == 3


def test_a_series_interrupted_before_it_has_an_epoch_leaves_nothing(fork_server: ForkServer) -> None:
    prepare = killed(signal.SIGINT, at_step=1)
    ended = fork_server.run(*series("--seeds", "2"), prepare=prepare)
    assert ended.exit_code == 130
    assert "nothing is kept" in ended.stderr
    assert not MANY.exists()


def test_a_series_killed_before_it_has_an_epoch_begins_anew(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    prepare = killed(signal.SIGKILL, at_step=1)
    assert fork_server.run(*series("--seeds", "2"), prepare=prepare).exit_code == 137
    assert summary()["runs"] == []
    assert mnist("train", "--resume", "last", "-q", "-e", "1").exit_code == 0
    assert [each["epochs"] for each in summary()["runs"]] == [1, 1]


def test_more_epochs_are_for_every_run_even_if_it_is_broken_off(
    fork_server: ForkServer, mnist: Mnist
) -> None:
    assert mnist(*series("--seeds", "2", epochs=1)).exit_code == 0
    again = signal_while_writing(signal.SIGINT)
    ended = fork_server.run("train", "--resume", "many", "--epochs", "3", prepare=again)
    assert ended.exit_code == 130
    assert "0 of 2 runs are finished, seed-0 has reached epoch 2 of 3." in ended.stderr
    assert mnist("train", "--resume", "many").exit_code == 0
    assert [each["epochs"] for each in summary()["runs"]] == [3, 3]
    assert_summary_follows({"seed-0": 144, "seed-1": 144})


def test_a_run_that_cannot_go_on_stops_the_series_and_keeps_the_others(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnistcli.errors import RunError
    from mnistcli.training import engine
    from mnistcli.training.engine import _check_finite

    check = _check_finite

    def fail(state: Any, *args: Any, **more: Any) -> None:
        if state.settings.seed == 1:
            raise RunError("The loss became NaN.", fix="--lr")
        check(state, *args, **more)

    monkeypatch.setattr(engine, "_check_finite", fail)
    result = mnist(*series("--seeds", "3"))
    assert result.exit_code == 1
    assert "Stopped: 1 of 3 runs are finished." in result.stderr
    assert "The loss became NaN." in result.stderr
    assert sorted(path.name for path in MANY.glob("seed-*")) == ["seed-0"]
    assert len(summary()["runs"]) == 1


def test_two_processes_train_a_series_as_one_does(mnist: Mnist, fork_server: ForkServer) -> None:
    together = fork_server.start_distributed(2, *series("--seeds", "2", dropout=0, epochs=1))
    ends = [process.wait() for process in together]
    assert [ended.exit_code for ended in ends] == [0, 0], ends
    assert ends[0].stdout.count("Kept in runs/many") == 1
    assert not ends[1].stdout
    MANY.rename("runs/two")
    assert mnist(*series("--seeds", "2", dropout=0, epochs=1)).exit_code == 0
    for two, one in zip(summary(Path("runs/two"))["runs"], summary()["runs"], strict=True):
        assert two["last"]["val_loss"] == pytest.approx(one["last"]["val_loss"], rel=2e-3)


def contents(path: Path = MANY) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}


@pytest.mark.parametrize(
    ("flags", "exit_code"),
    [("--epochs 1", 2), ("--epochs 9 --dataset digits", 2), ("--epochs 9 --data-dir none", 3)],
)
def test_what_is_refused_leaves_the_results_of_a_series(
    flags: str, exit_code: int, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mnist(*series("--seeds", "2", epochs=2)).exit_code == 0
    before = contents()
    if exit_code == 3:
        monkeypatch.setattr(datasets, "load", no_data)
    assert mnist("train", "--resume", "many", *flags.split()).exit_code == exit_code
    assert contents() == before


def no_data(*_: Any) -> Examples:
    raise DataError("The data are not there.")


def test_a_resumed_series_has_its_finished_runs_from_the_beginning(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mnist(*series("--folds", "3", epochs=1)).exit_code == 0
    whole = summary()
    shutil.rmtree(MANY / "fold-1")
    written = []
    write = write_record

    def noted(run: Run, name: str, record: dict[str, Any]) -> None:
        if name == "summary.json":
            written.append([each["directory"] for each in record["runs"]])
        write(run, name, record)

    monkeypatch.setattr(runs, "write_record", noted)
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 0
    assert written[0] == ["fold-2", "fold-3"]
    assert written[1:] == [["fold-1", "fold-2", "fold-3"]] * 3
    assert timeless(summary()) == timeless(whole)
    assert re.findall(r"^run (\d)/3, fold-(\d):", result.stderr, re.MULTILINE) == [
        ("1", "1"),
        ("2", "2"),
        ("3", "3"),
    ]


def test_a_run_that_went_further_alone_says_how_the_series_goes_on(
    mnist: Mnist, many: Path
) -> None:
    assert mnist("train", "--resume", "many/seed-1", "-e", "3", "-q").exit_code == 0
    before = contents()
    for flags in ((), ("--epochs", "2")):
        result = mnist("train", "--resume", "many", *flags)
        assert result.exit_code == 2
        assert "runs/many/seed-1 has more than" in result.stderr
        assert "mnist train --resume runs/many --epochs 3\n" in result.stderr
    assert contents() == before
    assert mnist("train", "--resume", "many", "--epochs", "3", "-q").exit_code == 0
    assert [each["epochs"] for each in summary()["runs"]] == [3, 3]


def test_a_finished_run_takes_up_epochs_and_until_alone(mnist: Mnist, many: Path) -> None:
    shutil.rmtree(many / "seed-1")
    finished = (many / "seed-0" / "settings.json").read_bytes()
    resume = ("train", "--resume", "many", "-q")
    assert mnist(*resume, "--precision", "bfloat16").exit_code == 0
    assert (many / "seed-0" / "settings.json").read_bytes() == finished
    settings = [read_settings(Run(many / name)) for name in ("seed-0", "seed-1")]
    assert [each.precision for each in settings] == ["float32", "bfloat16"]
    # It reads as one of the series all the same, and is as accurate as this asks for.
    assert mnist(*resume, "--epochs", "2", "--until", "1").exit_code == 0
    settings = [read_settings(Run(many / name)) for name in ("seed-0", "seed-1")]
    assert [(each.epochs, each.until, each.precision) for each in settings] == [
        (2, 1, "float32"),
        (2, 1, "bfloat16"),
    ]
    assert [each["epochs"] for each in summary()["runs"]] == [1, 1]


# Which run is meant


@pytest.fixture
def many(mnist: Mnist) -> Path:
    """A series of two seeds, an epoch each."""
    assert mnist(*series("--seeds", "2", epochs=1)).exit_code == 0
    return MANY


def test_the_runs_of_a_series_are_found_and_the_series_is_told_from_them(
    mnist: Mnist, many: Path
) -> None:
    from mnistcli.cli.options import complete_run

    for name in ("many/seed-0", many / "seed-1", "last"):
        assert mnist("eval", name, "-q").exit_code == 0
    assert mnist("plot", many / "seed-0", "many/seed-1", "-q").exit_code == 0
    assert mnist("plot", "--kind", "frontier", "-q").exit_code == 0
    assert find_run("last", Path("runs")) == Run(many / "seed-1")
    result = mnist("summary", "-c", "many")
    assert result.exit_code == 3
    assert "runs/many is a series of runs, not one." in result.stderr
    assert "Name one, runs/many/seed-0; all together: mnist eval runs/many" in result.stderr
    assert "The newest runs in runs: many/seed-1, many/seed-0" in mnist("eval", "mani").stderr
    assert "Did you mean many? " in mnist("eval", "mamy").stderr
    assert "Did you mean many/seed-1? " in mnist("eval", "many/seed-11").stderr
    assert complete_run("many") == ["many", "many/seed-0", "many/seed-1"]


def test_a_series_stands_for_its_runs(mnist: Mnist, many: Path) -> None:
    both = ("many/seed-0", many / "seed-1")
    assert mnist("eval", "many").stdout == mnist("eval", *both).stdout
    assert "SD" in mnist("eval", many).stdout
    for kind in ("curves", "frontier"):
        for name, runs_named in (("series.png", ["many"]), ("runs.png", both)):
            assert mnist("plot", *runs_named, "-k", kind, "-o", name, "-q").exit_code == 0
        assert Path("series.png").read_bytes() == Path("runs.png").read_bytes()
    assert "These are 2." in mnist("plot", "many", "-k", "confusion").stderr
    seven = Path(__file__).parents[2] / "docs" / "images" / "digit.png"
    read = [mnist("predict", seven, "--json", "-c", "many").stdout]
    read.append(mnist("predict", seven, "--json", "-c", both[0], "-c", both[1]).stdout)
    assert read[0] == read[1] != ""
    (many / "seed-1" / "best.pth").unlink()
    left_out = "Left out: runs/many/seed-1, which holds no best.pth."
    assert left_out in mnist("eval", "many", "-q").stderr
    assert "Left out" not in mnist("plot", "many", "-q").stderr  # epochs are all it needs
    assert json.loads(mnist("eval", "many", "--json").stdout)["checkpoint"].endswith(
        "seed-0/best.pth"
    )
    (many / "seed-0" / "best.pth").unlink()
    none = mnist("eval", "many")
    assert none.exit_code == 3
    assert "No run of the series runs/many holds a best.pth." in none.stderr
    assert "mnist train --resume runs/many" in none.stderr
    lost = mnist("eval", both[0])
    assert "The run has finished an epoch: the file was removed or moved." in lost.stderr


def test_a_finished_series_stays_as_it_is(mnist: Mnist, many: Path) -> None:
    before = contents(many)
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 0
    assert "Kept in runs/many" in result.stdout
    assert contents(many) == before


def test_a_series_has_one_process(mnist: Mnist, many: Path) -> None:
    with lock_directory(many, wait=None):
        result = mnist("train", "--resume", "many")
    assert result.exit_code == 1
    assert "runs/many is being trained by another process." in result.stderr


def test_a_name_that_is_taken_says_how_to_go_on(mnist: Mnist, many: Path) -> None:
    result = mnist(*series("--seeds", "2"))
    assert result.exit_code == 2
    assert "mnist train --resume runs/many" in result.stderr


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--seeds 1", "--seeds 1 will not do."),
        ("--folds 101", "at least 2 and at most 100."),
        ("--seeds 2 --folds 2", "--seeds and --folds cannot be used together."),
        ("--folds 2 --val-size 0.2", "--val-size cannot be used with --folds."),
        ("--seeds 2 --val-size 0", "compared by their validation accuracy."),
        ("--seeds 2 --seed 4294967295", "--seed 4294967294"),
        ("--seeds two", "not a valid int"),
    ],
)
def test_what_makes_no_series_is_refused(words: str, said: str, mnist: Mnist) -> None:
    for more in ([], ["--dry-run"]):
        result = mnist(*series(*words.split()), *more)
        assert result.exit_code == 2
        assert said in result.stderr
        assert not Path("runs").exists()


def test_a_series_takes_no_other_settings_up(mnist: Mnist, many: Path) -> None:
    before = (many / "summary.json").read_bytes()
    for flag in (("--lr", "1"), ("--seeds", "3"), ("--folds", "3")):
        result = mnist("train", "--resume", "many", *flag)
        assert result.exit_code == 2
        assert f"{flag[0]} cannot be used with --resume." in result.stderr
    assert (many / "summary.json").read_bytes() == before


def test_a_run_of_other_settings_is_not_taken_for_one_of_the_series(
    mnist: Mnist, many: Path
) -> None:
    (many / "seed-0").rename("runs/zero")
    (many / "seed-1").rename(many / "seed-0")
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 3
    assert "runs/many/seed-0 is no run of this series." in result.stderr
    assert "seed differs" in result.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"layout": {"by": "seeds", "num_runs": 1}, "settings": {}}']
)
def test_a_damaged_summary_is_refused(text: str, mnist: Mnist, many: Path) -> None:
    (many / "summary.json").write_text(text)
    result = mnist("train", "--resume", "many")
    assert result.exit_code == 3
    assert "summary.json is damaged." in result.stderr
    assert (many / "summary.json").read_text() == text
