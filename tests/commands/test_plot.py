"""`mnist plot`: files drawn from real runs. What they show is tested with `plots`."""

import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Mnist


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    return tmp_path / "runs" / "mine"


@pytest.mark.parametrize("kind", ["curves", "confusion", "mistakes", "samples"])
def test_each_kind_is_drawn_into_the_run(mnist: Mnist, run: Path, kind: str) -> None:
    result = mnist("plot", "mine", "--kind", kind)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"Drew runs/mine/{kind}.png\n"
    with Image.open(run / f"{kind}.png") as picture:
        assert min(picture.size) > 400


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
    shutil.copytree(run, run.parent / "other")
    Path("others.csv").write_text("parameters,accuracy,name\n1000,90,a tiny one\n")
    result = mnist("plot", "--kind", "frontier", "--beside", "others.csv", "-o", "x.svg")
    assert (result.exit_code, result.stdout) == (0, "Drew x.svg\n"), result.stderr
    drawn = Path("x.svg").read_text()
    assert "mean ± SD, n = 2" in drawn
    assert "1  1,000: 90.00 %, a tiny one" in drawn
    assert (run / "eval-digits-test.json").exists()


def test_the_frontier_takes_checkpoint_files(mnist: Mnist, run: Path) -> None:
    result = mnist("plot", "runs/mine/last.pth", "--kind", "frontier", "-q")
    assert (result.exit_code, result.stdout) == (0, "frontier.png\n"), result.stderr


def test_a_run_that_was_judged_is_not_judged_again(mnist: Mnist, run: Path) -> None:
    mnist("eval", "mine")
    (run / "best.pth").unlink()
    assert mnist("plot", "mine", "--kind", "confusion").exit_code == 0


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
