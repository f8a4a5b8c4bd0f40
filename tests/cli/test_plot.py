"""`mnist plot`: files drawn from real runs. What they show is tested with `plots`."""

import json
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mnistcli.config.settings import TrainSettings
from mnistcli.runs.checkpoint import load_checkpoint, save_checkpoint
from mnistcli.runs.directory import Run, read_record, read_settings, write_record
from tests.helpers.cli import Mnist


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    return tmp_path / "runs" / "mine"


KINDS = ("curves", "confusion", "mistakes", "calibration", "samples", "filters", "features")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_drawn_into_the_run(mnist: Mnist, run: Path, kind: str) -> None:
    result = mnist("plot", "mine", "--kind", kind)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"Drew runs/mine/{kind}.png\n"
    with Image.open(run / f"{kind}.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89")]
)
def test_the_suffix_picks_the_format(mnist: Mnist, run: Path, suffix: str, start: bytes) -> None:
    result = mnist("plot", run, "-o", f"x.{suffix}", "-q")
    assert result.stdout == f"x.{suffix}\n"
    assert Path(f"x.{suffix}").read_bytes().startswith(start)


def test_a_dash_writes_the_picture_to_stdout(run: Path) -> None:
    command = [sys.executable, "-m", "mnistcli", "plot", str(run), "-o", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    with Image.open(BytesIO(result.stdout)) as picture:
        assert picture.format == "PNG"
    assert not result.stderr


def test_the_newest_run_is_the_default(mnist: Mnist, run: Path) -> None:
    assert json.loads(mnist("plot", "--json").stdout)["file"] == "runs/mine/curves.png"


def test_several_runs_share_a_figure(mnist: Mnist, run: Path) -> None:
    shutil.copytree(run, run.parent / "other")
    result = mnist("plot", "mine", "other", "-o", "both.svg")
    assert result.exit_code == 0
    assert "mine" in Path("both.svg").read_text()
    assert "other" in Path("both.svg").read_text()


def test_a_figure_of_several_runs_is_nobodys(mnist: Mnist, run: Path) -> None:
    shutil.copytree(run, run.parent / "other")
    assert mnist("plot", "mine", "other", "-q").stdout == "curves.png\n"
    assert not (run / "curves.png").exists()


def test_runs_of_one_name_are_told_apart(mnist: Mnist, run: Path) -> None:
    shutil.copytree(run, run.parents[1] / "elsewhere" / "mine")
    result = mnist("plot", "runs/mine", "elsewhere/mine", "-o", "both.svg")
    assert result.exit_code == 0
    assert "elsewhere/mine" in Path("both.svg").read_text()


def test_the_frontier_of_all_runs(mnist: Mnist, run: Path) -> None:
    reseeded(run, "other", seed=1)
    shutil.copytree(run, run.parent / "copy")
    Path("others.csv").write_text("parameters,accuracy,name\n1000,90,a tiny one\n")
    result = mnist("plot", "--kind", "frontier", "--beside", "others.csv", "-o", "x.svg")
    assert (result.exit_code, result.stdout) == (0, "Drew x.svg\n"), result.stderr
    drawn = Path("x.svg").read_text()
    assert "mean ± SD, n = 2" in drawn
    assert "1  1,000: 90.00 %, a tiny one" in drawn
    assert (run / "eval-digits-test.json").exists()


def test_the_frontier_of_all_runs_leaves_out_what_cannot_be_read(mnist: Mnist, run: Path) -> None:
    (reseeded(run, "other", seed=1) / "best.pth").write_bytes(b"no checkpoint")
    (reseeded(run, "third", seed=2) / "eval-digits-test.json").write_bytes(b"no score")
    result = mnist("plot", "--kind", "frontier", "-q")
    assert (result.exit_code, result.stdout) == (0, "frontier.png\n"), result.stderr
    weights, judged, score = result.stderr.splitlines()
    assert weights.startswith("Left out: runs/other/best.pth is no checkpoint")
    assert judged == "runs/mine/best.pth has no score on test images of digits: judging it."
    assert score.startswith("Left out: runs/third/eval-digits-test.json is damaged")
    for name in ("other", "third"):
        assert mnist("plot", name, "--kind", "frontier").exit_code == 3
    (run / "best.pth").write_bytes(b"no checkpoint either")
    result = mnist("plot", "--kind", "frontier")
    assert result.exit_code == 3
    assert "third/eval-digits-test.json" in result.stderr


def test_the_frontier_takes_checkpoint_files(mnist: Mnist, run: Path) -> None:
    result = mnist("plot", "runs/mine/last.pth", "--kind", "frontier", "-q")
    assert (result.exit_code, result.stdout) == (0, "frontier.png\n"), result.stderr


def test_a_run_that_was_judged_is_not_judged_again(mnist: Mnist, run: Path) -> None:
    mnist("eval", "mine")
    (run / "best.pth").unlink()
    assert mnist("plot", "mine", "--kind", "confusion").exit_code == 0


def reseeded(run: Path, name: str, **changes: object) -> Path:
    """A copy of a run whose settings have `changes`, those in its best checkpoint too."""
    copy = Run(Path(shutil.copytree(run, run.parent / name)))
    settings = TrainSettings.model_validate({**read_record(copy, "settings.json"), **changes})
    write_record(copy, "settings.json", settings.model_dump(mode="json"))
    loaded = load_checkpoint(copy.best)
    card = loaded.card.model_copy(update={"settings": settings})
    save_checkpoint(copy.best, loaded.network, card)
    return copy.path


def test_runs_of_several_seeds_are_one_curve(mnist: Mnist, run: Path) -> None:
    reseeded(run, "second", seed=1)
    reseeded(run, "third", seed=2)
    reseeded(run, "faster", lr=0.5)
    assert mnist("plot", "mine", "second", "third", "-o", "x.svg").exit_code == 0
    drawn = Path("x.svg").read_text()
    assert re.search(r"best epochs: \d+\.\d\d ± 0\.00 %  cnn-26k, n = 3", drawn)
    assert "mean ± SD, n runs" in drawn
    assert mnist("plot", "mine", "second", "faster", "-o", "y.svg").exit_code == 0
    drawn = Path("y.svg").read_text()
    assert "cnn-26k, n = 2" in drawn
    assert re.search(r"\d %  faster", drawn)
    reseeded(run, "fast-too", lr=0.5, seed=1)
    assert mnist("plot", "mine", "second", "faster", "fast-too", "-o", "z.svg").exit_code == 0
    drawn = Path("z.svg").read_text()
    lr = read_settings(Run(run)).lr
    assert f"cnn-26k, lr {lr}, n = 2" in drawn
    assert "cnn-26k, lr 0.5, n = 2" in drawn


def test_folds_are_one_curve_and_a_copy_another(mnist: Mnist, run: Path) -> None:
    folds = [{"val_size": 0, "fold": {"number": number, "of": 3}} for number in (1, 2)]
    names = [reseeded(run, f"fold-{each}", **fold).name for each, fold in enumerate(folds, 1)]
    assert mnist("plot", *names, "-o", "x.svg").exit_code == 0
    assert re.search(r"best epochs: .* cnn-26k, n = 2", Path("x.svg").read_text())
    shutil.copytree(run.parent / "fold-2", run.parent / "copy")
    assert mnist("plot", *names, "copy", "-o", "y.svg").exit_code == 0
    drawn = Path("y.svg").read_text()
    assert "cnn-26k, n = 2" in drawn
    assert re.search(r"\d %  copy", drawn)


def test_a_run_called_as_its_recipe_stays_beside_seeds_of_it(mnist: Mnist, run: Path) -> None:
    reseeded(run, "second", seed=1)
    reseeded(run, "cnn-26k", lr=0.5)
    assert mnist("plot", "mine", "second", "cnn-26k", "-o", "x.svg").exit_code == 0
    drawn = Path("x.svg").read_text()
    assert "mine, n = 2" in drawn
    assert re.search(r"\d %  cnn-26k", drawn)


def test_runs_of_two_data_sets_are_no_one_frontier(mnist: Mnist, run: Path) -> None:
    reseeded(run, "other", dataset="mnist")
    result = mnist("plot", "-k", "frontier")
    assert result.exit_code == 2
    assert "These runs learnt different data sets: digits, mnist." in result.stderr
    assert "--dataset digits" in result.stderr
    assert mnist("plot", "mine", "-k", "frontier").exit_code == 0
    arguments = ("plot", "-k", "frontier", "--dataset", "digits", "-o", "x.svg")
    assert mnist(*arguments).exit_code == 0
    assert "n = 1" in Path("x.svg").read_text()  # the other learnt another data set
    assert not (run.parent / "other" / "eval-digits-test.json").exists()


def test_a_run_that_is_named_twice_is_one_point(mnist: Mnist, run: Path) -> None:
    assert mnist("plot", "mine", "mine", "-k", "frontier", "-o", "x.svg").exit_code == 0
    assert "n = 2" not in Path("x.svg").read_text()
    assert run.is_dir()


def test_a_run_that_is_named_twice_is_drawn_once(mnist: Mnist, run: Path) -> None:
    reseeded(run, "second", seed=1)
    assert mnist("plot", "mine", "mine", "second", "-o", "x.svg").exit_code == 0
    assert "cnn-26k, n = 2" in Path("x.svg").read_text()


def test_the_time_of_runs(mnist: Mnist, run: Path) -> None:
    reseeded(run, "second", seed=1)
    result = mnist("plot", "--kind", "time", "-o", "x.svg")
    assert (result.exit_code, result.stdout) == (0, "Drew x.svg\n"), result.stderr
    drawn = Path("x.svg").read_text()
    assert "training time (s)" in drawn
    assert "digits, test" in drawn


def test_checkpoint_files_show_their_insides(mnist: Mnist, run: Path) -> None:
    for kind in ("filters", "features", "calibration"):
        result = mnist("plot", run / "last.pth", "--kind", kind, "-q")
        assert (result.exit_code, result.stdout) == (0, f"{kind}.png\n"), result.stderr


def test_augmented_samples_of_a_run_that_augments(mnist: Mnist, run: Path) -> None:
    augmentation = {"rotate_degrees": 20, "shear_degrees": 0, "shift_px": 2}
    reseeded(run, "turned", augment=True, augmentation=augmentation)
    result = mnist("plot", "turned", "-k", "augmented", "-o", "x.svg")
    assert result.exit_code == 0, result.stderr
    what = "turned by up to 20°, sheared by 0°, scaled by 10 %, shifted by 2 px"
    assert what in Path("x.svg").read_text()
    result = mnist("plot", "mine", "-k", "augmented")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "runs/mine was trained without augmentation" in result.stderr


def test_augmented_samples_need_no_run(mnist: Mnist) -> None:
    last_two = ("--dataset", "digits", "--first", "1435")
    arguments = ("plot", "-k", "augmented", *last_two, "-q", "-o")
    assert mnist(*arguments, "x.png").stdout == "x.png\n"
    mnist(*arguments, "again.png")
    assert Path("x.png").read_bytes() == Path("again.png").read_bytes()


def test_the_first_picture_can_be_chosen(mnist: Mnist, run: Path) -> None:
    result = mnist("plot", "mine", "-k", "features", "--first", "17", "-o", "x.svg")
    assert result.exit_code == 0, result.stderr
    label = load_digits().target[17]
    assert (
        f"mine: a {label} of digits (picture 17 of the training set)" in Path("x.svg").read_text()
    )
    result = mnist("plot", "mine", "-k", "samples", "--first", "99999")
    assert result.exit_code == 2
    assert "digits has no picture 99,999" in result.stderr


def test_filters_need_no_data(mnist: Mnist, run: Path) -> None:
    assert mnist("plot", "mine", "-k", "filters", "--data-dir", "none").exit_code == 0


def test_samples_need_no_run(mnist: Mnist) -> None:
    result = mnist("plot", "--kind", "samples", "--dataset", "digits")
    assert result.stdout == "Drew samples.png\n"
    assert Path("samples.png").is_file()


def test_curves_load_no_torch(run: Path) -> None:
    code = (
        "import sys\n"
        "from mnistcli.cli import main\n"
        "try:\n"
        f"    main(['plot', {str(run)!r}])\n"
        "except SystemExit as left:\n"
        "    sys.exit(left.code or int('torch' in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["nothing"], 3, "There is no run 'nothing'"),
        ([], 3, "There is no run in runs"),
        (["a", "b", "--kind", "confusion"], 2, "confusion is drawn from one run"),
        (["-o", "-", "--json"], 2, "stdout cannot hold two things"),
        (["--kind", "samples", "--data-dir", "none"], 3, "mnist download"),
        (["--kind", "curve"], 2, "Did you mean curves?"),
        (["--kind", "frontier", "--out", "none"], 3, "There is no run"),
        (["--beside", "x.csv"], 2, "Leave --beside out"),
        (["--first", "3"], 2, "curves shows no picture of the training set"),
        (["a", "b", "--kind", "filters"], 2, "filters is drawn from one run"),
        (["x.pth", "--kind", "filters"], 3, "x.pth"),
        (["--kind", "time", "--out", "none"], 3, "There is no run"),
        (["--kind", "confusion", "--split", "train"], 2, "There is no split 'train'"),
        (["--kind", "samples", "--dataset", "digits", "-o", "x.gif"], 2, "png, svg or pdf"),
        (["--kind", "samples", "--dataset", "digits", "-o", "no/x.png"], 1, "no/x.png"),
    ],
)
def test_what_cannot_be_drawn_ends_in_a_message(
    mnist: Mnist, arguments: list[str], exit_code: int, words: str
) -> None:
    result = mnist("plot", *arguments)
    assert result.exit_code == exit_code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout
