"""Finding runs and checkpoints by name."""

import os
from pathlib import Path

import pytest

from mnistcli.errors import DataError
from mnistcli.runs.checkpoint import BUNDLED, BUNDLED_CHECKPOINT
from mnistcli.runs.directory import Run
from mnistcli.runs.find import display_names, find_checkpoint, find_multirun, find_run


def make_run(path: Path, *, num_epochs: int = 1) -> Run:
    path.mkdir(parents=True)
    names = ["settings.json", *(["metrics.csv", "best.pth"] if num_epochs else [])]
    for name in names:
        (path / name).touch()
    return Run(path)


def test_a_run_is_found_by_name_by_directory_and_as_last(tmp_path: Path) -> None:
    older, newer = make_run(tmp_path / "older"), make_run(tmp_path / "newer")
    os.utime(older.path / "metrics.csv", (1, 1))
    make_run(tmp_path / "unfinished", num_epochs=0)
    assert find_run("older", tmp_path) == older
    assert find_run(str(newer.path), tmp_path / "elsewhere") == newer
    assert find_run("last", tmp_path) == newer
    with pytest.raises(DataError, match="no run 'oldr'") as missing:
        find_run("oldr", tmp_path)
    assert "Did you mean older?" in missing.value.fix
    assert "newer, older" in missing.value.fix


@pytest.mark.parametrize(
    ("name", "option"), [("sprint", "--recipe"), ("mlp", "--arch"), ("cnn-deep", "--recipe")]
)
def test_a_recipe_or_an_architecture_is_not_a_run(tmp_path: Path, name: str, option: str) -> None:
    with pytest.raises(DataError, match=f"no run '{name}'") as missing:
        find_checkpoint(name, tmp_path)
    assert f"mnist train {option} {name}" in missing.value.fix
    assert f"mnist summary {option} {name}" in missing.value.fix
    run = make_run(tmp_path / name)
    assert find_checkpoint(name, tmp_path) == run.best


def test_a_directory_without_runs_has_no_last_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in") as missing:
        find_run("last", tmp_path)
    assert "mnist train" in missing.value.fix


def test_a_checkpoint_is_a_file_or_the_best_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    assert find_checkpoint("one", tmp_path) == run.best
    assert find_checkpoint(str(run.last), tmp_path) == run.last
    assert find_checkpoint(None, tmp_path) == BUNDLED_CHECKPOINT
    run.best.unlink()
    with pytest.raises(DataError, match=r"best\.pth") as missing:
        find_checkpoint("one", tmp_path)
    assert "removed or moved" in missing.value.why
    assert str(run.last) not in missing.value.fix
    run.last.touch()
    with pytest.raises(DataError, match=r"best\.pth") as missing:
        find_checkpoint("one", tmp_path)
    assert str(run.last) in missing.value.fix
    make_run(tmp_path / "empty", num_epochs=0)
    with pytest.raises(DataError, match=r"best\.pth") as missing:
        find_checkpoint("empty", tmp_path)
    assert "not finished an epoch" in missing.value.why


def test_bundled_networks_are_found_by_name_after_runs_and_files(tmp_path: Path) -> None:
    for name in ("reader", "cnn-small"):
        assert find_checkpoint(name, tmp_path) == BUNDLED[name]
        assert BUNDLED[name].is_file()
    run = make_run(tmp_path / "reader")
    assert find_checkpoint("reader", tmp_path) == run.best
    Path("cnn-small").touch()
    assert find_checkpoint("cnn-small", tmp_path) == Path("cnn-small")


def test_display_names_are_unique() -> None:
    for path in ("five/seed-0", "five/seed-1", "six/seed-0", "alone"):
        Path(path).mkdir(parents=True)
    Path("five/summary.json").touch()
    member, second, other, alone = (
        Run(Path(path)) for path in ("five/seed-0", "five/seed-1", "six/seed-0", "alone")
    )
    names = ["five/seed-0", "five/seed-1", "seed-0", "alone"]
    assert display_names([member, second, other, alone]) == names
    assert display_names([member, member]) == ["five/seed-0", "five/seed-0"]
    elsewhere = Run(Path("elsewhere/alone"))
    assert display_names([member, alone, elsewhere]) == ["five/seed-0", "alone", "elsewhere/alone"]
    assert display_names([]) == []


@pytest.mark.parametrize("file", ["last.pth", "best.pth", "settings.json"])
def test_a_file_stands_for_its_run(trained: Path, file: str) -> None:
    assert find_run(str(trained / file), Path("runs")).path == trained
    Path("alone.pth").touch()
    with pytest.raises(DataError, match=r"alone\.pth"):
        find_run("alone.pth", Path("runs"))


def test_a_file_stands_for_its_multirun(tmp_path: Path) -> None:
    run = make_run(tmp_path / "five" / "seed-0")
    (tmp_path / "five" / "summary.json").touch()
    for name, out in (("five/summary.json", tmp_path), (f"{tmp_path}/five/summary.json", Path())):
        assert find_multirun(name, out) == Run(tmp_path / "five")
        with pytest.raises(DataError, match="multi-run"):
            find_run(name, out)
    assert find_multirun("five/seed-0/best.pth", tmp_path) is None
    assert find_run("five/seed-0/best.pth", tmp_path) == run
