"""What is on the machine: versions, accelerators that are not there, data, room to write."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnistcli.data import datasets
from mnistcli.data.datasets import get_dataset
from mnistcli.data.download import FileState
from mnistcli.diagnostics import system_checks as inventory
from mnistcli.diagnostics.system_checks import (
    _cudnn,
    _nvidia_driver,
    check_accelerators,
    check_data_directory,
    check_dataset,
    check_directory,
    check_processor,
    check_versions,
    explain_no_accelerator,
    first_line,
)
from mnistcli.errors import DeviceError

MNIST = get_dataset("mnist")


def test_the_versions_are_said() -> None:
    check = check_versions()
    assert check.status == "ok"
    assert str(torch.__version__) in check.finding
    assert check.facts["torchvision"] in check.finding


@pytest.mark.parametrize(
    ("number", "version"), [(92600, "9.26.0"), (90100, "9.1.0"), (8902, "8.9.2"), (None, None)]
)
def test_the_version_of_cudnn(
    number: int | None, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: number)
    assert _cudnn() == version


def test_a_torchvision_for_another_pytorch_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_torchvision_problem", lambda: "no operator nms")
    check = check_versions()
    assert check.status == "failed"
    assert "torchvision cannot be used: no operator nms" in check.finding


def test_the_processor_is_described() -> None:
    check = check_processor()
    assert check.status == "ok"
    assert check.facts["num_threads"] == torch.get_num_threads()
    assert check.facts["memory_bytes"] > 1e8


@pytest.mark.parametrize(
    ("wanted", "driver", "has_cuda", "hidden", "status", "fix"),
    [
        ("auto", [], True, None, "skipped", ""),
        ("cuda", [], True, None, "failed", "mnist doctor --device auto"),
        ("mps", [], False, None, "failed", "mnist doctor --device auto"),
        ("auto", ["H100, 570.1"], False, None, "warning", "Install PyTorch for this machine"),
        ("auto", ["H100, 470.1"], True, None, "warning", "Install a newer driver"),
        ("cuda", ["H100, 470.1"], True, None, "failed", "Install a newer driver"),
        ("auto", ["H100, 470.1"], True, "0", "warning", "Install a newer driver"),
        ("auto", ["H100, 570.1"], True, "-1", "skipped", "unset CUDA_VISIBLE_DEVICES"),
        ("auto", ["H100, 570.1"], True, "", "skipped", "unset CUDA_VISIBLE_DEVICES"),
        ("cuda", ["H100, 570.1"], True, "", "failed", "unset CUDA_VISIBLE_DEVICES"),
        ("auto", [], False, "", "skipped", ""),
    ],
)
def test_what_it_means_to_find_no_accelerator(
    wanted: str, driver: list[str], has_cuda: bool, hidden: str | None, status: str, fix: str
) -> None:
    check = explain_no_accelerator(wanted, "none", driver, has_cuda=has_cuda, hidden=hidden)
    assert check.status == status
    assert check.fix.startswith(fix)
    assert bool(check.fix) is bool(fix)
    if driver and hidden is None:
        assert check.finding == f"none, but the driver says: {driver[0]}"


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine whose driver has `num` GPUs, and PyTorch built for CUDA."""

    def install(num: int) -> None:
        properties = SimpleNamespace(name="Pretend 3000", total_memory=80 * 10**9, major=9, minor=0)
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
        monkeypatch.setattr(inventory, "_nvidia_driver", lambda: ["Pretend 3000, 570.86"] * num)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_every_gpu_is_listed(pretend: Callable[..., None]) -> None:
    pretend(2)
    check = check_accelerators("cuda")
    assert check.status == "ok"
    assert [each["device"] for each in check.facts["devices"]] == ["cuda:0", "cuda:1"]
    assert check.finding == (
        "cuda:0 Pretend 3000, 80 GB, CUDA 9.0; cuda:1 Pretend 3000, 80 GB, CUDA 9.0; driver 570.86"
    )


def test_the_reason_for_no_gpu_is_what_pytorch_warns_of(
    pretend: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(0)

    def too_old() -> bool:
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found version "
            "11040). Please update it (Triggered internally at CUDAFunctions.cpp:108.)\n  more",
            stacklevel=1,
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    check = check_accelerators("cuda")
    assert check.status == "failed"
    assert check.finding == (
        "PyTorch finds no CUDA device: The NVIDIA driver on your system is too old (found version "
        "11040). Please update it"
    )


def test_a_build_without_cuda_is_said(
    pretend: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(1)
    monkeypatch.setattr(torch.version, "cuda", None)
    check = check_accelerators("cuda")
    assert check.finding.startswith("this PyTorch is built without CUDA, but the driver says: Pre")


@pytest.mark.parametrize(
    ("available", "built", "finding"),
    [
        (True, True, "mps Apple GPU"),
        (False, True, "PyTorch finds no MPS device"),
        (False, False, "this PyTorch is built without MPS"),
    ],
)
def test_mps(available: bool, built: bool, finding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    check = check_accelerators("mps")
    assert check.finding == finding
    assert check.status == ("ok" if available else "failed")


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("echo 'H100, 570.86'", ["H100, 570.86"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ["NVIDIA-SMI has failed"]),
        ("sleep 30", ["timed out"]),
        (None, []),
    ],
)
def test_the_driver_is_asked_but_not_waited_for(
    script: str | None, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if script:
        tool = Path("nvidia-smi")
        tool.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
        tool.chmod(0o755)
    found = str(Path("nvidia-smi").absolute()) if script else None
    monkeypatch.setattr(inventory, "DRIVER_SECONDS", 1.0)
    monkeypatch.setattr(shutil, "which", lambda _name: found)
    said = _nvidia_driver()
    assert len(said) == len(lines)
    assert all(part in line for part, line in zip(lines, said, strict=True))


def test_data_that_are_not_here(tmp_path: Path) -> None:
    missing = check_dataset(MNIST, tmp_path)
    assert (missing.status, missing.fix) == ("warning", "mnist download")
    other = check_dataset(get_dataset("kmnist"), tmp_path)
    assert (other.status, other.finding) == (
        "skipped",
        "not here (mnist download --dataset kmnist)",
    )
    here = check_dataset(get_dataset("digits"), tmp_path)
    assert (here.status, here.finding) == ("ok", "1,797 images, in scikit-learn")


def test_data_that_are_damaged_or_not_whole(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"nonsense")
    check = check_dataset(MNIST, tmp_path)
    assert (check.status, check.fix) == ("failed", "mnist download")
    assert check.finding == "damaged: train-images-idx3-ubyte.gz"


def test_some_files_are_not_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def states(*_where: Any) -> list[FileState]:
        return [
            FileState("a", "verified", tmp_path / "a.gz"),
            FileState("b", "missing", tmp_path / "b.gz"),
        ]

    monkeypatch.setattr(datasets, "verify", states)
    check = check_dataset(get_dataset("kmnist"), tmp_path)
    assert (check.status, check.finding) == ("warning", "not whole; missing: b.gz")
    assert check.fix == "mnist download --dataset kmnist"


@pytest.mark.mnist
def test_real_data_are_verified(mnist_dir: Path) -> None:
    check = check_dataset(MNIST, mnist_dir)
    assert (check.status, check.finding) == ("ok", "whole, 4 files verified")


@pytest.mark.parametrize("name", ["there", "new/deep/er"])
def test_a_directory_is_tried_and_left_as_it_was(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("stays")
    check = check_directory("runs", tmp_path / name, option="--out")
    assert check.status == "ok"
    assert check.facts["free_bytes"] > 0
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there", tmp_path / "there" / "file"]


def test_a_full_disk_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10**6))
    check = check_directory("runs", tmp_path, option="--out")
    assert (check.status, check.fix) == ("warning", "Make room, or choose another: --out DIR")


@pytest.mark.parametrize(("needed", "status"), [(True, "failed"), (False, "warning")])
def test_a_directory_that_cannot_be_written(
    needed: bool, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inventory, "write_atomically", refuse)
    check = check_directory("data", tmp_path / "new", option="--data-dir", needed=needed)
    assert check.status == status
    assert "Permission denied" in check.finding
    assert "--data-dir DIR" in check.fix
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = check_directory("runs", tmp_path / "file", option="--out")
    assert (check.status, check.finding.rpartition(": ")[2]) == ("failed", "File exists")


def test_a_disk_that_changes_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _path: b"other")
    check = check_directory("runs", tmp_path, option="--out")
    assert check.status == "failed"
    assert "comes back changed" in check.finding
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_with_mnist_may_be_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "is_complete", lambda *_arguments: True)
    (tmp_path / "file").write_text("")
    assert check_data_directory(tmp_path / "file").status == "warning"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError("CUDA error: no kernel image.\nCompile with …"),
            "CUDA error: no kernel image",
        ),
        (RuntimeError(), "RuntimeError"),
        (DeviceError("It fails."), "It fails"),
    ],
)
def test_an_error_in_a_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
