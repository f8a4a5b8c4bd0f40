"""How fast a network is trained and evaluated, and its peak memory, measured in this process."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from mnistcli.config.resolve import resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.batches import evaluation_batch_size
from mnistcli.data.datasets import get_dataset, has_all_files, resolve_data_dir
from mnistcli.data.examples import Examples
from mnistcli.diagnostics.measurement import (
    EPOCH_IMAGES,
    BenchCase,
    BenchOptions,
    MachineInfo,
    Measurement,
    ReferenceMeasurement,
    Samples,
)
from mnistcli.diagnostics.system_checks import check_accelerators, check_processor, check_versions
from mnistcli.evaluation.inference import evaluate_network
from mnistcli.system.machine import keep_freed_memory
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import TrainingPlan, load_training_data, make_plan

# Trains or evaluates a number of images, and returns the seconds that it took.
TimedRun = Callable[[int], float]

# The images that `mnist eval` evaluates.
TEST_IMAGES = 10_000
# More than a measurement trains, so that the learning-rate schedule hardly moves.
MANY_EPOCHS = {"epochs": 10_000}
LATENCY_SAMPLES = 50


def prepare_cases(options: BenchOptions) -> tuple[MachineInfo, list[BenchCase]]:
    """The machine, and the cases to measure.

    Raises what `resolve_settings` and `make_plan` raise.
    """
    plans: list[TrainingPlan] = []
    for network in options.networks:
        for precision in options.precisions:
            flags = {**network, "precision": precision}
            plan = make_plan(resolve_settings(flags, environ=os.environ).settings)
            resolved = {"precision": plan.precision.value, "device": plan.device.value}
            plan = replace(plan, settings=plan.settings.model_copy(update=resolved))
            # The precision that auto picks may also be in the list.
            if plan.settings not in [other.settings for other in plans]:
                plans.append(plan)
    cases = [
        BenchCase(plan.settings.model_dump(mode="json"), plan.num_params, asdict(plan.precision))
        for plan in plans
    ]
    return _describe_machine(plans[0], resolve_data_dir(options.data_dir, os.environ)), cases


def _describe_machine(plan: TrainingPlan, data_dir: Path) -> MachineInfo:
    device = plan.device.value
    return MachineInfo(
        versions=check_versions().facts,
        processor=check_processor().facts,
        accelerators=check_accelerators(device).facts["devices"] if device != "cpu" else [],
        device=asdict(plan.device),
        images=_with_available_images(plan, data_dir)[1],
    )


def _with_available_images(plan: TrainingPlan, data_dir: Path) -> tuple[TrainingPlan, str]:
    """The plan with a data set that needs no download, and a description of its images.

    The speed does not depend on what they show.
    """
    name = plan.dataset.name
    if name != "digits" and has_all_files(plan.dataset, data_dir):
        return plan, f"{name}: {EPOCH_IMAGES:,} of its training images"
    instead = f" instead of {name}, which is not in {data_dir}" if name != "digits" else ""
    plan = replace(plan, dataset=get_dataset("digits"))
    return plan, f"digits, repeated up to {EPOCH_IMAGES:,} images{instead}"


def measure_case(case: BenchCase, options: BenchOptions) -> Measurement:
    """Measure one network in one precision.

    Raises:
        RunError: the loss is no longer finite.
        DataError: the data set is damaged.
    """
    keep_freed_memory()
    data_dir = resolve_data_dir(options.data_dir, os.environ)
    plan = make_plan(TrainSettings.model_validate(case.settings))
    engine = _Engine(_with_available_images(plan, data_dir)[0], data_dir)
    seconds = options.seconds / (options.repeats + 1)  # a sample's; one is to warm up
    num_trained = sample_size(engine.train, engine.batch_size, seconds)
    batch_size = evaluation_batch_size(engine.state.device)
    num_evaluated = sample_size(engine.evaluate, batch_size, seconds, most=TEST_IMAGES)
    engine.evaluate(num_evaluated)
    inference = [num_evaluated / engine.evaluate(num_evaluated) for _ in range(options.repeats)]
    latencies = [engine.evaluate(1) for _ in range(LATENCY_SAMPLES + 1)][1:]
    # After the engine trained and evaluated, before the reference loop makes its own network.
    peak_bytes = _peak_memory_bytes(engine.state.device)

    loops: dict[str, TimedRun] = {}
    if options.reference:
        precisions = dict.fromkeys((plan.precision.value, "float32"))
        loops = {name: _reference_loop(engine, name, options) for name in precisions}
    sizes = [sample_size(loop, engine.batch_size, seconds) for loop in loops.values()]
    num_trained = min([num_trained, *sizes])
    training, *loop_speeds = _take_turns(
        [engine.train, *loops.values()], num_trained, options.repeats
    )
    return Measurement(
        training=Samples(training),
        inference=Samples(tuple(inference)),
        latency_seconds=Samples(tuple(latencies)),
        num_trained=num_trained,
        num_evaluated=num_evaluated,
        peak_bytes=peak_bytes,
        reference=tuple(
            ReferenceMeasurement(
                precision,
                training=Samples(speeds),
                ratio=Samples(tuple(a / b for a, b in zip(training, speeds, strict=True))),
            )
            for precision, speeds in zip(loops, loop_speeds, strict=True)
        ),
    )


def _take_turns(runs: list[TimedRun], num: int, repeats: int) -> list[tuple[float, ...]]:
    """The images per second of each run with `num` images, without a first turn to warm up."""
    turns = [[num / run(num) for run in runs] for _ in range(repeats + 1)]
    return list(zip(*turns[1:], strict=True))


class _Engine:
    """A network that is trained and evaluated as `mnist train` and `mnist eval` do it."""

    def __init__(self, plan: TrainingPlan, data_dir: Path) -> None:
        examples, _ = load_training_data(plan, data_dir)
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
        """Train an epoch of `num` images; the seconds that it took."""
        epochs = fit(self.state, self.first(num), self.first(0), self.plan.normalization)
        return num / next(epochs).images_per_second

    def evaluate(self, num: int) -> float:
        """Predict the probabilities of `num` images, copied to the CPU; the seconds it took."""
        started = time.perf_counter()
        evaluate_network(self.state.eval_model, self.first(num), self.plan.normalization)
        return time.perf_counter() - started


def _reference_loop(engine: _Engine, precision: str, options: BenchOptions) -> TimedRun:
    """The reference loop on the engine's examples."""
    # Not before the peak memory is read, because torchvision takes memory too.
    from mnistcli.diagnostics.reference_loop import ReferenceLoop, make_loader

    plan = engine.plan
    loop = ReferenceLoop(plan.settings, device=plan.device.value, precision=precision)
    loaders: dict[int, Any] = {}

    def run(num: int) -> float:
        if num not in loaders:
            loaders.clear()  # which ends the processes of the last one
            loaders[num] = make_loader(
                engine.first(num).to(torch.device("cpu")),
                plan.normalization,
                batch_size=engine.batch_size,
                num_processes=options.loader_processes,
            )
        started = time.perf_counter()
        loop.train(loaders[num])
        return time.perf_counter() - started

    return run


def sample_size(run: TimedRun, unit: int, seconds: float, *, most: int = EPOCH_IMAGES) -> int:
    """The images that `run` processes in about `seconds`: a multiple of `unit`, at most `most`.

    Found with growing numbers of images, which also loads and warms up everything.
    """
    most = max(1, most // unit) * unit
    num = unit
    run(num)
    while True:
        estimate = num * seconds / run(num)
        if estimate < 4 * num or num == most:
            return max(1, int(min(estimate, most)) // unit) * unit
        num = min(4 * num, most)


def _peak_memory_bytes(device: torch.device) -> int | None:
    """The peak memory of a CUDA device's tensors, or of this process on a CPU; None: unknown."""
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
