"""The computations of `test_distributed.py`; the main process prints one line of JSON.

Everything is computed in float64, so that one process and several must agree to many digits.
"""

import itertools
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.data.normalization import Normalization, normalize
from mnistcli.data.splits import split_by_size
from mnistcli.errors import RunError
from mnistcli.evaluation import inference
from mnistcli.models.registry import build_network
from mnistcli.training import engine
from mnistcli.training import state as state_module
from mnistcli.training.distributed import ProcessGroup, _synchronize_batch_norm, process_group
from mnistcli.training.engine import fit
from mnistcli.training.losses import batch_loss
from mnistcli.training.state import TrainState
from tests.helpers.training import digits_normalization, make_settings, some_digits

# Batch norm, augmentation, averaging, shares of unequal size, few images to validate on.
# Few channels: augmented images are float32, and Adam can make a step of a rounding in them.
CASES: list[dict[str, Any]] = [
    {"recipe": "cnn-small", "width": 18, "batch_size": 33, "label_smoothing": 0.1, "ema": 0.9},
    {"recipe": "cnn-26k", "optimizer": "sgd", "schedule": "onecycle", "augment": True},
    {"recipe": "cnn-26k", "optimizer": "sgd", "batch_norm": True, "augment": True},
    {"recipe": "ann", "hidden": [12, 9], "dropout": 0.0, "batch_size": 35},
    {"recipe": "cnn-deep", "channels": [4, 8], "dropout": 0.0, "batch_size": 50, "val_size": 7},
]


def train_case(case: dict[str, Any], group: ProcessGroup) -> list[list[float | None]]:
    """The training and validation losses and accuracies of two epochs on 240 digits."""
    settings = make_settings(**case)
    train, val = split_by_size(some_digits(240), settings.val_size, settings.seed)
    state = TrainState(
        settings, num_examples=len(train), device="cpu", precision="float32", group=group
    )
    return [
        [epoch.train_loss, epoch.train_accuracy, epoch.val_loss, epoch.val_accuracy]
        for epoch in fit(state, train, val, digits_normalization(settings))
    ]


def use_float64() -> None:
    """Train and evaluate networks in float64."""

    def normalize_double(images_NHW: Tensor, normalization: Normalization) -> Tensor:
        return normalize(images_NHW, normalization).double()

    def build_double(arch: str, network: Mapping[str, object]) -> nn.Module:
        return build_network(arch, network).double()

    for module in (engine, inference):
        vars(module)["normalize"] = normalize_double
    vars(state_module)["build_network"] = build_double


def batch_norm_differences(group: ProcessGroup) -> list[float]:
    """The largest differences between batch norm on shares and on the whole batch."""
    generator = torch.Generator().manual_seed(3)
    x_NCHW = 5 * torch.randn(11, 3, 4, 4, generator=generator, dtype=torch.float64) + 2
    weight_NCHW = torch.randn(11, 3, 4, 4, generator=generator, dtype=torch.float64)
    whole, shared = nn.BatchNorm2d(3).double(), nn.Sequential(nn.BatchNorm2d(3).double())
    _synchronize_batch_norm(shared)
    layer: Any = shared[0]
    shard = group.shard(11)

    def forward_backward(module: nn.Module, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        y = module(x)
        (y * weight).sum().backward()
        assert x.grad is not None
        return y.detach(), x.grad

    y, dx = forward_backward(whole, x_NCHW, weight_NCHW)
    y_shard, dx_shard = forward_backward(shared, x_NCHW[shard], weight_NCHW[shard])
    pairs = [
        (y[shard], y_shard),
        (dx[shard], dx_shard),
        (whole.weight.grad, group.all_reduce_sum(layer.weight.grad)),
        (whole.bias.grad, group.all_reduce_sum(layer.bias.grad)),
        (whole.running_mean, layer.running_mean),
        (whole.running_var, layer.running_var),
        (whole.eval()(x_NCHW), shared.eval()(x_NCHW)),
    ]
    return [float((a - b).abs().max()) for a, b in pairs]


def bad_step_message(group: ProcessGroup) -> str:
    """The error if only the last process has a NaN loss, in step 3 of the first epoch."""
    steps = itertools.count(1)

    def loss_with_nan(*args: Any) -> Tensor:
        is_bad = next(steps) == 3 and group.rank == group.world_size - 1
        return batch_loss(*args) * (math.nan if is_bad else 1)

    vars(engine)["batch_loss"] = loss_with_nan
    try:
        train_case({"recipe": "cnn-26k", "batch_size": 33}, group)
    except RunError as error:
        return error.what
    finally:
        vars(engine)["batch_loss"] = batch_loss
    return ""


def main() -> None:
    """Print the losses of every case, the differences of batch norm, and the bad step's error."""
    use_float64()
    with process_group() as group:
        record = {
            "curves": [train_case(case, group) for case in CASES],
            "batch_norm": batch_norm_differences(group) if group.world_size > 1 else [],
            "bad_step": bad_step_message(group),
        }
        if group.is_main:
            sys.stdout.write(json.dumps(record))
