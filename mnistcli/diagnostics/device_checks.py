"""What a device computes: kernels (with TF32), precisions, repeatability, a short training.

Shapes: N images, C channels, H rows, W columns.
"""

import functools
import math
import statistics
import time
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
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.examples import Examples
from mnistcli.data.normalization import Normalization, input_normalization, normalize
from mnistcli.diagnostics.checks import (
    INSTALL,
    Check,
    CheckEvents,
    CheckStart,
    Status,
    run_check,
)
from mnistcli.diagnostics.measurement import EPOCH_IMAGES
from mnistcli.errors import DeviceError, RunError, count_noun, first_line
from mnistcli.runs.history import EpochResult
from mnistcli.training.device import DTYPES, Choice, pick_precision
from mnistcli.training.engine import fit
from mnistcli.training.state import TrainState
from mnistcli.training.trainer import TrainingPlan, load_training_data, make_plan

# Largest error of a float32 result, as a share of the largest value. Rounding gives about
# 1e-6; TF32, which keeps 10 of 23 bits of each factor, about 3e-4.
TOLERANCE = 1e-4
TF32_TOLERANCE = 5e-3

# The short training: 8 epochs of 4 steps, in which the loss falls from 2.3 to about 0.7.
SHORT_TRAINING = {"recipe": "cnn-26k", "epochs": 8, "schedule": "constant", "lr": 0.003}
SHORT_IMAGES = 512
# The last loss must be below this share of the first; on a working device it is below a third.
MAX_LOSS_RATIO = 0.8

# The long training: the default recipe at a constant learning rate, stopped by the clock. Its
# accuracy is 95 % after 10 epochs; less than 80 % means that something computes wrong results.
LONG_TRAINING = {"recipe": DEFAULT_RECIPE, "epochs": 10_000, "schedule": "constant"}
MIN_ACCURACY = 0.8
MIN_EPOCHS = 10


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


def check_kernels(name: str) -> Check:
    """Compare a float32 matrix product and a convolution with its gradients to float64."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        errors = {
            kernel: _relative_error(
                compute(torch.device(name), torch.float32),
                compute(torch.device("cpu"), torch.float64),
            )
            for kernel, compute in (("matmul", _matmul), ("convolution", _convolution))
        }
    return assess_kernels(name, errors)


def assess_kernels(name: str, errors: dict[str, float]) -> Check:
    """The check for the kernels' relative errors: right, rounded like TF32, or wrong."""
    worst = max(errors, key=lambda kernel: errors[kernel])
    # JSON has no infinity.
    finite = {kernel: error if error < math.inf else None for kernel, error in errors.items()}
    facts = {"errors": finite, "tolerance": TOLERANCE}
    limit = f"limit {TOLERANCE:.0e}"
    # Comparisons with NaN are false, so that it fails.
    if all(error <= TOLERANCE for error in errors.values()):
        finding = f"{' and '.join(errors)} right to {errors[worst]:.0e} ({limit})"
        return Check("kernels", name, "ok", finding, facts=facts)
    if all(error <= TF32_TOLERANCE for error in errors.values()):
        finding = f"float32 is rounded like TF32: {worst} off by {errors[worst]:.0e} ({limit})"
        fix = "unset TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
        return Check("kernels", name, "warning", finding, fix=fix, facts=facts)
    wrong = next(kernel for kernel in errors if not errors[kernel] <= TF32_TOLERANCE)
    finding = f"wrong results: {wrong} off by {errors[wrong]:.0e} ({limit})"
    fix = "Use --device cpu; reinstall the driver and PyTorch"
    return Check("kernels", name, "failed", finding, fix=fix, facts=facts)


def _matmul(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    return [left.to(device, dtype) @ right.to(device, dtype)]


def _convolution(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """The result of a convolution, and the gradients of its input and kernels."""
    generator = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(8, 16, 28, 28, generator=generator).to(device, dtype).requires_grad_()
    kernels = torch.randn(32, 16, 3, 3, generator=generator).to(device, dtype).requires_grad_()
    result = F.conv2d(x_NCHW, kernels, padding=1)
    gradients = torch.autograd.grad(result.square().mean(), (x_NCHW, kernels))
    return [result.detach(), *gradients]


def _relative_error(results: list[Tensor], expected: list[Tensor]) -> float:
    """The largest error, as a share of the largest expected value."""
    return max(
        float((got.cpu().double() - want).abs().max().nan_to_num(torch.inf) / want.abs().max())
        for got, want in zip(results, expected, strict=True)
    )


@functools.cache
def _digits() -> Examples:
    return load_dataset(get_dataset("digits"), "train", Path())


def _digits_settings(training: dict[str, Any], **more: Any) -> TrainSettings:
    """Settings for the digits, independent of environment variables."""
    return fit_budget(
        resolve_settings({"dataset": "digits", **training, **more}, environ={}).settings
    )


def _normalization(settings: TrainSettings) -> Normalization:
    return input_normalization(get_dataset(settings.dataset), settings.arch)


def _train_briefly(name: str, precision: str) -> tuple[TrainState, list[EpochResult]]:
    """The short training, by the engine of `mnist train`."""
    settings = _digits_settings(SHORT_TRAINING)
    device = torch.device(name)
    examples = _digits().take(torch.arange(SHORT_IMAGES)).to(device)
    no_examples = examples.take(torch.arange(0, device=device))
    state = TrainState(
        settings, num_examples=len(examples), device=device.type, precision=precision
    )
    return state, list(fit(state, examples, no_examples, _normalization(settings)))


def check_precision(name: str, precision: str, auto: Choice) -> Check:
    """Whether the loss falls when this device trains in a precision; `auto` is auto's choice."""
    is_auto = precision == auto.value
    facts: dict[str, Any] = {"auto": is_auto}
    kind = torch.device(name).type
    no_learning = partial(
        Check, precision, name, "failed", fix=f"Use another --precision than {precision}"
    )
    try:
        pick_precision(precision, kind)
    except DeviceError as error:
        finding = f"not available: {error.why.rstrip('.')}"
        return Check(precision, name, "skipped", finding, facts=facts)
    try:
        state, epochs = _train_briefly(name, precision)
    except RunError as error:
        return no_learning(f"does not learn: {error.what.rstrip('.')}", facts=facts)
    except RuntimeError as error:
        if is_auto or _is_required(precision, kind, auto):
            raise
        finding = f"not available: {first_line(error)}"
        return Check(precision, name, "skipped", finding, facts=facts)
    first, last = epochs[0].train_loss, epochs[-1].train_loss
    num_steps = len(epochs) * steps_per_epoch(SHORT_IMAGES, state.settings.batch_size)
    facts |= {"first_loss": first, "last_loss": last}
    finding = f"loss {first:.2f} to {last:.2f} in {num_steps} steps"
    if last > MAX_LOSS_RATIO * first:
        return no_learning(f"does not learn: {finding}", facts=facts)
    if is_auto:
        finding += f"; auto picks it: {auto.reason}"
        facts["reason"] = auto.reason
    return Check(precision, name, "ok", finding, facts=facts)


def _is_required(precision: str, kind: str, auto: Choice) -> bool:
    """Whether devices of this kind must support the precision, so that an error is a failure.

    Every device has float32, every CUDA device float16, every CPU bfloat16 (at
    worst in software). Not every CUDA device or Apple GPU has bfloat16.
    """
    if precision == "bfloat16":
        return kind == "cpu" or auto.value == "bfloat16"
    return precision == "float32" or kind == "cuda"


def check_loss_scaling(name: str) -> Check:
    """Whether a step whose float16 gradients overflow is skipped, and the next is not."""
    device = torch.device(name)
    settings = _digits_settings(SHORT_TRAINING)
    examples = _digits().take(torch.arange(64)).to(device)
    state = TrainState(settings, num_examples=64, device=device.type, precision="float16")
    x_NCHW = normalize(examples.images_NHW, _normalization(settings))

    def step(factor: float) -> bool:
        """Make a step with the loss times `factor`; whether it changed a weight."""
        before = [weight.detach().clone() for weight in state.model.parameters()]
        with torch.autocast(device.type, state.dtype):
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
    scale = state.scaler.get_scale()
    # A scale that is still too large for this network is not an error: it is halved again.
    next_changed = any(step(1.0) for _ in range(10))
    facts = {"scale": scale}
    if overflow_changed or scale != 2.0**15 or not next_changed:
        problem = "is not skipped" if overflow_changed else "is not recovered from"
        finding = f"a step that overflows {problem} (scale {scale:g})"
        fix = "Use --precision float32 or bfloat16"
        return Check("loss scaling", name, "failed", finding, fix=fix, facts=facts)
    finding = f"a step that overflows is skipped, the scale halved to {scale:,.0f}"
    return Check("loss scaling", name, "ok", finding, facts=facts)


def check_repeatable(name: str, precision: str) -> Check:
    """Whether two short training runs end with the same bits."""
    states = [_train_briefly(name, precision)[0].model.state_dict() for _ in range(2)]
    pairs = zip(states[0].values(), states[1].values(), strict=True)
    same = all(torch.equal(first, second) for first, second in pairs)
    return assess_repeatable(name, precision, same=same)


def assess_repeatable(name: str, precision: str, *, same: bool) -> Check:
    """The check for two training runs that ended with the same bits, or did not."""
    facts = {"same_bits": same}
    if same:
        finding = f"yes: two training runs in {precision} are bitwise identical"
        return Check("repeatable", name, "ok", finding, facts=facts)
    # A GPU's order of additions may vary; a CPU's does not.
    status: Status = "failed" if name == "cpu" else "warning"
    finding = f"no: two training runs in {precision} differ"
    fix = "For bitwise reproducible results, train with --device cpu" if name != "cpu" else INSTALL
    return Check("repeatable", name, status, finding, fix=fix, facts=facts)


def check_training(device: str, seconds: float) -> Check:
    """Train the default recipe on the digits for at most some seconds, in whole epochs.

    Raises:
        DeviceError: the device does not work.
    """
    plan = make_plan(_digits_settings(LONG_TRAINING, device=device))
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
    """The check for the epochs of the training, with its speed."""
    accuracy = epochs[-1].val_accuracy or 0.0
    # The first epoch includes loading libraries.
    speed = statistics.median(epoch.images_per_second for epoch in epochs[1:] or epochs)
    recipe = get_recipe(plan.settings.recipe)
    full_seconds = int(str(recipe.training["epochs"])) * EPOCH_IMAGES / speed
    facts = {
        "device": plan.device.value,
        "device_reason": plan.device.reason,
        "precision": plan.precision.value,
        "precision_reason": plan.precision.reason,
        "images_per_second": speed,
        "num_epochs": len(epochs),
        "val_accuracy": accuracy,
        "seconds": seconds,
        "estimated_train_seconds": full_seconds,
    }
    finding = (
        f"{recipe.name} on {plan.device.value} in {plan.precision.value}: "
        f"validation accuracy {100 * accuracy:.1f} % after {count_noun(len(epochs), 'epoch')} "
        f"in {seconds:.1f} s; {speed:,.0f} images/s (mnist train: about {_duration(full_seconds)})"
    )
    if accuracy >= MIN_ACCURACY:
        return Check("training", "", "ok", finding, facts=facts)
    if len(epochs) < MIN_EPOCHS:
        finding += "; too few epochs to check the accuracy"
        longer = f"mnist doctor --seconds {max(10, round(seconds * 2 * MIN_EPOCHS / len(epochs)))}"
        return Check("training", "", "warning", finding, fix=longer, facts=facts)
    finding += f"; a working device reaches {100 * MIN_ACCURACY:.0f} %"
    fix = "mnist doctor --device cpu" if plan.device.value != "cpu" else INSTALL
    return Check("training", "", "failed", finding, fix=fix, facts=facts)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 90 else f"{seconds:,.0f} s"
