"""Fixtures of all tests: a guard, command lines, a trained run, the real MNIST."""

import atexit
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import Mnist, Result, Terminal, environment
from tests.helpers.guard import Guard
from tests.helpers.paths import CASES, MNIST_SOURCE, PICTURES, REPOSITORY
from tests.helpers.processes import ForkServer

# Before torch is imported: many small tests on few cores are faster on one thread each,
# and a result does not depend on how many cores the machine has.
os.environ["OMP_NUM_THREADS"] = "1"

# A directory for the caches of libraries, removed at the end.
CACHE = Path(tempfile.mkdtemp(prefix="mnistcli-tests-"))
os.environ["MPLCONFIGDIR"] = str(CACHE)
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(CACHE)
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

# A shell's background job ignores Ctrl-C, and every process started from here would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

_GUARD = Guard()


@pytest.fixture(autouse=True)
def guard(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Guard]:
    """Fail a test that connects to other machines or writes outside its own directory.

    Every test starts in its `tmp_path`, with no settings from the environment.
    """
    for name in [name for name in os.environ if name.startswith("MNIST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    base = tmp_path_factory.getbasetemp().absolute()
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    _GUARD.allowed = [base, CACHE, REPOSITORY / ".hypothesis"]
    _GUARD.violations.clear()
    yield _GUARD
    _GUARD.allowed = None
    assert not _GUARD.violations


@pytest.fixture
def mnist(capfd: pytest.CaptureFixture[str]) -> Mnist:
    """Run a command line in this process: `mnist("eval", "last")`."""
    from mnistcli.cli.app import main

    def run(*args: str | Path) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(arg) for arg in args])
        captured = capfd.readouterr()
        code = exit_info.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Runs command lines in processes of their own: `fork_server.run("eval", "last")`."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork processes")
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def terminal(fork_server: ForkServer) -> Terminal:
    """Run a command line in a pseudo-terminal: `terminal("eval last", columns=120)`."""

    def run(arguments: str, *, columns: int = 80, **changes: str) -> str:
        words, environ = arguments.split(), environment(**changes)
        return fork_server.run_in_terminal(*words, columns=columns, environ=environ)

    return run


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mnistcli.cli.app import main

    out = tmp_path_factory.mktemp("trained")
    arguments = "train --recipe cnn-26k --dataset digits --epochs 3 --name small -q --out"
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments.split(), str(out)])
    assert not exit_info.value.code
    return out / "small"


@pytest.fixture
def trained(_trained_once: Path, tmp_path: Path) -> Path:
    """A copy of a run, trained/small: three epochs of cnn-26k on scikit-learn's digits."""
    return Path(shutil.copytree(_trained_once, tmp_path / "trained" / "small"))


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `mnist bench` measure in this process, which has loaded torch, and only a little."""
    from mnistcli.diagnostics import bench, bench_worker

    def call(function: Callable[..., Any], *args: object) -> Any:
        return pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(args)))))

    monkeypatch.setattr(bench, "call_isolated", call)
    monkeypatch.setattr(bench_worker, "evaluation_batch_size", lambda _device: 20)
    monkeypatch.setattr(bench_worker, "LATENCY_SAMPLES", 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests whose data or hardware is missing, with the reason."""
    import torch

    no_data = pytest.mark.skip(reason="the real MNIST files are not here (set MNIST_DATA_DIR)")
    no_pictures = pytest.mark.skip(reason="the labeled pictures are not here")
    no_gpu = pytest.mark.skip(reason="there is no CUDA device")
    has_pictures = all((folder / "labels.csv").is_file() for folder in (PICTURES, CASES))
    for item in items:
        # Not item.keywords: they hold the names of the directories too.
        if item.get_closest_marker("mnist") and MNIST_SOURCE is None:
            item.add_marker(no_data)
        if item.get_closest_marker("pictures") and not has_pictures:
            item.add_marker(no_pictures)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(scope="session")
def mnist_source() -> Path:
    """The directory with the four real files."""
    assert MNIST_SOURCE
    return MNIST_SOURCE


@pytest.fixture(scope="session")
def mnist_dir(mnist_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the real MNIST in it."""
    from mnistcli.data.datasets import get_dataset
    from mnistcli.data.download import import_files

    data_dir = tmp_path_factory.mktemp("data")
    import_files(get_dataset("mnist"), data_dir, mnist_source)
    return data_dir
