"""`mnist plot`: files drawn from real runs. `tests/plots` tests what they show."""

import json
import os
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
from mnistcli.plots.kinds import KINDS
from mnistcli.runs.checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from mnistcli.runs.directory import Run, read_record, read_settings, write_record
from tests.helpers.cli import Mnist, environment
from tests.helpers.paths import REPOSITORY
from tests.helpers.runs import copy_as_multirun


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / "mine"))


def copy_run(run: Path, name: str, **changes: object) -> Path:
    """A copy of a run with `changes` in its settings and in its best checkpoint's."""
    copy = Run(Path(shutil.copytree(run, run.parent / name)))
    settings = TrainSettings.model_validate({**read_record(copy, "settings.json"), **changes})
    write_record(copy, "settings.json", settings.model_dump(mode="json"))
    loaded = load_checkpoint(copy.best)
    card = loaded.card.model_copy(update={"settings": settings})
    save_checkpoint(copy.best, loaded.network, card)
    return copy.path


def draw_svg(mnist: Mnist, *arguments: str | Path) -> str:
    result = mnist("plot", *arguments, "-o", "x.svg")
    assert (result.exit_code, result.stdout) == (0, "Drew x.svg\n"), result.stderr
    return Path("x.svg").read_text()


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("augmented", "report")])
def test_each_kind_is_drawn_in_the_directory_of_its_run(mnist: Mnist, run: Path, kind: str) -> None:
    result = mnist("plot", "mine", "--kind", kind)
    file = Path("runs/mine", f"{kind}.png")
    assert (result.exit_code, result.stdout) == (0, f"Drew {file}\n"), result.stderr
    with Image.open(file) as picture:
        # Of one run, a trade-off is a sentence.
        assert min(picture.size) > (150 if KINDS[kind].unnamed == "all" else 300)


def test_a_report_is_written_beside_its_run_or_to_stdout(mnist: Mnist, run: Path) -> None:
    result = mnist("plot", "mine", "--kind", "report")
    assert (result.exit_code, result.stdout) == (0, "Drew runs/mine/report.html\n"), result.stderr
    page = Path("runs/mine/report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert mnist("plot", "mine", "--kind", "report", "-o", "-").stdout == page
    shutil.copy(run / "best.pth", "alone.pth")
    assert mnist("plot", "alone.pth", "--kind", "report").exit_code == 2


def test_help_names_every_kind(mnist: Mnist) -> None:
    page = " ".join(mnist("plot", "--help").stdout.replace("│", " ").split())
    assert all(f"{kind.name}: {kind.summary}" in page for kind in KINDS.values())


def test_a_dash_writes_a_png_to_stdout_and_curves_need_no_torch(run: Path) -> None:
    code = (
        "import sys\n"
        "from mnistcli.cli.app import main\n"
        "try:\n"
        f"    main(['plot', {str(run)!r}, '-o', '-'])\n"
        "except SystemExit as end:\n"
        "    sys.exit(end.code or int('torch' in sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    with Image.open(BytesIO(result.stdout)) as picture:
        assert picture.format == "PNG"
    assert not result.stderr


def test_without_names_the_newest_run_is_drawn_and_named(mnist: Mnist, run: Path) -> None:
    result = mnist("plot", "--json")
    assert json.loads(result.stdout)["file"] == "runs/mine/curves.png"
    assert "runs/mine" in result.stderr


def test_without_any_run_the_bundled_network_is_drawn(mnist: Mnist) -> None:
    result = mnist("plot", "--kind", "filters", "-q")
    assert (result.exit_code, result.stdout) == (0, "filters.png\n")
    assert "the bundled network" in result.stderr
    assert mnist("plot").exit_code == 3


@pytest.mark.parametrize("name", ["cnn-small", "cnn-small.pth", BUNDLED["cnn-small"]])
def test_the_mistakes_of_the_bundled_network_are_drawn(mnist: Mnist, name: str | Path) -> None:
    result = mnist("plot", name, "--kind", "mistakes", "--dataset", "digits", "-q")
    assert (result.exit_code, result.stdout) == (0, "mistakes.png\n"), result.stderr


def test_a_checkpoint_has_no_curves(mnist: Mnist, run: Path) -> None:
    for name in ("cnn-small", run / "last.pth"):
        result = mnist("plot", name)
        assert result.exit_code == 2
        assert "--kind mistakes" in result.stderr


def test_a_checkpoint_is_positional_or_an_option(mnist: Mnist, run: Path) -> None:
    copy_run(run, "other", lr=0.5)
    assert draw_svg(mnist, "mine", "other") == draw_svg(mnist, "mine", "-c", "other")
    for kind in ("mistakes", "filters", "frontier"):
        result = mnist("plot", "-c", run / "last.pth", "--kind", kind, "-q")
        assert (result.exit_code, result.stdout) == (0, f"{kind}.png\n"), result.stderr


def test_a_figure_of_several_runs_is_beside_them_and_has_their_names(
    mnist: Mnist, run: Path
) -> None:
    for name in ("other", "third", "fourth", "fifth"):
        shutil.copytree(run, run.parent / name)
    two = mnist("plot", "mine", "runs/other", "-q")
    assert two.stdout == "runs/curves-mine-other.png\n"
    checkpoints = mnist("plot", run / "last.pth", "other", "--kind", "frontier", "-q")
    assert checkpoints.stdout == "runs/frontier-mine-last-other.png\n"
    five = mnist("plot", "mine", "other", "third", "fourth", "fifth", "-q")
    assert five.stdout == "runs/curves-mine-other-third-2-more.png\n"


def test_a_figure_of_a_multirun_is_in_its_directory(mnist: Mnist, trained: Path) -> None:
    copy_as_multirun(trained, Path("runs/five"), seeds=range(5), num_copies=5)
    for name in ("five", "runs/five"):
        assert mnist("plot", name, "-q").stdout == "runs/five/curves.png\n"


def test_runs_with_the_same_name_are_named_by_their_paths(mnist: Mnist, run: Path) -> None:
    shutil.copytree(run, "elsewhere/mine")
    assert "elsewhere/mine" in draw_svg(mnist, "runs/mine", "elsewhere/mine")


def test_the_frontier_of_all_runs(mnist: Mnist, run: Path) -> None:
    copy_run(run, "other", seed=1)
    shutil.copytree(run, run.parent / "copy")
    Path("published.csv").write_text("parameters,accuracy,name\n1000,90,a tiny one\n")
    drawn = draw_svg(mnist, "--kind", "frontier", "--beside", "published.csv")
    assert "mean ± SD, n = 2" in drawn
    assert "1  1,000: 90.00 %, a tiny one" in drawn
    assert (run / "eval-digits-test.json").exists()


def test_the_frontier_of_all_runs_leaves_out_damaged_ones(mnist: Mnist, run: Path) -> None:
    (copy_run(run, "other", seed=1) / "best.pth").write_bytes(b"not a checkpoint")
    (copy_run(run, "third", seed=2) / "eval-digits-test.json").write_bytes(b"not a score")
    result = mnist("plot", "--kind", "frontier", "-q")
    assert (result.exit_code, result.stdout) == (0, "runs/frontier.png\n"), result.stderr
    weights, evaluated, score = result.stderr.splitlines()
    assert "Left out" in weights
    assert "runs/other/best.pth" in weights
    assert "runs/mine/best.pth has no score" in evaluated
    assert "Left out" in score
    assert "runs/third/eval-digits-test.json" in score
    for name in ("other", "third"):
        assert mnist("plot", name, "--kind", "frontier").exit_code == 3
    (run / "best.pth").write_bytes(b"not a checkpoint either")
    result = mnist("plot", "--kind", "frontier")
    assert result.exit_code == 3
    assert "third/eval-digits-test.json" in result.stderr


def test_a_saved_score_is_drawn_without_its_checkpoint(mnist: Mnist, run: Path) -> None:
    mnist("eval", "mine")
    (run / "best.pth").unlink()
    assert mnist("plot", "mine", "--kind", "confusion").exit_code == 0


def test_runs_of_several_seeds_are_one_curve(mnist: Mnist, run: Path) -> None:
    copy_run(run, "second", seed=1)
    copy_run(run, "third", seed=2)
    drawn = draw_svg(mnist, "mine", "mine", "second", "third")
    assert re.search(r"best epochs: \d+\.\d\d ± 0\.00 %  cnn-26k, n = 3", drawn)
    copy_run(run, "faster", lr=0.5)
    drawn = draw_svg(mnist, "mine", "second", "faster")
    assert "cnn-26k, n = 2" in drawn
    assert re.search(r"\d %  faster", drawn)
    copy_run(run, "fast-too", lr=0.5, seed=1)
    drawn = draw_svg(mnist, "mine", "second", "faster", "fast-too")
    assert f"cnn-26k, lr {read_settings(Run(run)).lr}, n = 2" in drawn
    assert "cnn-26k, lr 0.5, n = 2" in drawn
    # A run that has the name of the network keeps it.
    copy_run(run, "cnn-26k", lr=0.5)
    drawn = draw_svg(mnist, "mine", "second", "cnn-26k")
    assert "mine, n = 2" in drawn
    assert re.search(r"\d %  cnn-26k", drawn)


def test_folds_are_one_curve_and_a_copy_is_another(mnist: Mnist, run: Path) -> None:
    for number in (1, 2):
        copy_run(run, f"fold-{number}", val_size=0, fold={"number": number, "of": 3})
    shutil.copytree(run.parent / "fold-2", run.parent / "copy")
    drawn = draw_svg(mnist, "fold-1", "fold-2", "copy")
    assert "cnn-26k, n = 2" in drawn
    assert re.search(r"\d %  copy", drawn)


def test_a_frontier_is_of_one_data_set(mnist: Mnist, run: Path) -> None:
    os.utime(copy_run(run, "other", dataset="mnist") / "best.pth", (1, 1))
    mnist("eval", "mine")
    result = mnist("plot", "mine", "other", "-k", "frontier")
    assert result.exit_code == 2
    assert "digits, mnist" in result.stderr
    assert "--dataset digits" in result.stderr
    for kind in ("frontier", "time"):
        result = mnist("plot", "-k", kind, "-q")
        assert (result.exit_code, result.stdout) == (0, f"runs/{kind}.png\n")
        assert result.stderr == "Left out: 1 run on mnist, drawn with --dataset mnist.\n"
    # Named twice, a run is one point.
    alone = draw_svg(mnist, "mine", "mine", "-k", "frontier")
    assert "A second point" in alone
    for options in ((), ("--dataset", "digits")):
        assert draw_svg(mnist, "-k", "frontier", *options) == alone
    assert not (run.parent / "other" / "eval-digits-test.json").exists()


def test_the_time_of_runs(mnist: Mnist, run: Path) -> None:
    copy_run(run, "second", seed=1)
    drawn = draw_svg(mnist, "--kind", "time")
    assert "training time (s)" in drawn
    assert "digits, test" in drawn
    shutil.copy(run / "best.pth", "alone.pth")
    result = mnist("plot", "alone.pth", "--kind", "time")
    assert result.exit_code == 2
    assert "alone.pth" in result.stderr


def test_augmented_images_of_a_run(mnist: Mnist, run: Path) -> None:
    augmentation = {"rotate_degrees": 20, "shear_degrees": 0, "shift_px": 2}
    copy_run(run, "rotated", augment=True, augmentation=augmentation)
    drawn = draw_svg(mnist, "rotated", "-k", "augmented")
    assert "rotated by up to 20°, sheared by up to 0°" in drawn
    result = mnist("plot", "mine", "-k", "augmented")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "runs/mine" in result.stderr


@pytest.mark.parametrize("kind", ["samples", "augmented"])
def test_images_of_a_data_set_need_no_run(mnist: Mnist, kind: str) -> None:
    last_two = ("--kind", kind, "--dataset", "digits", "--first", "1435")
    assert mnist("plot", *last_two).stdout == f"Drew {kind}.png\n"
    first = Path(f"{kind}.png").read_bytes()
    mnist("plot", *last_two)
    assert Path(f"{kind}.png").read_bytes() == first


def test_the_first_image_can_be_chosen(mnist: Mnist, run: Path) -> None:
    drawn = draw_svg(mnist, "mine", "-k", "features", "--first", "17")
    label = load_digits().target[17]
    assert f"mine: a {label} from digits (image 17 of the training set)" in drawn
    result = mnist("plot", "mine", "-k", "samples", "--first", "99999")
    assert result.exit_code == 2
    assert "--first 1436" in result.stderr


def test_the_next_mistakes_are_drawn_from_a_number_on(mnist: Mnist, run: Path) -> None:
    score = json.loads(mnist("eval", "mine", "--json").stdout)
    second = score["mistakes"][1]
    drawn = draw_svg(mnist, "mine", "-k", "mistakes", "--first", "1")
    assert re.search(rf"image {second['index']}\b", drawn)
    assert not re.search(rf"image {score['mistakes'][0]['index']}\b", drawn)
    result = mnist("plot", "mine", "-k", "mistakes", "--first", "360")
    assert result.exit_code == 2
    assert f"--first {len(score['mistakes']) - 1}" in result.stderr


def test_filters_need_no_data(mnist: Mnist, run: Path) -> None:
    assert mnist("plot", "mine", "-k", "filters", "--data-dir", "none").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "named"),
    [
        (["nothing"], 3, "'nothing'"),
        ([], 3, "mnist train"),
        (["--kind", "frontier", "--out", "none"], 3, "none"),
        (["x.pth", "--kind", "filters"], 3, "x.pth"),
        (["a", "b", "--kind", "confusion"], 2, "curves, frontier and time"),
        (["-o", "-", "--json"], 2, "-o FILE"),
        (["--kind", "curve"], 2, "Did you mean curves?"),
        (["--beside", "x.csv"], 2, "Leave --beside out"),
        (["--first", "3"], 2, "Leave --first out"),
        (["--kind", "confusion", "--split", "all"], 2, "'all'"),
        (["--kind", "samples", "--data-dir", "none"], 3, "mnist download"),
        (["--kind", "samples", "--dataset", "digits", "-o", "x.gif"], 2, ".png, .svg or .pdf"),
        (["--kind", "samples", "--dataset", "digits", "-o", "no/x.png"], 1, "no/x.png"),
        (["--kind", "report", "-o", "x.pdf"], 2, ".html"),
        (["a", "b", "--kind", "report"], 2, "report is drawn from one run"),
        (["x.pth", "--kind", "saliency"], 3, "x.pth"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(
    mnist: Mnist, arguments: list[str], exit_code: int, named: str
) -> None:
    result = mnist("plot", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
    assert named in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"MPLBACKEND": "Qt4Agg"},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MATPLOTLIBRC": "damaged/matplotlibrc"},
        {"XDG_CONFIG_HOME": "config"},
        {},
    ],
)
def test_the_users_configuration_of_matplotlib_does_not_matter(
    run: Path, changes: dict[str, str]
) -> None:
    places = ("damaged", "config/matplotlib", *(() if changes else (".",)))
    for folder in map(Path, places):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "matplotlibrc").write_bytes(b"\xff\xfebackend: nothing")
    result = subprocess.run(
        [sys.executable, "-m", "mnistcli", "plot", str(run), "-o", "x.png"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(PYTHONPATH=str(REPOSITORY), **changes),
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    with Image.open("x.png") as picture:
        assert picture.width > 300
