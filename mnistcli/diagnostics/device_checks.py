"""What the devices really compute: kernels, number formats, repeatability, a short training.

Shapes: N images, C channels, H rows, W columns.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnistcli.config.recipes import DEFAULT_RECIPE, get_recipe
from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.config.settings import TrainSettings
from mnistcli.data.batches import steps_per_epoch
from mnistcli.data.datasets import get_dataset, load_dataset, resolve_data_dir
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.diagnostics.checks import (
    INSTALL,
    Check,
    DoctorOptions,
    OnStart,
    Status,
    Task,
    count_noun,
)
from mnistcli.diagnostics.system_checks import check_accelerators, machine_checks
from mnistcli.errors import DeviceError, MnistError, RunError, first_line
from mnistcli.models.registry import get_architecture
from mnistcli.runs.history import EpochResult
from mnistcli.training.device import DTYPES, Choice, pick_precision
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import TrainingPlan, load_training_data, make_plan

# Largest error of a float32 result, as a share of the largest value. Rounding gives some
# 1e-6; TF32, which keeps 10 of 23 bits of what is multiplied, some 3e-4.
TOLERANCE = 1e-4
TF32_TOLERANCE = 5e-3

# The short training: 8 epochs of 4 steps, from a loss of 2.3 to about 0.7.
SHORT_TRAINING = {"recipe": "cnn-26k", "epochs": 8, "schedule": "constant", "lr": 0.003}
SHORT_IMAGES = 512
# Its loss must end below this share of its first epoch's; it ends below a third.
MAX_LOSS_RATIO = 0.8

# The long one: the default recipe, at a rate that does not wait for an end. It is 95 % right
# after 10 epochs; less than 80 % means that something computes wrong.
LONG_TRAINING = {"recipe": DEFAULT_RECIPE, "epochs": 10_000, "schedule": "constant"}
MIN_ACCURACY = 0.8
MIN_EPOCHS = 10
# The images that `mnist train` would train on, of MNIST's 60,000.
TRAIN_IMAGES = 54_000


def check_device(name: str) -> CheckEvents:
    """The checks of a device ("cpu", "cuda:0", "mps"): kernels, precisions, repeatability."""
    kind = torch.device(name).type
    if kind == "cuda":
        # The engine knows "cuda" only, which is the current device.
        torch.cuda.set_device(name)
    kernels = yield from run_check("kernels", name, partial(check_kernels, name))
    if kernels.status == "failed":
        return
    # To probe the GPU for a precision may take a while.
    yield CheckStart("precisions", name)
    auto = pick_precision("auto", kind)
    for precision in DTYPES:
        yield from run_check(precision, name, partial(check_precision, name, precision, auto))
    if kind == "cuda":
        yield from run_check("loss scaling", name, partial(check_loss_scaling, name))
    yield from run_check("repeatable", name, partial(check_repeatable, name, auto.value))


def run_training_check(device: str, seconds: float) -> CheckEvents:
    """The check of a training, announced."""
    yield from run_check("training", "", partial(check_training, device, seconds))


def check_kernels(name: str) -> Check:
    """A matrix product and a convolution with its gradients, in float32, against float64."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        errors = {
            kernel: _error(run(torch.device(name), torch.float32), reference)
            for kernel, run in (("matmul", _matmul), ("convolution", _convolution))
            for reference in [run(torch.device("cpu"), torch.float64)]
        }
    return assess_kernels(name, errors)


def assess_kernels(name: str, errors: dict[str, float]) -> Check:
    """What the kernels' relative errors mean."""
    worst = max(errors, key=lambda kernel: errors[kernel])
    facts = {"errors": {kernel: _plain(error) for kernel, error in errors.items()}}
    facts["tolerance"] = TOLERANCE  # type: ignore[assignment]
    limit = f"limit {TOLERANCE:.0e}"
    # Written so that an error which is no number fails.
    if all(error <= TOLERANCE for error in errors.values()):
        finding = f"{' and '.join(errors)} right to {errors[worst]:.0e} ({limit})"
        return Check("kernels", name, "ok", finding, facts=facts)
    if all(error <= TF32_TOLERANCE for error in errors.values()):
        finding = f"float32 is rounded like TF32: {worst} off by {errors[worst]:.0e} ({limit})"
        fix = "unset TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
        return Check("kernels", name, "warning", finding, fix=fix, facts=facts)
    wrong = next(kernel for kernel in errors if not errors[kernel] <= TF32_TOLERANCE)
    finding = f"{wrong} computes wrong results: off by {errors[wrong]:.0e} ({limit})"
    fix = "Use --device cpu, and install the driver and PyTorch anew"
    return Check("kernels", name, "failed", finding, fix=fix, facts=facts)


def _plain(error: float) -> float | None:
    """JSON knows no infinity."""
    return error if error < float("inf") else None


def _matmul(target: torch.device, dtype: torch.dtype) -> list[Tensor]:
    drawing = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=drawing) for _ in range(2))
    return [left.to(target, dtype) @ right.to(target, dtype)]


def _convolution(target: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """The result of a convolution, and the gradients of input and kernels."""
    drawing = torch.Generator().manual_seed(0)
    drawn_NCHW = torch.randn(8, 16, 28, 28, generator=drawing)
    x_NCHW = drawn_NCHW.to(target, dtype).requires_grad_()
    kernels = torch.randn(32, 16, 3, 3, generator=drawing).to(target, dtype).requires_grad_()
    result = F.conv2d(x_NCHW, kernels, padding=1)
    gradients = torch.autograd.grad(result.square().mean(), (x_NCHW, kernels))
    return [result.detach(), *gradients]


def _error(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest error, as a share of the largest value that was wanted."""
    return max(
        float((mine.cpu().double() - right).abs().max().nan_to_num(torch.inf) / right.abs().max())
        for mine, right in zip(got, wanted, strict=True)
    )


@functools.cache
def _digits() -> Examples:
    return load_dataset(get_dataset("digits"), "train", Path())


def _settings(chosen: dict[str, Any], **more: Any) -> TrainSettings:
    """Settings for the digits, whatever the environment says."""
    return fit_budget(
        resolve_settings({"dataset": "digits", **chosen, **more}, environ={}).settings
    )


def _normalization(settings: TrainSettings) -> Normalization:
    source = get_dataset(settings.dataset)
    input_px = get_architecture(settings.arch).input_px
    return Normalization(source.mean, source.std, input_px)


def _short_training(name: str, number_format: str) -> tuple[TrainState, list[EpochResult]]:
    """The short training, the way that `mnist train` trains."""
    settings = _settings(SHORT_TRAINING)
    target = torch.device(name)
    examples = _digits().take(torch.arange(SHORT_IMAGES)).to(target)
    nothing = examples.take(torch.arange(0, device=target))
    state = TrainState(
        settings, num_examples=len(examples), device=target.type, precision=number_format
    )
    return state, list(fit(state, examples, nothing, _normalization(settings)))


def check_number_format(name: str, wanted: str, auto: Choice) -> Check:
    """Whether the loss falls when this device trains in the format called `wanted`."""
    is_auto = wanted == auto.value
    facts: dict[str, Any] = {"auto": is_auto}
    kind = torch.device(name).type
    try:
        pick_precision(wanted, kind)
    except DeviceError as error:
        finding = f"not available: {error.why.rstrip('.')}"
        return Check(wanted, name, "skipped", finding, facts=facts)
    try:
        state, epochs = _short_training(name, wanted)
    except RunError as error:
        finding = f"does not learn: {error.what.rstrip('.')}"
        return Check(
            wanted, name, "failed", finding, fix=_use_another_precision(wanted), facts=facts
        )
    except RuntimeError as error:
        if is_auto or is_required_format(wanted, kind, auto):
            raise
        return Check(wanted, name, "skipped", f"not available: {first_line(error)}", facts=facts)
    first, last = epochs[0].train_loss, epochs[-1].train_loss
    num_steps = len(epochs) * steps_per_epoch(SHORT_IMAGES, state.settings.batch_size)
    facts |= {"first_loss": first, "last_loss": last}
    finding = f"loss {first:.2f} to {last:.2f} in {num_steps} steps"
    if last > MAX_LOSS_RATIO * first:
        finding = f"does not learn: {finding}"
        return Check(
            wanted, name, "failed", finding, fix=_use_another_precision(wanted), facts=facts
        )
    if is_auto:
        finding += f"; auto picks it: {auto.reason}"
        facts["reason"] = auto.reason
    return Check(wanted, name, "ok", finding, facts=facts)


def _use_another_precision(number_format: str) -> str:
    return f"Use another --precision than {number_format}"


def is_required_format(wanted: str, kind: str, auto: Choice) -> bool:
    """Whether a device of this kind must have the format: where not, an error is no failure.

    Every device has float32, every CUDA device float16, every CPU bfloat16 (in
    software if need be). Not every CUDA device or Apple GPU has bfloat16.
    """
    if wanted == "bfloat16":
        return kind == "cpu" or auto.value == "bfloat16"
    return wanted == "float32" or kind == "cuda"


def check_loss_scaling(name: str) -> Check:
    """Whether a step whose float16 gradients overflow is skipped, and the next is not."""
    target = torch.device(name)
    settings = _settings(SHORT_TRAINING)
    examples = _digits().take(torch.arange(64)).to(target)
    state = TrainState(settings, num_examples=64, device=target.type, precision="float16")
    x_NCHW = normalize(examples.images_NHW, _normalization(settings))

    def step(factor: float) -> bool:
        """Make a step with the loss times `factor`; whether it changed a weight."""
        before = [weight.detach().clone() for weight in state.model.parameters()]
        with torch.autocast(target.type, state.dtype):
            logits_NK = state.model(x_NCHW)
        loss = F.cross_entropy(logits_NK.float(), examples.labels_N)
        state.optimizer.zero_grad()
        state.scaler.scale(loss * factor).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        after = state.model.parameters()
        return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

    # Finite in float32, far above the largest float16 number (65,504).
    overflow_changed = step(1e25)
    halved = state.scaler.get_scale()
    # A scale that is still too large for this network is no error: it is halved again.
    next_changed = any(step(1.0) for _ in range(10))
    facts = {"scale": halved}
    if overflow_changed or halved != 2.0**15 or not next_changed:
        what = "is not skipped" if overflow_changed else "is not recovered from"
        finding = f"a step that overflows {what} (scale {halved:g})"
        fix = "Use --precision float32 or bfloat16"
        return Check("loss scaling", name, "failed", finding, fix=fix, facts=facts)
    finding = f"a step that overflows is skipped, the scale halved to {halved:,.0f}"
    return Check("loss scaling", name, "ok", finding, facts=facts)


def check_repeatable(name: str, number_format: str) -> Check:
    """Whether the same short training gives the same bits again."""
    states = [_short_training(name, number_format)[0].model.state_dict() for _ in range(2)]
    pairs = zip(states[0].values(), states[1].values(), strict=True)
    same = all(torch.equal(first, second) for first, second in pairs)
    return assess_repeatable(name, number_format, same=same)


def assess_repeatable(name: str, number_format: str, *, same: bool) -> Check:
    """What it means that a training gives the same bits again or not."""
    facts = {"same_bits": same}
    if same:
        finding = f"yes: trained twice in {number_format}, the same bits"
        return Check("repeatable", name, "ok", finding, facts=facts)
    # A GPU adds in an order of its own; a processor does not.
    status: Status = "failed" if name == "cpu" else "warning"
    finding = f"no: trained twice in {number_format}, other bits"
    fix = "Where every bit matters, train with --device cpu" if name != "cpu" else INSTALL
    return Check("repeatable", name, status, finding, fix=fix, facts=facts)


def check_training(wanted: str, seconds: float) -> Check:
    """Train the default recipe on the digits for at most some seconds, epochs being whole.

    Raises:
        DeviceError: the device that is wanted does not work.
    """
    plan = make_plan(_settings(LONG_TRAINING, device=wanted))
    examples, val = load_training_data(plan, Path())
    state = TrainState(
        plan.settings,
        num_examples=len(examples),
        device=plan.device.value,
        precision=plan.precision.value,
    )
    epochs: list[EpochResult] = []
    started = time.perf_counter()
    for epoch in fit(state, examples, val, plan.normalization):
        epochs.append(epoch)
        if time.perf_counter() - started + epoch.seconds > seconds:
            break
    return assess_training(plan, epochs, time.perf_counter() - started)


def assess_training(plan: TrainingPlan, epochs: list[EpochResult], seconds: float) -> Check:
    """What the epochs of the training mean."""
    accuracy = epochs[-1].val_accuracy or 0.0
    # The first epoch also waits for libraries.
    speed = statistics.median(epoch.images_per_second for epoch in epochs[1:] or epochs)
    recipe = get_recipe(plan.settings.recipe)
    whole_seconds = int(str(recipe.training["epochs"])) * TRAIN_IMAGES / speed
    facts = {
        "device": plan.device.value,
        "device_reason": plan.device.reason,
        "precision": plan.precision.value,
        "precision_reason": plan.precision.reason,
        "images_per_second": speed,
        "num_epochs": len(epochs),
        "val_accuracy": accuracy,
        "seconds": seconds,
        "estimated_train_seconds": whole_seconds,
    }
    reached = f"{100 * accuracy:.1f} % of held-out digits right"
    finding = (
        f"{recipe.name} on {plan.device.value} in {plan.precision.value}: "
        f"{reached} after {count_noun(len(epochs), 'epoch')} in {seconds:.1f} s; "
        f"{speed:,.0f} images/s (mnist train: about {_duration(whole_seconds)})"
    )
    if accuracy >= MIN_ACCURACY:
        return Check("training", "", "ok", finding, facts=facts)
    if len(epochs) < MIN_EPOCHS:
        finding += "; too few epochs to judge the accuracy"
        longer = f"mnist doctor --seconds {max(10, round(seconds * 2 * MIN_EPOCHS / len(epochs)))}"
        return Check("training", "", "warning", finding, fix=longer, facts=facts)
    finding += f"; at least {100 * MIN_ACCURACY:.0f} % is right where nothing is wrong"
    fix = "mnist doctor --device cpu" if plan.device.value != "cpu" else INSTALL
    return Check("training", "", "failed", finding, fix=fix, facts=facts)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 90 else f"{seconds:,.0f} s"
