"""`mnist bench` at the terminal: table, JSON, exit codes, Ctrl-C, real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mnistcli.diagnostics import bench
from mnistcli.diagnostics.measurement import BenchCase
from mnistcli.errors import RunError
from tests.helpers.cli import Mnist

SHORT = ("--seconds", "0.01", "--repeats", "2", "--device", "cpu", "--data-dir", "data")
ONE = ("bench", "--recipe", "mlp-50-50", "--precision", "float32", *SHORT)
SPEED = {"median", "min", "max", "samples"}


@pytest.mark.usefixtures("measured_here")
def test_the_record_is_complete(mnist: Mnist) -> None:
    result = mnist(*ONE, "--hidden", "12", "8", "--batch-size", "16", "--reference", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    record = json.loads(result.stdout)
    assert record["schema_version"] == 1
    machine_keys = {"versions", "processor", "accelerators", "device", "images"}
    assert set(record["machine"]) == machine_keys
    assert record["machine"]["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["machine"]["processor"]["num_threads"] >= 1
    assert (record["seconds"], record["repeats"], record["interrupted"]) == (0.01, 2, False)
    assert record["loader_processes"] == 0
    (bench,) = record["results"]
    assert (bench["recipe"], bench["arch"], bench["batch_size"]) == ("mlp-50-50", "mlp", 16)
    assert bench["settings"]["model"]["hidden"] == [12, 8]
    assert bench["num_params"] == 784 * 12 + 12 + 12 * 8 + 8 + 8 * 10 + 10
    assert bench["precision"] == {"value": "float32", "reason": "requested"}
    assert bench["failure"] is None
    (reference,) = bench["reference"]
    assert reference["precision"] == "float32"
    for speed in (bench["training"], bench["inference"], reference["training"], reference["ratio"]):
        assert set(speed) == SPEED
        assert len(speed["samples"]) == 2
        assert speed["min"] > 0
    assert bench["epoch_seconds"] == pytest.approx(54_000 / bench["training"]["median"])
    assert bench["num_trained"] % 16 == 0


@pytest.mark.usefixtures("measured_here")
def test_the_table_fits_80_columns(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    more = ("--recipe", "cnn-small", "--batch-size", "16", "--reference")
    result = mnist(*ONE, *more)
    assert result.exit_code == 0
    first, second = result.stdout.split("Speedup")[0].split("Images per second")
    for table in (first, second):
        assert "mlp-50-50 " in table
        assert "cnn-small+" in table
    assert "42,310" in first
    assert "7,882" in first
    assert "…" not in result.stdout
    lines = result.stdout.splitlines()[4:]  # the machine's are as long as its names
    assert max(map(len, lines)) <= 80
    assert result.stderr.splitlines()[1:] == [
        "measuring mlp-50-50 in float32 (1 of 2)",
        "measuring cnn-small in float32 (2 of 2)",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--arch", "cnm"], 2, "cnn?"),
        (["--repeats", "0"], 2, "--repeats"),
        (["--arch", "mlp", "--channels", "3", "4"], 2, "channels"),
        (["--arch", "mlp", "--max-params", "9"], 5, "105,214"),
        (["--arch", "mlp", "--precision", "float16", "--device", "cpu"], 4, "float16"),
    ],
)
@pytest.mark.usefixtures("measured_here")
def test_wrong_options_are_refused(
    arguments: list[str], code: int, named: str, mnist: Mnist
) -> None:
    result = mnist("bench", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert named in result.stderr


@pytest.mark.usefixtures("measured_here")
def test_a_failure_is_shown_with_the_other_figures(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = vars(bench)["call_isolated"]  # the fixture's

    def failing(function: Callable[..., Any], *args: Any) -> Any:
        if isinstance(args[0], BenchCase) and args[0].settings["recipe"] == "cnn-15k":
            raise RunError("It was killed.", fix="Do this")
        return call(function, *args)

    monkeypatch.setattr(bench, "call_isolated", failing)
    result = mnist(*ONE, "--recipe", "cnn-15k")
    assert result.exit_code == 1
    assert "42,310" in result.stdout
    assert "cnn-15k in float32 failed: It was killed. Do this" in result.stdout
    result = mnist(*ONE, "--recipe", "cnn-15k", "--json")
    assert result.exit_code == 1
    failures = [case["failure"] for case in json.loads(result.stdout)["results"]]
    assert failures == [None, "It was killed."]
    result = mnist(*ONE, "--recipe", "cnn-15k", "-q")
    assert (result.exit_code, result.stderr) == (1, "")
    assert [int(line) > 0 for line in result.stdout.splitlines()] == [True, False]


@pytest.mark.slow
def test_the_command_loads_no_torch_and_measures_in_other_processes() -> None:
    code = (
        "import sys\n"
        "from mnistcli.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    arguments = (*ONE, "--reference", "--loader-processes", "1", "--json")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    (case,) = json.loads(done.stdout)["results"]
    assert case["reference"][0]["training"]["min"] > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_shows_what_was_measured() -> None:
    """With real processes, of which the second is interrupted while it starts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mnistcli", *ONE, "--recipe", "cnn-15k"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr
    for line in process.stderr:
        if "(2 of 2)" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 of 2" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert "42,310" in stdout
    assert "15,106" not in stdout
