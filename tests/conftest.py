"""What all tests share: a guard around each, real handwriting, the command line in process."""

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.helpers.processes import Children

# Before torch is imported: many small tests on few cores are faster on one thread each,
# and a result does not depend on how many cores the machine has.
os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).parents[1]

# What libraries cache for themselves goes where it is removed again.
CACHE = Path(tempfile.mkdtemp(prefix="mnistcli-tests-"))
os.environ["MPLCONFIGDIR"] = str(CACHE)
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(CACHE)
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


class Guard:
    """Notes every connection off this machine and every write outside the allowed directories.

    Python's audit hooks cannot be removed, so there is one, and it is switched on a test.
    """

    def __init__(self) -> None:
        self.allowed: list[Path] | None = None
        self.violations: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event == "socket.connect":
            address = args[1]
            if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
                self.violations.append(f"connection to {address}")
        elif event == "open":
            path, mode, flags = args
            if isinstance(path, str) and Path(path).is_dir():
                return  # a temporary file without a name: nothing can stay behind
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if isinstance(path, str | bytes | os.PathLike) and (writes or "w" in (mode or "")):
                self._check(path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            self._check(args[0])
        elif event == "os.rename":
            self._check(args[1])

    def _check(self, path: Any) -> None:
        assert self.allowed is not None
        full = Path(os.fsdecode(path)).absolute()
        if (
            full.is_relative_to("/dev")
            or full == Path("/proc/self/clear_refs")
            or "__pycache__" in full.parts
        ):
            return
        if not any(full.is_relative_to(directory) for directory in self.allowed):
            self.violations.append(f"write to {full}")


_GUARD = Guard()


@pytest.fixture(autouse=True)
def guard(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Guard]:
    """Fail a test that reaches off this machine or writes outside its own directory.

    Every test starts in its `tmp_path`, with no settings from the environment.
    """
    for name in [name for name in os.environ if name.startswith("MNIST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    base = tmp_path_factory.getbasetemp().absolute()
    _GUARD.allowed = [base, CACHE, REPOSITORY / ".hypothesis"]
    _GUARD.violations.clear()
    yield _GUARD
    _GUARD.allowed = None
    assert not _GUARD.violations


@dataclass(frozen=True)
class Result:
    """What a command line did."""

    exit_code: int
    stdout: str
    stderr: str


Mnist = Callable[..., Result]


@pytest.fixture
def mnist(capfd: pytest.CaptureFixture[str]) -> Mnist:
    """Run a command line in this process: `mnist("eval", "last")`."""
    from mnistcli.cli.app import main

    def run(*args: str | Path) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(arg) for arg in args])
        captured = capfd.readouterr()
        code = left.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def _children_once() -> Iterator[Children]:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork processes")
    children = Children()
    yield children
    children.close()


@pytest.fixture
def children(_children_once: Children) -> Children:
    """Starts command lines in processes of their own."""
    return _children_once


def environment(**changes: str) -> dict[str, str]:
    """Of a process that a person starts in a terminal of many colors."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", **changes}


class Terminal(Protocol):
    """What a terminal of `columns` columns is sent when `mnist arguments` is run in it."""

    def __call__(self, arguments: str, *, columns: int = 80, **changes: str) -> str: ...


@pytest.fixture
def terminal(children: Children) -> Terminal:
    """Run a command line in a terminal of its own: `terminal("eval last", columns=120)`."""

    def run(arguments: str, *, columns: int = 80, **changes: str) -> str:
        words, environ = arguments.split(), environment(**changes)
        return children.in_a_terminal(*words, columns=columns, environ=environ)

    return run


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mnistcli.cli.app import main

    out = tmp_path_factory.mktemp("trained")
    arguments = "train --recipe cnn-26k --dataset digits --epochs 3 --name small -q --out"
    with pytest.raises(SystemExit) as left:
        main([*arguments.split(), str(out)])
    assert not left.value.code
    return out / "small"


@pytest.fixture
def trained(_trained_once: Path, tmp_path: Path) -> Path:
    """A run of the test's own, trained/small: three epochs of cnn-26k on scikit-learn's digits."""
    return Path(shutil.copytree(_trained_once, tmp_path / "trained" / "small"))


def lay_series(trained: Path, series: Path, *, seeds: range, num_laid: int) -> None:
    """Lay copies of a run as the first `num_laid` of a series; its summary knows of none yet."""
    settings = json.loads((trained / "settings.json").read_text())
    for seed in seeds[:num_laid]:
        run = Path(shutil.copytree(trained, series / f"seed-{seed}"))
        (run / "settings.json").write_text(json.dumps({**settings, "seed": seed}))
    summary = {
        "schema_version": 1,
        "layout": {"by": "seeds", "num_runs": len(seeds)},
        "settings": {**settings, "seed": seeds[0]},
        "runs": [],
        "last": None,
        "best": None,
    }
    (series / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `mnist bench` measure in this process, which has loaded torch, and only a little."""
    from mnistcli.data import examples as batches
    from mnistcli.diagnostics import bench_worker as measuring
    from mnistcli.diagnostics import processes

    def call(function: str, argument: object) -> Any:
        module_name, name = function.split(":")
        carry_out = getattr(import_module(module_name), name)
        return json.loads(json.dumps(carry_out(json.loads(json.dumps(argument)))))

    monkeypatch.setattr(processes, "call", call)
    monkeypatch.setattr(batches, "evaluation_batch_size", lambda _device: 20)
    monkeypatch.setattr(measuring, "LATENCY_SAMPLES", 1)


def _mnist_source() -> Path | None:
    """A directory that holds the real MNIST files, as torchvision lays them or flat."""
    places = [os.environ.get("MNIST_DATA_DIR"), REPOSITORY.parent / "shared" / "mnist"]
    for place in places:
        for folder in (Path(place or "-"), Path(place or "-") / "MNIST" / "raw"):
            if (folder / "train-images-idx3-ubyte.gz").is_file():
                return folder
    return None


MNIST_SOURCE = _mnist_source()
# The labelled pictures that docs/predict.md speaks of.
PICTURES = REPOSITORY.parent / "shared" / "digits-dev"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs data or hardware that is not here, and say so."""
    import torch

    no_data = pytest.mark.skip(reason="the real MNIST files are not here (set MNIST_DATA_DIR)")
    no_gpu = pytest.mark.skip(reason="there is no CUDA device")
    for item in items:
        # Not item.keywords: they hold the names of the directories too.
        if item.get_closest_marker("mnist") and MNIST_SOURCE is None:
            item.add_marker(no_data)
        if item.get_closest_marker("pictures") and not (PICTURES / "labels.csv").is_file():
            item.add_marker(pytest.mark.skip(reason="the labelled pictures are not here"))
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
