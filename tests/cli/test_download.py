"""`mnist download`: its output, exit codes, and several processes at once."""

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

from mnistcli.data import download
from mnistcli.data.datasets import DATASETS, get_dataset
from mnistcli.data.download import verify_files
from tests.helpers.cli import Mnist
from tests.helpers.small_mnist import (
    GZ_NAMES,
    NAMES,
    TEST_IMAGES,
    TRAIN_LABELS,
    Mirror,
    change_a_byte,
    contents,
    names_in,
    packed,
    put,
    put_data,
    refusing_url,
    serving,
    small_mnist,
    unpacked,
)

OUTPUTS = pytest.mark.parametrize("flags", [(), ("--json",), ("-q",)], ids=["table", "json", "-q"])


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirrors of torchvision's, no proxy, no retries."""
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [])
    monkeypatch.setattr(download, "NUM_RETRIES", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `--dataset mnist` mean the small files of scikit-learn's handwriting."""
    monkeypatch.setitem(DATASETS, "mnist", small_mnist())


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving(packed()) as mirror:
        yield mirror


def table(stdout: str) -> dict[str, str]:
    """The names and states in the table of files."""
    rows = [line.split() for line in stdout.splitlines() if "-ubyte" in line]
    return {row[0]: row[1] for row in rows}


@pytest.mark.usefixtures("small")
def test_the_files_are_listed_on_stdout_and_the_progress_on_stderr(
    mnist: Mnist, mirror: Mirror, tmp_path: Path
) -> None:
    data_dir = tmp_path / "some [bold]data"
    arguments = ("download", "--mirror", refusing_url(), "--mirror", mirror.url)
    result = mnist(*arguments, "--data-dir", data_dir)
    assert result.exit_code == 0
    assert table(result.stdout) == dict.fromkeys(GZ_NAMES, "downloaded")
    assert str(data_dir / "MNIST" / "raw") in result.stdout
    assert [line.split()[-1] for line in result.stderr.splitlines()] == list(NAMES)
    again = mnist(*arguments, "--data-dir", data_dir)
    assert table(again.stdout) == dict.fromkeys(GZ_NAMES, "verified")
    assert again.stderr == ""
    assert mirror.asked == GZ_NAMES


@pytest.mark.usefixtures("small")
def test_quiet_prints_only_the_data_directory_which_may_come_from_the_environment(
    mnist: Mnist, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "with [bold]brackets[/bold]"
    monkeypatch.setenv("MNIST_DATA_DIR", str(data_dir))
    result = mnist("download", "-q", "--mirror", mirror.url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{data_dir}\n", "")
    assert names_in(data_dir) == set(GZ_NAMES)


@pytest.mark.usefixtures("small")
def test_json_is_all_there_is_on_stdout(mnist: Mnist, mirror: Mirror, tmp_path: Path) -> None:
    arguments = ("download", "--json", "--mirror", mirror.url, "--data-dir", tmp_path)
    result = mnist(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "schema_version": 1,
        "dataset": "mnist",
        "data_dir": str(tmp_path),
        "files": [
            {
                "name": name,
                "state": "downloaded",
                "path": str(tmp_path / "MNIST" / "raw" / f"{name}.gz"),
                "source": f"{mirror.url}{name}.gz",
            }
            for name in NAMES
        ],
    }
    again = json.loads(mnist(*arguments).stdout)
    assert {(file["state"], file["source"]) for file in again["files"]} == {("verified", "")}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("files", [packed(), unpacked()], ids=["gz", "unpacked"])
def test_files_are_imported_from_a_directory(
    mnist: Mnist, tmp_path: Path, files: dict[str, bytes]
) -> None:
    source = put(tmp_path / "source", files)
    result = mnist("download", "--from", source, "--data-dir", tmp_path / "data")
    assert (result.exit_code, result.stderr) == (0, "")
    assert table(result.stdout) == dict.fromkeys(files, "imported")
    assert mnist("download", "--verify", "--data-dir", tmp_path / "data").exit_code == 0


@pytest.mark.usefixtures("small")
def test_it_is_said_when_nothing_is_taken_from_a_directory(mnist: Mnist, tmp_path: Path) -> None:
    put(tmp_path / "data" / "MNIST" / "raw", packed())
    (tmp_path / "kaggle").mkdir()
    result = mnist("download", "--from", "kaggle", "--data-dir", tmp_path / "data")
    assert result.exit_code == 0
    assert set(table(result.stdout).values()) == {"verified"}
    assert "Nothing was taken from kaggle" in result.stderr
    assert not mnist("download", "--data-dir", tmp_path / "data").stderr


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("exists", [False, True], ids=["no directory", "an empty directory"])
def test_an_import_of_what_is_not_there_is_exit_3_with_nothing_on_stdout(
    mnist: Mnist, tmp_path: Path, exists: bool
) -> None:
    source = tmp_path / "a [red]source"
    if exists:
        source.mkdir()
    result = mnist("download", "--from", source, "--data-dir", tmp_path / "data")
    assert (result.exit_code, result.stdout) == (3, "")
    assert str(source) in result.stderr
    assert (NAMES[0] in result.stderr) == exists


@pytest.mark.usefixtures("small")
@OUTPUTS
def test_verify_names_damaged_and_missing_files_and_is_exit_3(
    mnist: Mnist, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    folder = put_data(tmp_path, packed())
    arguments = ("download", "--verify", "--data-dir", tmp_path, *flags)
    assert mnist(*arguments).exit_code == 0
    change_a_byte(folder / f"{TRAIN_LABELS}.gz")
    (folder / f"{TEST_IMAGES}.gz").unlink()
    result = mnist(*arguments)
    assert result.exit_code == 3
    _, damaged, missing, fix = result.stderr.splitlines()
    assert damaged.split() == [f"{folder / TRAIN_LABELS}.gz", "is", "damaged."]
    assert missing.split() == [f"{folder / TEST_IMAGES}.gz", "is", "missing."]
    assert "mnist download" in fix
    expected = ["verified", "damaged", "missing", "verified"]
    if "--json" in flags:
        assert [file["state"] for file in json.loads(result.stdout)["files"]] == expected
    elif flags:
        assert result.stdout == f"{tmp_path}\n"
    else:
        assert list(table(result.stdout).values()) == expected


@pytest.mark.usefixtures("small")
@OUTPUTS
def test_a_failed_download_names_each_mirror_and_is_exit_3(
    mnist: Mnist, mirror: Mirror, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    mirror.fail(503)
    refusing = refusing_url()
    mirrors = ("--mirror", mirror.url, "--mirror", refusing)
    result = mnist("download", *mirrors, "--data-dir", tmp_path, *flags)
    assert (result.exit_code, result.stdout) == (3, "")
    what, first, second, fix = result.stderr.splitlines()
    assert GZ_NAMES[0] in what
    assert first == f"  {mirror.url}: HTTP status 503"
    assert second == f"  {refusing}: Connection refused"
    assert "mnist download --from DIR" in fix


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--dataset", "fasion-mnist"), "Did you mean fashion-mnist?"),
        (("--mirror", "ftp://127.0.0.1/mnist"), "ftp://127.0.0.1/mnist"),
    ],
    ids=["data set", "mirror"],
)
def test_a_wrong_data_set_or_mirror_is_exit_2(
    mnist: Mnist, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    result = mnist("download", *arguments, "--data-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [(), ("--verify",), ("--from", "."), ("--json",)])
def test_digits_need_no_download(mnist: Mnist, tmp_path: Path, flags: tuple[str, ...]) -> None:
    data_dir = tmp_path / "data"
    result = mnist("download", "--dataset", "digits", "--data-dir", data_dir, *flags)
    assert (result.exit_code, result.stderr) == (0, "")
    if "--json" in flags:
        assert json.loads(result.stdout)["files"] == []
    else:
        assert result.stdout.startswith("digits needs no download")
    assert not data_dir.exists()


@pytest.mark.mnist
def test_the_real_files_are_downloaded_once_verified_and_repaired(
    mnist: Mnist, mnist_source: Path, tmp_path: Path
) -> None:
    with serving({name: (mnist_source / name).read_bytes() for name in GZ_NAMES}) as mirror:
        arguments = ("download", "--mirror", mirror.url, "--data-dir", tmp_path)
        assert mnist(*arguments).exit_code == 0
        assert {state.state for state in verify_files(get_dataset("mnist"), tmp_path)} == {
            "verified"
        }
        change_a_byte(tmp_path / "MNIST" / "raw" / f"{TEST_IMAGES}.gz")
        assert mnist("download", "--verify", "--data-dir", tmp_path).exit_code == 3
        assert mnist(*arguments).exit_code == 0
        assert mirror.asked == [*GZ_NAMES, f"{TEST_IMAGES}.gz"]
    assert mnist("download", "--verify", "--data-dir", tmp_path).exit_code == 0


# `mnist`, with the small files instead of MNIST's.
SMALL_MNIST = """
import json, sys
from dataclasses import replace
from mnistcli.cli.app import main
from mnistcli.data.checksums import DataFile
from mnistcli.data.datasets import DATASETS

files = tuple(DataFile(**file) for file in json.loads(sys.argv[1]))
DATASETS["mnist"] = replace(DATASETS["mnist"], files=files)
main(sys.argv[2:])
"""


def start(*args: str | Path) -> "subprocess.Popen[str]":
    """Start `mnist download` of the small files in a process that reaches no other machine."""
    files = json.dumps([asdict(file) for file in small_mnist().files])
    no_way_out = dict.fromkeys(("http_proxy", "https_proxy"), refusing_url())
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_MNIST, files, "download", *args],
        env={**os.environ, **no_way_out, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    with process:
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def wait_for(condition: Callable[[], object]) -> None:
    deadline_seconds = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_seconds
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True], ids=["finishes", "is killed"])
def test_a_second_process_waits_until_the_first_ends_and_continues(
    mirror: Mirror, tmp_path: Path, is_killed: bool
) -> None:
    mirror.fail("stalls", times=1, name=f"{TEST_IMAGES}.gz")
    arguments = ("--mirror", mirror.url, "--data-dir", tmp_path)
    with start(*arguments) as first:
        wait_for(lambda: f"{TEST_IMAGES}.gz" in mirror.asked)
        with start(*arguments) as second:
            assert second.stderr
            assert "waiting" in second.stderr.readline()
            assert first.poll() is None
            if is_killed:
                first.kill()
            else:
                mirror.closing.set()  # the first one's retry succeeds
                assert finish(first)[0] == 0
            code, stdout, stderr = finish(second)
    assert code == 0, stderr
    last_two = "downloaded" if is_killed else "verified"
    assert list(table(stdout).values()) == ["verified", "verified", last_two, last_two]
    assert sorted(mirror.asked) == sorted([*GZ_NAMES, f"{TEST_IMAGES}.gz"])
    assert contents(tmp_path / "MNIST" / "raw") == packed()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_only_whole_files_and_can_be_continued(
    mirror: Mirror, tmp_path: Path, number: signal.Signals
) -> None:
    mirror.fail("stalls", times=1, name=f"{TRAIN_LABELS}.gz")
    arguments = ("--mirror", mirror.url, "--data-dir", tmp_path)
    folder = tmp_path / "MNIST" / "raw"
    with start(*arguments) as process:
        wait_for(lambda: f"{TRAIN_LABELS}.gz" in mirror.asked)
        process.send_signal(number)
        code, stdout, stderr = finish(process)
    # Python may end itself by SIGINT, which a shell reports as 130 too.
    assert code in (130, -signal.SIGINT)
    assert (stdout, "Traceback" in stderr) == ("", False)
    assert contents(folder) == {GZ_NAMES[0]: packed()[GZ_NAMES[0]]}
    code, stdout, _ = finish(start(*arguments))
    assert code == 0
    assert list(table(stdout).values()) == ["verified", *["downloaded"] * 3]
