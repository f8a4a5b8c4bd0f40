"""`mnist download`: what it says, where, and how it leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torchvision.datasets

from mnistcli.data.datasets import DATASETS, get_dataset
from mnistcli.data.download import verify_files
from tests.helpers.cli import Mnist
from tests.data.test_datasets import (
    NAMES,
    TEST_IMAGES,
    TRAIN_LABELS,
    Mirror,
    change_a_byte,
    contents,
    fake_dataset,
    names_in,
    packed,
    put,
    put_data,
    serving,
    unpacked,
)
from tests.data.test_mirrors import refusing_url


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No usual mirrors, no proxy, no waiting between tries."""
    for cls in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(cls, "mirrors", [])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("mnistcli.mirrors.PAUSE_SECONDS", 0.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `--dataset mnist` mean the small files of scikit-learn's handwriting."""
    monkeypatch.setitem(DATASETS, "mnist", fake_dataset())


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving(packed()) as mirror:
        yield mirror


@pytest.fixture
def real_mirror(mnist_source: Path) -> Iterator[Mirror]:
    """A mirror of the four real files."""
    names = [f"{name}.gz" for name in NAMES]
    with serving({name: (mnist_source / name).read_bytes() for name in names}) as mirror:
        yield mirror


def shown(stdout: str) -> dict[str, str]:
    """The names and states in the table of files."""
    rows = [line.split() for line in stdout.splitlines() if "-ubyte" in line]
    return {row[0]: row[1] for row in rows}


@pytest.mark.usefixtures("small")
def test_a_download_lists_the_files_on_stdout_and_its_progress_on_stderr(
    mnist: Mnist, mirror: Mirror, tmp_path: Path
) -> None:
    result = mnist("download", "--mirror", mirror.url, "--data-dir", tmp_path / "data")
    assert result.exit_code == 0
    assert shown(result.stdout) == dict.fromkeys(packed(), "downloaded")
    assert f"Directory: {tmp_path / 'data' / 'MNIST' / 'raw'}" in result.stdout
    assert result.stderr.splitlines() == [f"fetching {name}" for name in NAMES]
    assert names_in(tmp_path / "data") == set(packed())


@pytest.mark.usefixtures("small")
def test_a_second_download_fetches_nothing(mnist: Mnist, mirror: Mirror, tmp_path: Path) -> None:
    for _ in range(2):
        result = mnist("download", "--mirror", mirror.url, "--data-dir", tmp_path)
        assert result.exit_code == 0
    assert mirror.asked == list(packed())
    assert shown(result.stdout) == dict.fromkeys(packed(), "verified")
    assert result.stderr == ""


@pytest.mark.usefixtures("small")
def test_the_data_directory_may_come_from_the_environment(
    mnist: Mnist, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_DATA_DIR", str(tmp_path / "data"))
    assert mnist("download", "-q", "--mirror", mirror.url).stdout == f"{tmp_path / 'data'}\n"
    assert names_in(tmp_path / "data") == set(packed())


@pytest.mark.usefixtures("small")
def test_mirrors_are_asked_in_the_order_of_their_options(
    mnist: Mnist, mirror: Mirror, tmp_path: Path
) -> None:
    mirrors = ("--mirror", refusing_url(), "--mirror", mirror.url)
    assert mnist("download", *mirrors, "--data-dir", tmp_path).exit_code == 0
    assert mirror.asked == list(packed())


@pytest.mark.usefixtures("small")
def test_quiet_prints_the_data_directory_and_nothing_else(
    mnist: Mnist, mirror: Mirror, tmp_path: Path
) -> None:
    data_dir = tmp_path / "with [bold]brackets[/bold]"
    result = mnist("download", "-q", "--mirror", mirror.url, "--data-dir", data_dir)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{data_dir}\n", "")


@pytest.mark.usefixtures("small")
def test_brackets_in_a_path_stay_brackets(mnist: Mnist, tmp_path: Path) -> None:
    source = put(tmp_path / "a [red]source", packed())
    data_dir = tmp_path / "some [bold]data"
    result = mnist("download", "--from", source, "--data-dir", data_dir)
    assert str(data_dir) in result.stdout
    (source / f"{TRAIN_LABELS}.gz").unlink()
    result = mnist("download", "--from", source, "--data-dir", tmp_path / "other")
    assert str(source) in result.stderr


@pytest.mark.usefixtures("small")
def test_json_is_all_there_is_on_stdout(mnist: Mnist, mirror: Mirror, tmp_path: Path) -> None:
    arguments = ("download", "--json", "--mirror", mirror.url, "--data-dir", tmp_path)
    result = mnist(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    folder = tmp_path / "MNIST" / "raw"
    assert json.loads(result.stdout) == {
        "schema_version": 1,
        "dataset": "mnist",
        "data_dir": str(tmp_path),
        "files": [
            {
                "name": name,
                "state": "downloaded",
                "path": str(folder / f"{name}.gz"),
                "source": f"{mirror.url}{name}.gz",
            }
            for name in NAMES
        ],
    }
    again = json.loads(mnist(*arguments).stdout)
    assert {file["state"] for file in again["files"]} == {"verified"}
    assert {file["source"] for file in again["files"]} == {""}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["packed", "unpacked"])
def test_files_are_imported_from_a_directory(
    mnist: Mnist, tmp_path: Path, files: dict[str, bytes]
) -> None:
    source = put(tmp_path / "source", files)
    result = mnist("download", "--from", source, "--data-dir", tmp_path / "data")
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown(result.stdout) == dict.fromkeys(files, "imported")
    assert names_in(tmp_path / "data") == set(files)
    assert mnist("download", "--verify", "--data-dir", tmp_path / "data").exit_code == 0


@pytest.mark.usefixtures("small")
def test_an_import_of_what_is_not_there_is_exit_3_with_nothing_on_stdout(
    mnist: Mnist, tmp_path: Path
) -> None:
    result = mnist("download", "--from", tmp_path / "nowhere", "--data-dir", tmp_path / "data")
    assert (result.exit_code, result.stdout) == (3, "")
    what, why, fix = result.stderr.splitlines()
    assert what == f"Error: {tmp_path / 'nowhere'} is no directory."
    assert why == "  Files are imported from a directory."
    assert "Name the directory" in fix
    (tmp_path / "nothing").mkdir()
    result = mnist("download", "--from", tmp_path / "nothing", "--data-dir", tmp_path / "data")
    what, why, _ = result.stderr.splitlines()
    assert what == f"Error: {tmp_path / 'nothing'} does not hold {NAMES[0]}."
    assert why == f"  Neither {NAMES[0]}.gz nor {NAMES[0]} is a file there."


@pytest.mark.usefixtures("small")
def test_verify_is_content_with_what_is_right_and_asks_no_mirror(
    mnist: Mnist, mirror: Mirror, tmp_path: Path
) -> None:
    put_data(tmp_path, packed())
    result = mnist("download", "--verify", "--mirror", mirror.url, "--data-dir", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown(result.stdout) == dict.fromkeys(packed(), "verified")
    assert mirror.asked == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("flags", [(), ("--json",), ("-q",)], ids=["table", "json", "quiet"])
def test_verify_names_what_is_damaged_or_missing_and_is_exit_3(
    mnist: Mnist, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    folder = put_data(tmp_path, packed())
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    result = mnist("download", "--verify", "--data-dir", tmp_path, *flags)
    assert result.exit_code == 3
    what, damaged, missing, fix = result.stderr.splitlines()
    assert what == "Error: The data set mnist is not complete."
    assert damaged == f"  {folder / TRAIN_LABELS}.gz is damaged."
    assert missing == f"  {folder / TEST_IMAGES}.gz is missing."
    assert "mnist download" in fix
    if "--json" in flags:
        states = {file["name"]: file["state"] for file in json.loads(result.stdout)["files"]}
        assert states[TRAIN_LABELS] == "damaged"
        assert states[TEST_IMAGES] == "missing"
    elif flags:
        assert result.stdout == f"{tmp_path}\n"
    else:
        assert list(shown(result.stdout).values()) == ["verified", "damaged", "missing", "verified"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("flags", [(), ("--json",), ("-q",)], ids=["table", "json", "quiet"])
def test_a_failed_download_names_each_mirror_on_stderr_and_prints_no_result(
    mnist: Mnist, mirror: Mirror, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    mirror.fail(503)
    refusing = refusing_url()
    mirrors = ("--mirror", mirror.url, "--mirror", refusing)
    result = mnist("download", *mirrors, "--data-dir", tmp_path, *flags)
    assert (result.exit_code, result.stdout) == (3, "")
    what, first, second, fix = result.stderr.splitlines()
    assert what == f"Error: No mirror gave {NAMES[0]}.gz."
    assert first == f"  {mirror.url}: HTTP status 503"
    assert second.startswith(f"  {refusing}: ")
    assert "mnist download --from DIR" in fix
    assert names_in(tmp_path) == set()


def test_an_unknown_data_set_suggests_the_nearest_and_is_exit_2(
    mnist: Mnist, tmp_path: Path
) -> None:
    result = mnist("download", "--dataset", "fasion-mnist", "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "There is no data set called 'fasion-mnist'." in result.stderr
    assert "Did you mean fashion-mnist?" in result.stderr


def test_a_mirror_that_is_no_web_address_is_exit_2(mnist: Mnist, tmp_path: Path) -> None:
    result = mnist("download", "--mirror", "ftp://127.0.0.1/mnist", "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'ftp://127.0.0.1/mnist' is no mirror." in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [(), ("--verify",), ("--from", ".")])
def test_digits_need_no_download(mnist: Mnist, tmp_path: Path, flags: tuple[str, ...]) -> None:
    data_dir = tmp_path / "data"
    result = mnist("download", "--dataset", "digits", "--data-dir", data_dir, *flags)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("digits needs no download")
    assert not data_dir.exists()


def test_digits_as_json_have_no_files(mnist: Mnist, tmp_path: Path) -> None:
    result = mnist("download", "-d", "digits", "--json", "--data-dir", tmp_path)
    assert json.loads(result.stdout)["files"] == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("way", ["--mirror", "--from"])
def test_a_data_directory_that_cannot_be_made_is_exit_3_with_the_way_out(
    mnist: Mnist, mirror: Mirror, tmp_path: Path, way: str
) -> None:
    (tmp_path / "file").touch()
    source = put(tmp_path / "source", packed())
    place = mirror.url if way == "--mirror" else source
    result = mnist("download", way, place, "--data-dir", tmp_path / "file" / "data")
    assert (result.exit_code, result.stdout) == (3, "")
    what, why, fix = result.stderr.splitlines()
    assert what == f"Error: Cannot write to {tmp_path / 'file' / 'data' / 'MNIST' / 'raw'}."
    assert why == "  Not a directory."
    assert "--data-dir DIR" in fix
    assert mirror.asked == []


def start(*args: str | Path) -> "subprocess.Popen[str]":
    """The tool as its own process, as a person starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "mnistcli", "download", *args],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    with process:
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


# `mnist`, with the small files for MNIST's.
SMALL_MNIST = """
import json, sys
from dataclasses import replace
from mnistcli import datasets
from mnistcli.cli import main

files = tuple(datasets.DataFile(**file) for file in json.loads(sys.argv[1]))
datasets.DATASETS["mnist"] = replace(datasets.DATASETS["mnist"], files=files)
main(sys.argv[2:])
"""


def start_small(*args: str | Path) -> "subprocess.Popen[str]":
    """`mnist download` of the small files as its own process, which reaches no other machine."""
    files = json.dumps([asdict(file) for file in fake_dataset().files])
    no_way_out = dict.fromkeys(("http_proxy", "https_proxy"), refusing_url())
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_MNIST, files, "download", *args],
        env={**os.environ, **no_way_out, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object]) -> None:
    deadline_seconds = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_seconds
        time.sleep(0.01)


def test_a_second_process_waits_for_the_first_and_fetches_nothing(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.fail("hangs", times=1, name=f"{TEST_IMAGES}.gz")
    arguments = ("--mirror", mirror.url, "--data-dir", tmp_path)
    with start_small(*arguments) as first:
        wait_for(lambda: f"{TEST_IMAGES}.gz" in mirror.asked)
        with start_small(*arguments) as second:
            assert second.stderr
            assert second.stderr.readline() == "Another process is getting mnist: waiting for it.\n"
            assert first.poll() is None
            mirror.closing.set()
            assert finish(first)[0] == 0
            code, stdout, stderr = finish(second)
    assert (code, stderr) == (0, "")
    assert shown(stdout) == dict.fromkeys(packed(), "verified")
    assert sorted(mirror.asked) == sorted([*packed(), f"{TEST_IMAGES}.gz"])
    assert contents(tmp_path / "MNIST" / "raw") == packed()


def test_a_second_process_goes_on_where_the_first_was_killed(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.fail("hangs", times=1, name=f"{TEST_IMAGES}.gz")
    arguments = ("--mirror", mirror.url, "--data-dir", tmp_path)
    with start_small(*arguments) as first:
        wait_for(lambda: f"{TEST_IMAGES}.gz" in mirror.asked)
        with start_small(*arguments) as second:
            assert second.stderr
            assert "waiting" in second.stderr.readline()
            first.kill()
            code, stdout, _ = finish(second)
    assert code == 0
    assert list(shown(stdout).values()) == ["verified", "verified", "downloaded", "downloaded"]
    assert contents(tmp_path / "MNIST" / "raw") == packed()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_download_that_is_interrupted_leaves_whole_files_only_and_is_taken_up_again(
    mirror: Mirror, tmp_path: Path, number: signal.Signals
) -> None:
    mirror.fail("stalls", times=1, name=f"{TRAIN_LABELS}.gz")
    arguments = ("--mirror", mirror.url, "--data-dir", tmp_path)
    with start_small(*arguments) as process:
        wait_for(lambda: f"{TRAIN_LABELS}.gz" in mirror.asked)
        time.sleep(0.2)
        process.send_signal(number)
        code, stdout, stderr = finish(process)
    # Python may end by SIGINT itself, which a shell calls 130 too.
    assert code in ((-signal.SIGKILL,) if number == signal.SIGKILL else (130, -signal.SIGINT))
    assert (stdout, "Traceback" in stderr) == ("", False)
    assert names_in(tmp_path) == {f"{NAMES[0]}.gz"}
    code, stdout, _ = finish(start_small(*arguments))
    assert code == 0
    assert list(shown(stdout).values()) == ["verified", *["downloaded"] * 3]
    assert contents(tmp_path / "MNIST" / "raw") == packed()


@pytest.mark.mnist
def test_the_real_files_are_fetched_once_verified_and_mended(
    real_mirror: Mirror, tmp_path: Path
) -> None:
    names = [f"{name}.gz" for name in NAMES]
    arguments = ("--mirror", real_mirror.url, "--data-dir", tmp_path)
    code, stdout, stderr = finish(start(*arguments))
    assert (code, real_mirror.asked) == (0, names), stderr
    assert shown(stdout) == dict.fromkeys(names, "downloaded")
    mnist = get_dataset("mnist")
    assert {state.state for state in verify_files(mnist, tmp_path)} == {"verified"}
    assert names_in(tmp_path) == set(names)

    code, stdout, stderr = finish(start(*arguments))
    assert (code, stderr, real_mirror.asked) == (0, "", names)
    assert shown(stdout) == dict.fromkeys(names, "verified")
    assert finish(start("--verify", "--data-dir", tmp_path))[0] == 0

    altered = tmp_path / "MNIST" / "raw" / f"{TEST_IMAGES}.gz"
    change_a_byte(altered)
    code, _, stderr = finish(start("--verify", "--data-dir", tmp_path))
    assert code == 3
    assert f"{altered} is damaged." in stderr
    assert finish(start(*arguments))[0] == 0
    assert real_mirror.asked == [*names, altered.name]
    assert {state.state for state in verify_files(mnist, tmp_path)} == {"verified"}


@pytest.mark.mnist
def test_two_processes_may_download_into_one_directory_at_once(
    real_mirror: Mirror, tmp_path: Path
) -> None:
    arguments = ("--mirror", real_mirror.url, "--data-dir", tmp_path)
    both = [start(*arguments), start(*arguments)]
    for code, stdout, stderr in [finish(process) for process in both]:
        assert code == 0, stderr
        assert set(shown(stdout)) == {f"{name}.gz" for name in NAMES}
        assert set(shown(stdout).values()) <= {"downloaded", "verified"}
    assert sorted(real_mirror.asked) == sorted(f"{name}.gz" for name in NAMES)
    mnist = get_dataset("mnist")
    assert {state.state for state in verify_files(mnist, tmp_path)} == {"verified"}
    assert names_in(tmp_path) == {f"{name}.gz" for name in NAMES}
