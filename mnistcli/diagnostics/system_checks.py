"""What this machine has: versions, a CPU, accelerators, data sets, disks to write to."""

import os
import platform
import shutil
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mnistcli.data.datasets import (
    DATASETS,
    Dataset,
    download_command,
    get_dataset,
    has_all_files,
    load_dataset,
    resolve_data_dir,
)
from mnistcli.data.download import verify_files
from mnistcli.diagnostics.checks import (
    INSTALL,
    Check,
    CheckEvents,
    DoctorOptions,
    Status,
    run_check,
)
from mnistcli.errors import count_noun, first_line
from mnistcli.system.files import write_atomically
from mnistcli.system.machine import memory_bytes, num_cores
from mnistcli.version import __version__

# The size of the file that is written: runs of most recipes are smaller.
WRITTEN_BYTES = 1 << 20
# With less, a download or a few runs may fill the disk.
LOW_BYTES = 500 * 10**6
DRIVER_SECONDS = 20.0


def check_machine(options: DoctorOptions) -> CheckEvents:
    """Every check of the machine but those of its devices."""
    data_dir = resolve_data_dir(options.data_dir, os.environ)
    yield from run_check("versions", "", check_versions)
    yield from run_check("processor", "", check_processor)
    for dataset in DATASETS.values():
        yield from run_check("data", dataset.name, partial(check_dataset, dataset, data_dir))
    yield from run_check("directory", "data", partial(check_data_directory, data_dir))
    check_out = partial(check_directory, "runs", Path(options.out), option="--out")
    yield from run_check("directory", "runs", check_out)


def check_versions() -> Check:
    """The versions of Python, this package, torchvision, and PyTorch with its CUDA or ROCm."""
    facts = {
        "python": platform.python_version(),
        "mnistcli": __version__,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": _cudnn(),
        "torchvision": _version("torchvision"),
        "platform": platform.platform(),
    }
    built = facts["cuda"] and f"CUDA {facts['cuda']}, cuDNN {facts['cudnn']}"
    built = built or (f"ROCm {facts['hip']}" if facts["hip"] else "no CUDA")
    line = (
        f"Python {facts['python']}, mnistcli {facts['mnistcli']}, PyTorch {facts['torch']} "
        f"({built}), torchvision {facts['torchvision'] or 'missing'}"
    )
    problem = _torchvision_problem()
    if problem:
        finding = f"torchvision cannot be imported: {problem} ({line})"
        return Check("versions", "", "failed", finding, fix=INSTALL, facts=facts)
    return Check("versions", "", "ok", line, facts=facts)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cudnn() -> str | None:
    if not torch.backends.cudnn.is_available():
        return None
    number = torch.backends.cudnn.version()
    # 9.26.0 is 92600, but 8.9.2 was 8902.
    thousands = 10_000 if number and number >= 90_000 else 1_000
    return number and f"{number // thousands}.{number % thousands // 100}.{number % 100}"


def _torchvision_problem() -> str:
    """Why torchvision cannot be imported; usually it was built for another PyTorch."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return first_line(error)
    return ""


def check_processor() -> Check:
    """The CPU, the cores that this process may use, PyTorch's threads, the memory."""
    name = str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or "unknown")
    cores, threads, size_bytes = num_cores(), torch.get_num_threads(), memory_bytes()
    memory = f", {size_bytes / 1e9:,.0f} GB of memory" if size_bytes else ""
    return Check(
        "processor",
        "",
        "ok",
        f"{name}: {count_noun(cores, 'core')}, {count_noun(threads, 'thread')}{memory}",
        facts={
            "name": name,
            "num_cores": cores,
            "num_threads": threads,
            "memory_bytes": size_bytes,
        },
    )


def check_accelerators(device: str) -> Check:
    """Find the accelerators for `device` ("auto", "cuda" or "mps"), or why there is none."""
    accelerators: list[dict[str, Any]] = []
    problems = []
    if device in ("auto", "cuda"):
        problem, cuda = _cuda_devices()
        accelerators += cuda
        problems.append(problem)
    if device == "mps" or (device == "auto" and sys.platform == "darwin"):
        problem, mps = _mps_devices()
        accelerators += mps
        problems.append(problem)
    driver = _nvidia_driver() if device != "mps" else []
    kernels_for = torch.cuda.get_arch_list() if _has_cuda() else []
    facts = {"devices": accelerators, "driver": driver, "kernels_for": kernels_for}
    if accelerators:
        finding = _describe_devices(accelerators, driver)
        return Check("accelerators", "", "ok", finding, facts=facts)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") if device != "mps" else None
    check = explain_no_accelerator(
        device, "; ".join(filter(None, problems)), driver, has_cuda=_has_cuda(), hidden=hidden
    )
    return replace(check, facts=facts)


def explain_no_accelerator(
    device: str, problem: str, driver: list[str], *, has_cuda: bool, hidden: str | None
) -> Check:
    """The check where PyTorch finds no accelerator.

    Args:
        device: "auto", "cuda" or "mps".
        problem: PyTorch's reason.
        driver: The driver's list of GPUs, or its error message.
        has_cuda: Whether this PyTorch is built for GPUs.
        hidden: The value of `CUDA_VISIBLE_DEVICES`.
    """
    fix = "" if device == "auto" else "mnist doctor --device auto"
    if hidden:
        problem += f" (CUDA_VISIBLE_DEVICES is '{hidden}')"
    # Usually on purpose, and so not a warning; a mistake is shown all the same.
    all_hidden = has_cuda and hidden in ("", "-1")
    if all_hidden:
        problem += ", because CUDA_VISIBLE_DEVICES hides all"
        fix = "unset CUDA_VISIBLE_DEVICES"
    elif driver:
        problem += f", but the driver reports: {driver[0]}"
        newer = "Install a newer driver, or a PyTorch for this one"
        fix = f"{newer}: https://pytorch.org/get-started/locally" if has_cuda else INSTALL
    status: Status = "skipped"
    if device != "auto":
        status = "failed"
    elif driver and not all_hidden:
        status = "warning"
    return Check("accelerators", "", status, problem, fix=fix)


def _has_cuda() -> bool:
    return bool(torch.version.cuda or torch.version.hip)


def _cuda_devices() -> tuple[str, list[dict[str, Any]]]:
    """Why there is no CUDA device, and the CUDA devices."""
    if not _has_cuda():
        return "this PyTorch is built without CUDA", []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        # PyTorch warns of a driver that is too old or fails.
        reason = first_line(caught[-1].message) if caught else ""
        reason = reason.removeprefix("CUDA initialization: ").partition(" (Triggered internally")[0]
        return f"PyTorch finds no CUDA device{reason and f': {reason}'}", []
    return "", [_cuda_device(index) for index in range(torch.cuda.device_count())]


def _cuda_device(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "device": f"cuda:{index}",
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
    }


def _mps_devices() -> tuple[str, list[dict[str, Any]]]:
    if torch.backends.mps.is_available():
        return "", [{"device": "mps", "name": "Apple GPU", "memory_bytes": None}]
    if not torch.backends.mps.is_built():
        return "this PyTorch is built without MPS", []
    return "PyTorch finds no MPS device", []


def _describe_devices(devices: list[dict[str, Any]], driver: list[str]) -> str:
    descriptions = []
    for device in devices:
        memory = f", {device['memory_bytes'] / 1e9:,.0f} GB" if device["memory_bytes"] else ""
        capability = f", CUDA {device['capability']}" if "capability" in device else ""
        descriptions.append(f"{device['device']} {device['name']}{memory}{capability}")
    version = driver[0].rpartition(", ")[2] if driver else ""  # "NVIDIA H100, 570.86.15"
    return "; ".join(descriptions) + (f"; driver {version}" if version else "")


def _nvidia_driver() -> list[str]:
    """Name and driver of every GPU that nvidia-smi knows, or its error message; one line each."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(  # noqa: S603 (the driver's tool, with fixed arguments)
            query, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [first_line(error)]
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def check_dataset(dataset: Dataset, data_dir: Path) -> Check:
    """Whether a data set's files are there and have the published checksums."""
    check = partial(Check, "data", dataset.name)
    command = download_command(dataset, data_dir)
    if not dataset.files:
        num = sum(len(load_dataset(dataset, split, data_dir)) for split in ("train", "test"))
        return check("ok", f"{num:,} images, in scikit-learn")
    files = verify_files(dataset, data_dir)
    facts = {"files": [{"name": file.path.name, "state": file.state} for file in files]}
    damaged = [file.path.name for file in files if file.state == "damaged"]
    missing = [file.path.name for file in files if file.state == "missing"]
    if damaged:
        return check("failed", f"damaged: {', '.join(damaged)}", fix=command, facts=facts)
    if not missing:
        return check("ok", f"complete, {len(files)} files verified", facts=facts)
    if len(missing) < len(files):
        finding = f"incomplete; missing: {', '.join(missing)}"
        return check("warning", finding, fix=command, facts=facts)
    # Only MNIST is needed by default.
    if dataset.name == "mnist":
        return check("warning", f"not in {data_dir}", fix=command, facts=facts)
    return check("skipped", f"not downloaded ({command})", facts=facts)


def check_data_directory(folder: Path) -> Check:
    """Whether data sets can be written; a directory with MNIST may be read-only."""
    needed = not has_all_files(get_dataset("mnist"), folder)
    return check_directory("data", folder, option="--data-dir", needed=needed)


def check_directory(subject: str, folder: Path, *, option: str, needed: bool = True) -> Check:
    """Whether a file can be written to a directory, read back, renamed and removed.

    Removes everything that it creates.

    Args:
        subject: "data" or "runs".
        folder: The directory, which need not exist.
        option: The option that chooses another one.
        needed: Whether anything must be written there.
    """
    created: list[Path] = []
    facts: dict[str, Any] = {"path": str(folder)}
    try:
        created = _create(folder)
        _write_and_remove(folder)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        finding = f"cannot be written: {folder}: {error.strerror or error}"
        fix = f"Choose another: {option} DIR" if needed else f"For other data sets: {option} DIR"
        status: Status = "failed" if needed else "warning"
        return Check("directory", subject, status, finding, fix=fix, facts=facts)
    finally:
        for directory in reversed(created):
            with suppress(OSError):
                directory.rmdir()
    facts["free_bytes"] = free_bytes
    finding = f"{folder} can be written, {free_bytes / 1e9:,.1f} GB free"
    if free_bytes < LOW_BYTES:
        fix = f"Free some space, or choose another: {option} DIR"
        return Check("directory", subject, "warning", finding, fix=fix, facts=facts)
    return Check("directory", subject, "ok", finding, facts=facts)


def _create(folder: Path) -> list[Path]:
    """Create `folder`; the directories that did not exist before, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _write_and_remove(folder: Path) -> None:
    """Write, rename, read and remove a file; raises OSError where any of it fails."""
    content = os.urandom(1024) * (WRITTEN_BYTES // 1024)
    written = folder / f".mnist-doctor-{os.getpid()}"
    renamed = written.with_suffix(".renamed")
    try:
        write_atomically(written, lambda handle: handle.write(content))
        written.rename(renamed)
        if renamed.read_bytes() != content:
            raise OSError(None, "a file's content changed on the disk")
    finally:
        written.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)
