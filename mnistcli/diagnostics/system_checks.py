"""What is on this machine: versions, processor, accelerators, data sets, room to write."""

import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mnistcli.data.datasets import DATASETS, Dataset, get_dataset, has_all_files, load_dataset
from mnistcli.data.download import verify_files
from mnistcli.diagnostics.checks import INSTALL, Check, Status, count_noun
from mnistcli.errors import first_line
from mnistcli.system.files import write_atomically
from mnistcli.system.machine import memory_bytes, num_cores
from mnistcli.version import __version__

# A file of this size is written: more than a run of any recipe but `ann` keeps.
WRITTEN_BYTES = 1 << 20
# Below this a download or some runs may fill the disk.
LOW_BYTES = 500 * 10**6
DRIVER_SECONDS = 20.0


def check_versions() -> Check:
    """Python, this package, PyTorch with what it was built for, torchvision."""
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
        finding = f"torchvision cannot be used: {problem} ({line})"
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
    """Why torchvision cannot be loaded: most often it was built for another PyTorch."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return first_line(error)
    return ""


def check_processor() -> Check:
    """The processor, the cores this process may use, its threads, the memory."""
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


def check_accelerators(wanted: str) -> Check:
    """The accelerators that PyTorch finds; if it finds none, why, as far as it is known.

    `wanted` is "auto", "cuda" or "mps".
    """
    found: list[dict[str, Any]] = []
    problems = []
    if wanted in ("auto", "cuda"):
        problem, found = _cuda_devices()
        problems.append(problem)
    if wanted == "mps" or (wanted == "auto" and sys.platform == "darwin"):
        problem, mps = _mps_devices()
        found += mps
        problems.append(problem)
    driver = _nvidia_driver() if wanted != "mps" else []
    kernels_for = torch.cuda.get_arch_list() if _has_cuda() else []
    facts = {"devices": found, "driver": driver, "kernels_for": kernels_for}
    if found:
        return Check("accelerators", "", "ok", _describe_devices(found, driver), facts=facts)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") if wanted != "mps" else None
    none = explain_no_accelerator(
        wanted, "; ".join(filter(None, problems)), driver, has_cuda=_has_cuda(), hidden=hidden
    )
    return replace(none, facts=facts)


def explain_no_accelerator(
    wanted: str, problem: str, driver: list[str], *, has_cuda: bool, hidden: str | None
) -> Check:
    """What it means that PyTorch finds no accelerator.

    `driver` is what the driver says of its GPUs, `hidden` what `CUDA_VISIBLE_DEVICES`
    is set to, and `has_cuda` whether this PyTorch is built for GPUs.
    """
    fix = "" if wanted == "auto" else "mnist doctor --device auto"
    if hidden:
        problem += f" (CUDA_VISIBLE_DEVICES is '{hidden}')"
    # Who hides every device means it; an accident is found here all the same.
    all_hidden = has_cuda and hidden in ("", "-1")
    if all_hidden:
        problem += ", since CUDA_VISIBLE_DEVICES hides all"
        fix = "unset CUDA_VISIBLE_DEVICES"
    elif driver:
        problem += f", but the driver says: {driver[0]}"
        newer = "Install a newer driver, or a PyTorch for this one"
        fix = f"{newer}: https://pytorch.org/get-started/locally" if has_cuda else INSTALL
    status: Status = "skipped"
    if wanted != "auto":
        status = "failed"
    elif driver and not all_hidden:
        status = "warning"
    return Check("accelerators", "", status, problem, fix=fix)


def _has_cuda() -> bool:
    return bool(torch.version.cuda or torch.version.hip)


def _cuda_devices() -> tuple[str, list[dict[str, Any]]]:
    """Why there is no CUDA device, and the devices there are."""
    if not _has_cuda():
        return "this PyTorch is built without CUDA", []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        # A driver that is too old, or fails, is said in a warning.
        said = first_line(caught[-1].message) if caught else ""  # type: ignore[arg-type]
        said = said.removeprefix("CUDA initialization: ").partition(" (Triggered internally")[0]
        return f"PyTorch finds no CUDA device{said and f': {said}'}", []
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


def _describe_devices(found: list[dict[str, Any]], driver: list[str]) -> str:
    words = []
    for each in found:
        memory = f", {each['memory_bytes'] / 1e9:,.0f} GB" if each["memory_bytes"] else ""
        capability = f", CUDA {each['capability']}" if "capability" in each else ""
        words.append(f"{each['device']} {each['name']}{memory}{capability}")
    version = driver[0].rpartition(", ")[2] if driver else ""  # "NVIDIA H100, 570.86.15"
    return "; ".join(words) + (f"; driver {version}" if version else "")


def _nvidia_driver() -> list[str]:
    """A line a GPU that NVIDIA's own tool knows, its name and the driver; or its complaint."""
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
    """Whether a data set is there, whole and the published one."""
    option = "" if dataset.name == "mnist" else f" --dataset {dataset.name}"
    command = f"mnist download{option}"
    if not dataset.files:
        num = sum(len(load_dataset(dataset, split, data_dir)) for split in ("train", "test"))
        return Check("data", dataset.name, "ok", f"{num:,} images, in scikit-learn")
    states = verify_files(dataset, data_dir)
    facts = {"files": [{"name": each.path.name, "state": each.state} for each in states]}
    damaged = [each.path.name for each in states if each.state == "damaged"]
    missing = [each.path.name for each in states if each.state == "missing"]
    if damaged:
        finding = f"damaged: {', '.join(damaged)}"
        return Check("data", dataset.name, "failed", finding, fix=command, facts=facts)
    if not missing:
        finding = f"whole, {len(states)} files verified"
        return Check("data", dataset.name, "ok", finding, facts=facts)
    if len(missing) < len(states):
        finding = f"not whole; missing: {', '.join(missing)}"
        return Check("data", dataset.name, "warning", finding, fix=command, facts=facts)
    # Only the one that the tool is named after is missed.
    if dataset.name == "mnist":
        finding = f"not in {data_dir}"
        return Check("data", dataset.name, "warning", finding, fix=command, facts=facts)
    return Check("data", dataset.name, "skipped", f"not here ({command})", facts=facts)


def check_data_directory(folder: Path) -> Check:
    """Whether data sets can be written; one that holds MNIST may be read-only."""
    needed = not has_all_files(get_dataset("mnist"), folder)
    return check_directory("data", folder, option="--data-dir", needed=needed)


def check_directory(kind: str, folder: Path, *, option: str, needed: bool = True) -> Check:
    """Whether a file can be written to `folder`, read back, renamed and removed.

    Leaves nothing behind. `needed` says whether anything is still to be written there.
    """
    made: list[Path] = []
    facts: dict[str, Any] = {"path": str(folder)}
    try:
        made = _make(folder)
        _write_and_remove(folder)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        finding = f"cannot be written: {folder}: {error.strerror or error}"
        fix = f"Choose another: {option} DIR" if needed else f"For other data sets: {option} DIR"
        status: Status = "failed" if needed else "warning"
        return Check("directory", kind, status, finding, fix=fix, facts=facts)
    finally:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir()
    facts["free_bytes"] = free_bytes
    finding = f"{folder} can be written, {free_bytes / 1e9:,.1f} GB free"
    if free_bytes < LOW_BYTES:
        fix = f"Make room, or choose another: {option} DIR"
        return Check("directory", kind, "warning", finding, fix=fix, facts=facts)
    return Check("directory", kind, "ok", finding, facts=facts)


def _make(folder: Path) -> list[Path]:
    """Make `folder`; the directories that were not there before, outermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _write_and_remove(folder: Path) -> None:
    """Write, rename, read and remove a file; raises OSError where one of it fails."""
    content = os.urandom(1024) * (WRITTEN_BYTES // 1024)
    written = folder / f".mnist-doctor-{os.getpid()}"
    renamed = written.with_suffix(".renamed")
    try:
        write_atomically(written, lambda handle: handle.write(content))
        written.rename(renamed)
        if renamed.read_bytes() != content:
            raise OSError(None, "what was written comes back changed")
    finally:
        written.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)


CheckFunction = Callable[[], Check]


def machine_checks(data_dir: Path, out: Path) -> Iterator[tuple[str, str, CheckFunction]]:
    """Name, subject and function of every check of the machine but its devices."""
    yield "versions", "", check_versions
    yield "processor", "", check_processor
    for dataset in DATASETS.values():
        yield "data", dataset.name, partial(check_dataset, dataset, data_dir)
    yield "directory", "data", partial(check_data_directory, data_dir)
    yield "directory", "runs", partial(check_directory, "runs", out, option="--out")
