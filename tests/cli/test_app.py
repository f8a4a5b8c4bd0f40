"""The command line as a whole: help, exit codes, imports, completion."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnistcli.cli.app import app
from mnistcli.cli.options import complete_from, complete_run
from mnistcli.config.recipes import RECIPES
from mnistcli.version import __version__
from tests.helpers.cli import Mnist, environment
from tests.helpers.paths import REPOSITORY
from tests.helpers.processes import ForkServer

COMMANDS = (
    *("train", "eval", "predict", "draw", "summary", "runs", "plot", "export"),
    *("download", "doctor", "bench", "train-finder"),
)
HEAVY = {
    "torch",
    "torchvision",
    "matplotlib",
    "numpy",
    "scipy",
    "pydantic",
    "sklearn",
    "PIL",
    "uvicorn",
}
COMMANDS_PAGE = REPOSITORY / "docs" / "commands.md"


def run_python(code: str) -> str:
    """The output of Python code in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert not result.stderr, result.stderr
    return result.stdout


def test_all_commands_are_listed() -> None:
    assert sorted(command.name or "" for command in app.registered_commands) == sorted(COMMANDS)


def test_mnist_alone_shows_the_help(mnist: Mnist) -> None:
    result = mnist()
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_has_three_examples_and_fits_80_columns(
    mnist: Mnist, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = mnist(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.count(f"$ mnist {command}") == 3
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert mnist(command, "-h").stdout == result.stdout


def test_the_version(mnist: Mnist) -> None:
    assert mnist("--version").stdout == f"mnist {__version__}\n"
    command = [sys.executable, "-m", "mnistcli", "--version"]
    assert subprocess.check_output(command, text=True) == f"mnist {__version__}\n"


def test_help_and_usage_errors_import_nothing_heavy() -> None:
    lines = [["--help"], [], *([command, "--help"] for command in COMMANDS)]
    lines += [["trian"], ["train", "--nonsense"], ["predict"], ["doctor", "--device"]]
    lines += [["train", "digits"], ["eval", "--min-accuracy", "0.9"]]
    code = (
        "import contextlib, io, sys\n"
        "from mnistcli.cli.app import main\n"
        f"for arguments in {lines!r}:\n"
        "    quiet = io.StringIO()\n"
        "    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):\n"
        "        try:\n"
        "            main(arguments)\n"
        "        except SystemExit:\n"
        "            pass\n"
        f"    print(arguments, *sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    assert run_python(code).splitlines() == [str(arguments) for arguments in lines]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import mnistcli\n"
        "assert 'Training' in dir(mnistcli)\n"
        f"print(*sorted({HEAVY!r} & set(sys.modules)))\n"
        "from mnistcli import MnistError, compare, figures\n"
        "print(*sorted({'torch', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)))\n"
    )
    assert run_python(code) == "\n\n"


def test_garbage_is_collected_less_often_and_not_at_exit() -> None:
    code = (
        "import atexit, gc\n"
        "before = gc.get_threshold()[0]\n"
        "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000,\n"
        "                              gc.get_threshold()[0] > before))\n"
        "from mnistcli.cli.app import main\n"
        "main(['--version'])\n"
    )
    assert run_python(code).splitlines()[-1] == "True True True"


def test_triton_does_not_report_leaks_at_exit() -> None:
    pytest.importorskip("triton")
    run_python("import triton._C.libtriton\nfrom mnistcli.cli.app import main\nmain(['--version'])")


def test_names_and_runs_are_completed(tmp_path: Path) -> None:
    assert complete_from(tuple(RECIPES))("cnn-2") == ["cnn-26k"]
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "metrics.csv").write_text("")
    assert complete_run("") == ["last", "first"]
    assert complete_run("fi") == ["first"]


def test_brackets_in_names_are_printed(mnist: Mnist) -> None:
    result = mnist("predict", "[red]x[/nope].png")
    assert result.exit_code == 3
    assert "[red]x[/nope].png" in result.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_that_cannot_encode_a_character_shows_a_replacement(
    encoding: str, fork_server: ForkServer
) -> None:
    prepare = (
        f"import sys\nsys.stdout = open(1, 'w', encoding='{encoding}', closefd=False)\n"
        f"sys.stderr = open(2, 'w', encoding='{encoding}', closefd=False)\n"
    )
    assert fork_server.run("summary", "--arch", "mlp", prepare=prepare).exit_code == 0
    result = fork_server.run("predict", "七.png", prepare=prepare)
    assert result.exit_code == 3, result.stderr
    assert "?.png" in result.stderr


def test_json_is_all_there_is_on_stdout(mnist: Mnist) -> None:
    result = mnist("summary", "--arch", "mlp", "--json")
    assert json.loads(result.stdout)["num_params"] == 105_214
    assert result.stdout.count("\n") == 1


def test_ctrl_c_outside_of_a_command_prints_nothing(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mnistcli.cli.app.app", interrupt)
    result = mnist("--help")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


def test_an_error_of_the_system_is_a_message(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "some/place")

    monkeypatch.setattr("mnistcli.cli.app.app", fail)
    result = mnist("runs")
    assert result.exit_code == 1
    assert "some/place: Permission denied" in result.stderr


def test_the_commands_page_is_up_to_date() -> None:
    script = REPOSITORY / "docs" / "reference.py"
    page = subprocess.check_output([sys.executable, script], text=True, encoding="utf-8")
    assert COMMANDS_PAGE.read_text(encoding="utf-8") == page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_on_the_commands_page(mnist: Mnist, command: str) -> None:
    page = COMMANDS_PAGE.read_text(encoding="utf-8")
    section = page.split(f"## mnist {command}\n")[1].split("\n## ")[0]
    # An option's row starts with its name; other names on the help page are prose.
    shown = re.findall(r"^│ \*?\s*(--[a-z-]+)", mnist(command, "--help").stdout, re.MULTILINE)
    documented = re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)
    assert set(documented) == set(shown) - {"--help"}


@pytest.mark.parametrize("form", [("--out", "~/mine"), ("--out=~/mine",)])
def test_the_home_directory_is_expanded_where_no_shell_does(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert str(tmp_path / "home" / "mine") in mnist("runs", *form).stderr
    monkeypatch.setenv("MNIST_DATA_DIR", "~/data")
    assert str(tmp_path / "home" / "data") in mnist("download", "--verify").stderr
    assert not Path("~").exists()


def mnist_process(
    arguments: str, *, stdout: int = subprocess.PIPE, **changes: str
) -> subprocess.CompletedProcess[str]:
    """A command line of a shell in a process of its own."""
    return subprocess.run(
        f"'{sys.executable}' -m mnistcli {arguments}",
        shell=True,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(PYTHONPATH=str(REPOSITORY), **changes),
    )


def test_a_terminal_without_a_width_has_80_columns() -> None:
    wide = mnist_process("summary --arch mlp", COLUMNS="80")
    for columns in ("0", "00"):
        assert mnist_process("summary --arch mlp", COLUMNS=columns).stdout == wide.stdout
    assert "parameters" in wide.stdout
    assert "There is no run" in mnist_process("runs", COLUMNS="0").stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ("summary --arch mlp", 0),
        ("runs --json", 0),
        ("eval nothing", 3),
        ("train --lr x", 2),
        ("doctor --device cpu --seconds 0 -q", 0),  # checks in other processes
    ],
)
def test_closed_streams_leave_the_exit_code(arguments: str, exit_code: int) -> None:
    result = mnist_process(f"{arguments} >&-")
    assert result.returncode == exit_code
    assert "Traceback" not in result.stderr
    assert mnist_process(f"{arguments} >&- 2>&-").returncode == exit_code


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    """Libraries would print into it."""
    Path("code.py").write_text(
        "import os, sys\n"
        "from mnistcli.cli.app import main\n"
        "try:\n"
        "    main(['--version'])\n"
        "except SystemExit:\n"
        "    sys.exit(os.open('file', os.O_CREAT | os.O_WRONLY))\n"
    )
    command = f"'{sys.executable}' code.py <&- >&-"
    environ = environment(PYTHONPATH=str(REPOSITORY))
    assert subprocess.run(command, shell=True, check=False, env=environ).returncode > 2


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ("runs --out trained", 1),
        ("runs --out trained -q", 1),
        ("runs --out trained --json", 1),
        ("runs nothing", 3),
        ("--version", 1),
    ],
)
def test_a_pipe_that_nobody_reads_is_told_by_the_exit_code_alone(
    trained: Path, arguments: str, exit_code: int
) -> None:
    assert trained.is_dir()
    read = mnist_process(arguments)
    assert read.returncode == (exit_code if exit_code == 3 else 0)
    reader, writer = os.pipe()
    os.close(reader)
    unread = mnist_process(arguments, stdout=writer)
    os.close(writer)
    assert (unread.returncode, unread.stderr) == (exit_code, read.stderr)
