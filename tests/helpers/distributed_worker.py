"""What the processes of `test_distributed.py` compute: the leader prints one line of JSON.

Everything is computed in float64, so that one process and several must agree to many digits.
"""

import itertools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnistcli.config.resolve import fit_budget, resolve_settings
from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.data.normalization import Normalization, normalize
from mnistcli.data.splits import split_by_size
from mnistcli.errors import RunError
from mnistcli.models.registry import build_network
from mnistcli.training import engine
from mnistcli.training import state as state_module
from mnistcli.training.distributed import ProcessGroup, _synchronize_batch_norm, process_group
from mnistcli.training.engine import fit
from mnistcli.training.losses import batch_loss
from mnistcli.training.state import TrainState

# Batch norm, augmentation, averaging, parts of unequal size, fewer to validate on than usual.
# Few channels: augmented pictures are float32, and Adam can make a step of a rounding in them.
CASES: list[dict[str, Any]] = [
    {"recipe": "cnn-small", "width": 18, "batch_size": 33, "label_smoothing": 0.1, "ema": 0.9},
    {"recipe": "cnn-26k", "optimizer": "sgd", "schedule": "onecycle", "augment": True},
    {"recipe": "ann", "hidden": [12, 9], "dropout": 0.0, "batch_size": 35},
    {"recipe": "cnn-deep", "channels": [4, 8], "dropout": 0.0, "batch_size": 50, "val_size": 7},
]


def losses_of(case: dict[str, Any], group: ProcessGroup) -> list[list[float | None]]:
    """The training and validation losses and accuracies of two epochs on 200 digits."""
    flags = {"dataset": "digits", "epochs": 2, "precision": "float32", **case}
    settings = fit_budget(resolve_settings(flags, environ={}).settings)
    examples = load_dataset(get_dataset("digits"), "train", Path())
    train, val = split_by_size(examples.take(torch.arange(240)), settings.val_size, settings.seed)
    state = TrainState(
        settings, num_examples=len(train), device="cpu", precision="float32", group=group
    )
    how = Normalization(0.16, 0.3, {"ann": 64, "cnn-deep": 32}.get(settings.arch, 28))
    return [
        [epoch.train_loss, epoch.train_accuracy, epoch.val_loss, epoch.val_accuracy]
        for epoch in fit(state, train, val, how)
    ]


def in_float64() -> None:
    """Let the engine have its pictures and networks in float64."""
    original, build = normalize, build_network

    def seen(images_NHW: Tensor, normalization: Normalization) -> Tensor:
        return original(images_NHW, normalization).double()

    def built(arch: str, model: Mapping[str, object]) -> nn.Module:
        return build(arch, model).double()

    vars(engine)["normalize"] = seen
    vars(state_module)["build_network"] = built


def batch_norms(group: ProcessGroup) -> list[float]:
    """The largest differences between batch norm here in parts and on the whole batch at once."""
    generator = torch.Generator().manual_seed(3)
    x_NCHW = 5 * torch.randn(11, 3, 4, 4, generator=generator, dtype=torch.float64) + 2
    wanted_NCHW = torch.randn(11, 3, 4, 4, generator=generator, dtype=torch.float64)
    whole, part = nn.BatchNorm2d(3).double(), nn.Sequential(nn.BatchNorm2d(3).double())
    _synchronize_batch_norm(part)
    mine = group.shard(11)

    def gradient(layer: nn.Module, x: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        y = layer(x)
        (y * wanted).sum().backward()
        assert x.grad is not None
        return y.detach(), x.grad

    y, dx = gradient(whole, x_NCHW, wanted_NCHW)
    y_here, dx_here = gradient(part, x_NCHW[mine], wanted_NCHW[mine])
    shared: Any = part[0]
    pairs = [
        (y[mine], y_here),
        (dx[mine], dx_here),
        (whole.weight.grad, group.all_reduce_sum(shared.weight.grad)),
        (whole.bias.grad, group.all_reduce_sum(shared.bias.grad)),
        (whole.running_mean, shared.running_mean),
        (whole.running_var, shared.running_var),
        (whole.eval()(x_NCHW), part.eval()(x_NCHW)),
    ]
    return [float((a - b).abs().max()) for a, b in pairs]


def bad_step(group: ProcessGroup) -> str:
    """What is said where the last process alone has a bad loss in step 3, and all in step 4."""
    numbers, loss = itertools.count(1), batch_loss

    def bad(*args: Any) -> Tensor:
        is_bad = next(numbers) == 3 and group.rank == group.world_size - 1
        return loss(*args) * (math.nan if is_bad else 1)

    vars(engine)["_loss"] = bad
    try:
        losses_of({"recipe": "cnn-26k", "batch_size": 33}, group)
    except RunError as error:
        return error.what
    finally:
        vars(engine)["_loss"] = loss
    return ""


def main() -> None:
    """Print the losses of every case, how batch norm differs, and where a loss was bad first."""
    in_float64()
    with process_group() as group:
        found = {
            "curves": [losses_of(case, group) for case in CASES],
            "batch_norm": batch_norms(group) if group.world_size > 1 else [],
            "bad_step": bad_step(group),
        }
        if group.is_main:
            sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
