"""Checks of the machine: versions, missing accelerators, data sets, directories."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnistcli.data.datasets import get_dataset
from mnistcli.data.download import FileState
from mnistcli.diagnostics import system_checks
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
)

MNIST = get_dataset("mnist")


def test_versions_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, versions = check_processor(), check_versions()
    assert (processor.status, versions.status) == ("ok", "ok")
    assert processor.facts["num_threads"] == torch.get_num_threads()
    assert versions.facts["torch"] == torch.__version__
    assert versions.facts["torchvision"] in versions.finding
    monkeypatch.setattr(system_checks, "_torchvision_problem", lambda: "no operator nms")
    check = check_versions()
    assert check.status == "failed"
    assert "no operator nms" in check.finding


@pytest.mark.parametrize(
    ("number", "version"), [(92600, "9.26.0"), (90100, "9.1.0"), (8902, "8.9.2"), (None, None)]
)
def test_the_version_of_cudnn(
    number: int | None, version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: number)
    assert _cudnn() == version


@pytest.mark.parametrize(
    ("device", "driver", "has_cuda", "hidden", "status", "fix"),
    [
        ("auto", [], True, None, "skipped", ""),
        ("cuda", [], True, None, "failed", "mnist doctor --device auto"),
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
def test_no_accelerator_is_fine_unless_one_is_wanted_or_the_driver_has_one(
    device: str, driver: list[str], has_cuda: bool, hidden: str | None, status: str, fix: str
) -> None:
    check = explain_no_accelerator(device, "none", driver, has_cuda=has_cuda, hidden=hidden)
    assert check.status == status
    assert check.fix.startswith(fix)
    assert bool(check.fix) is bool(fix)
    if driver and hidden is None:
        assert driver[0] in check.finding


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that PyTorch is built for CUDA: `cuda_build(2)` has two GPUs."""

    def install(num: int) -> None:
        properties = SimpleNamespace(name="Pretend 3000", total_memory=80 * 10**9, major=9, minor=0)
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
        monkeypatch.setattr(system_checks, "_nvidia_driver", lambda: ["Pretend 3000, 570.86"] * num)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_every_gpu_is_listed(
    cuda_build: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_build(2)
    check = check_accelerators("cuda")
    assert check.status == "ok"
    assert [each["device"] for each in check.facts["devices"]] == ["cuda:0", "cuda:1"]
    for part in ("cuda:1 Pretend 3000", "80 GB", "CUDA 9.0", "driver 570.86"):
        assert part in check.finding
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in check_accelerators("cuda").finding


def test_the_reason_for_no_gpu_is_pytorchs_warning(
    cuda_build: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_build(0)

    def too_old() -> bool:
        warnings.warn(
            "CUDA initialization: The driver is too old (Triggered internally at x.cpp)\n more",
            stacklevel=1,
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    check = check_accelerators("cuda")
    assert check.status == "failed"
    assert check.finding == "PyTorch finds no CUDA device: The driver is too old"


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
    ("script", "limit", "line"),
    [
        ("echo 'H100, 570.86'", 60.0, "H100, 570.86"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", 60.0, "NVIDIA-SMI has failed"),
        ("exec sleep 600", 0.1, "timed out"),
    ],
)
def test_the_driver_is_queried_with_a_time_limit(
    script: str, limit: float, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = Path("nvidia-smi").absolute()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(system_checks, "DRIVER_SECONDS", limit)
    monkeypatch.setattr(shutil, "which", lambda _name: str(tool))
    (answer,) = _nvidia_driver()
    assert line in answer


def test_only_mnist_is_missed(tmp_path: Path) -> None:
    missing = check_dataset(MNIST, tmp_path)
    assert (missing.status, missing.fix) == ("warning", f"mnist download --data-dir {tmp_path}")
    other = check_dataset(get_dataset("kmnist"), tmp_path)
    assert other.status == "skipped"
    assert f"mnist download --dataset kmnist --data-dir {tmp_path}" in other.finding
    assert check_dataset(get_dataset("digits"), tmp_path).status == "ok"


@pytest.mark.parametrize(
    ("states", "status", "finding"),
    [
        (("verified", "verified"), "ok", "2 files"),
        (("verified", "missing"), "warning", "missing: b.gz"),
        (("damaged", "missing"), "failed", "damaged: a.gz"),
    ],
)
def test_data_are_complete_incomplete_or_damaged(
    states: tuple[Any, Any],
    status: str,
    finding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("a.gz", "b.gz")
    files = [
        FileState(name, state, tmp_path / name) for name, state in zip(names, states, strict=True)
    ]
    monkeypatch.setattr(system_checks, "verify_files", lambda *_args: files)
    check = check_dataset(get_dataset("kmnist"), tmp_path)
    assert check.status == status
    assert finding in check.finding
    command = f"mnist download --dataset kmnist --data-dir {tmp_path}"
    assert check.fix == ("" if status == "ok" else command)


@pytest.mark.mnist
def test_real_data_are_verified(mnist_dir: Path) -> None:
    check = check_dataset(MNIST, mnist_dir)
    assert check.status == "ok"
    assert [file["state"] for file in check.facts["files"]] == ["verified"] * 4


@pytest.mark.parametrize("name", ["there", "new/deep/er"])
def test_a_directory_is_written_to_and_left_unchanged(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("stays")
    check = check_directory("runs", tmp_path / name, option="--out")
    assert check.status == "ok"
    assert check.facts["free_bytes"] > 0
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "there", tmp_path / "there" / "file"]


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10**6))
    check = check_directory("runs", tmp_path, option="--out")
    assert check.status == "warning"
    assert "--out DIR" in check.fix


@pytest.mark.parametrize(("needed", "status"), [(True, "failed"), (False, "warning")])
def test_a_directory_that_cannot_be_written(
    needed: bool, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(system_checks, "write_atomically", refuse)
    check = check_directory("data", tmp_path / "new", option="--data-dir", needed=needed)
    assert check.status == status
    assert "Permission denied" in check.finding
    assert "--data-dir DIR" in check.fix
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_changes_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _path: b"other")
    check = check_directory("runs", tmp_path, option="--out")
    assert check.status == "failed"
    assert "changed" in check.finding
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_with_mnist_may_be_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert check_data_directory(tmp_path / "file").status == "failed"
    monkeypatch.setattr(system_checks, "has_all_files", lambda *_args: True)
    assert check_data_directory(tmp_path / "file").status == "warning"
