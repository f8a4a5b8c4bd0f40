"""How fast a network is trained and evaluated, measured in a process of its own."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.batches import evaluation_batch_size
from mnistcli.data.datasets import get_dataset, has_all_files, resolve_data_dir
from mnistcli.data.examples import Examples
from mnistcli.diagnostics.bench import EPOCH_IMAGES, BenchCase, BenchOptions, MachineInfo
from mnistcli.diagnostics.system_checks import check_accelerators, check_processor, check_versions
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.system.machine import keep_freed_memory
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import TrainingPlan, load_training_data, make_plan

# Trains or evaluates so many images once; the seconds that it took.
TimedRun = Callable[[int], float]

# No more than `mnist eval` evaluates.
EVALUATED_IMAGES = 10_000
# A state goes on for ever here; all recipes are measured at the rate that they begin with.
MANY_EPOCHS = {"epochs": 10_000}
LATENCY_SAMPLES = 50


def prepare_worker(task: Mapping[str, Any]) -> dict[str, Any]:
    """The machine, and what is to be measured, for the fields of a `Wanted`.

    Raises what `settings.resolve` and `training.plan` raise.
    """
    wanted = BenchOptions(**task)
    plans: list[TrainingPlan] = []
    for pick in wanted.picks:
        for name in wanted.precisions:
            flags = {**pick, "precision": name}
            made = make_plan(resolve_settings(flags, environ=os.environ).settings)
            chosen = {"precision": made.precision.value, "device": made.device.value}
            made = replace(made, settings=made.settings.model_copy(update=chosen))
            # What auto takes may have been asked for.
            if made.settings not in [each.settings for each in plans]:
                plans.append(made)
    benches = [
        BenchCase(each.settings.model_dump(mode="json"), each.num_params, asdict(each.precision))
        for each in plans
    ]
    machine = _machine(plans[0], wanted.data_dir)
    return {"machine": asdict(machine), "benches": [asdict(each) for each in benches]}


def _machine(plan: TrainingPlan, data_dir: str | None) -> MachineInfo:
    device = plan.device.value
    on_gpu = check_accelerators(device).facts["devices"] if device != "cpu" else []
    return MachineInfo(
        versions=check_versions().facts,
        processor=check_processor().facts,
        accelerators=on_gpu,
        device=asdict(plan.device),
        pictures=_with_available_images(plan, _folder(data_dir))[1],
    )


def _folder(data_dir: str | None) -> Path:
    return resolve_data_dir(Path(data_dir) if data_dir else None, os.environ)


def _with_available_images(plan: TrainingPlan, folder: Path) -> tuple[TrainingPlan, str]:
    """The plan with a data set that is here, and what the pictures are, in words.

    What they show changes no speed, so that nothing need be downloaded.
    """
    name = plan.dataset.name
    if name != "digits" and has_all_files(plan.dataset, folder):
        return plan, f"{name}: {EPOCH_IMAGES:,} of its training images"
    instead = f" instead of {name}, which is not in {folder}" if name != "digits" else ""
    plan = replace(plan, dataset=get_dataset("digits"))
    return plan, f"digits, repeated up to {EPOCH_IMAGES:,} images{instead}"


def measure_case(task: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Measured`, its samples as lists, for `settings` and a `wanted`.

    Raises:
        RunError: the loss is no longer finite.
        DataError: the data set is damaged.
    """
    keep_freed_memory()
    wanted = BenchOptions(**task["wanted"])
    folder = _folder(wanted.data_dir)
    plan, _ = _with_available_images(
        make_plan(TrainSettings.model_validate(task["settings"])), folder
    )
    ours = _Engine(plan, folder)
    share = wanted.seconds / (wanted.repeats + 1)  # one is to warm up
    num_trained = sample_size(ours.train, ours.batch_size, share)
    at_once = evaluation_batch_size(ours.state.device)
    num_evaluated = sample_size(ours.evaluate, at_once, share, most=EVALUATED_IMAGES)
    ours.evaluate(num_evaluated)
    inference = [num_evaluated / ours.evaluate(num_evaluated) for _ in range(wanted.repeats)]
    latencies = [ours.evaluate(1) for _ in range(LATENCY_SAMPLES + 1)][1:]
    # Before the usual loop makes a network of its own. All that trains has trained once.
    peak_bytes = _peak_bytes(ours.state.device)

    runs: dict[str, TimedRun] = {"": ours.train}
    if wanted.reference:
        names = dict.fromkeys((plan.precision.value, "float32"))
        runs |= {name: _reference_run(ours, name, wanted) for name in names}
    slowest = [sample_size(run, ours.batch_size, share) for name, run in runs.items() if name]
    num_trained = min([num_trained, *slowest])
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(wanted.repeats + 1):
        for name, run in runs.items():
            speed = num_trained / run(num_trained)
            if turn:
                speeds[name].append(speed)
    training_speeds = speeds.pop("")
    return {
        "training": training_speeds,
        "inference": inference,
        "latency_seconds": latencies,
        "num_trained": num_trained,
        "num_evaluated": num_evaluated,
        "peak_bytes": peak_bytes,
        "usual": [
            {
                "precision": name,
                "training": theirs,
                "ratio": [a / b for a, b in zip(training_speeds, theirs, strict=True)],
            }
            for name, theirs in speeds.items()
        ],
    }


class _Engine:
    """A network that is trained and evaluated as `mnist train` and `mnist eval` do it."""

    def __init__(self, plan: TrainingPlan, folder: Path) -> None:
        examples, _ = load_training_data(plan, folder)
        repeated_N = torch.arange(EPOCH_IMAGES, device=examples.labels_N.device) % len(examples)
        self.plan = plan
        self.examples = examples.take(repeated_N)
        self.batch_size = min(plan.settings.batch_size, EPOCH_IMAGES)
        self.state = TrainState(
            plan.settings.model_copy(update=MANY_EPOCHS),
            num_examples=EPOCH_IMAGES,
            device=plan.device.value,
            precision=plan.precision.value,
        )

    def first(self, num: int) -> Examples:
        """The first `num` examples."""
        return Examples(self.examples.images_NHW[:num], self.examples.labels_N[:num])

    def train(self, num: int) -> float:
        """An epoch of `num` images."""
        epochs = fit(self.state, self.first(num), self.first(0), self.plan.normalization)
        return num / next(epochs).images_per_second

    def evaluate(self, num: int) -> float:
        """The probabilities of `num` images, on the CPU."""
        started = time.perf_counter()
        evaluate_network(self.state.eval_model, self.first(num), self.plan.normalization)
        return time.perf_counter() - started


def _reference_run(ours: _Engine, precision_name: str, wanted: BenchOptions) -> TimedRun:
    """The usual loop on the engine's examples."""
    # Here, because torchvision takes memory that is not the engine's.
    from mnistcli.diagnostics.reference_loop import ReferenceLoop, make_loader

    loop = ReferenceLoop(
        ours.plan.settings, device=ours.plan.device.value, precision=precision_name
    )
    loaders: dict[int, Any] = {}

    def run(num: int) -> float:
        if num not in loaders:
            loaders.clear()  # and with it the processes of the last
            loaders[num] = make_loader(
                ours.first(num).to(torch.device("cpu")),
                ours.plan.normalization,
                batch_size=ours.batch_size,
                num_processes=wanted.loader_processes,
            )
        started = time.perf_counter()
        loop.train(loaders[num])
        return time.perf_counter() - started

    return run


def sample_size(run: TimedRun, unit: int, seconds: float, *, most: int = EPOCH_IMAGES) -> int:
    """About as many images as `run` does in `seconds`, in whole units, 1 unit to `most` images.

    Found by trying more and more, which also loads and warms up what is used.
    """
    most = max(1, most // unit) * unit
    num = unit
    run(num)
    while True:
        wanted = num * seconds / run(num)
        if wanted < 4 * num or num == most:
            return max(1, int(min(wanted, most)) // unit) * unit
        num = min(4 * num, most)


def _peak_bytes(device: torch.device) -> int | None:
    """The peak of memory: of the device's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if device.type != "cpu":
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
