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

from mnistcli import batches, datasets, distributed, engine, registry
from mnistcli.distributed import Workers
from mnistcli.errors import RunError
from mnistcli.settings import fit_budget, resolve
from mnistcli.state import TrainState

# Batch norm, augmentation, averaging, parts of unequal size, fewer to validate on than usual.
# Few channels: augmented pictures are float32, and Adam can make a step of a rounding in them.
CASES: list[dict[str, Any]] = [
    {"recipe": "cnn-small", "width": 18, "batch_size": 33, "label_smoothing": 0.1, "ema": 0.9},
    {"recipe": "cnn-26k", "optimizer": "sgd", "schedule": "onecycle", "augment": True},
    {"recipe": "ann", "hidden": [12, 9], "dropout": 0.0, "batch_size": 35},
    {"recipe": "cnn-deep", "channels": [4, 8], "dropout": 0.0, "batch_size": 50, "val_size": 7},
]


def losses_of(case: dict[str, Any], workers: Workers) -> list[list[float | None]]:
    """The training and validation losses and accuracies of two epochs on 200 digits."""
    flags = {"dataset": "digits", "epochs": 2, "precision": "float32", **case}
    settings = fit_budget(resolve(flags, environ={}).settings)
    examples = datasets.load(datasets.dataset("digits"), "train", Path())
    train, val = batches.split(examples.take(torch.arange(240)), settings.val_size, settings.seed)
    state = TrainState(
        settings, num_examples=len(train), device="cpu", precision="float32", workers=workers
    )
    how = batches.Normalisation(0.16, 0.3, {"ann": 64, "cnn-deep": 32}.get(settings.arch, 28))
    return [
        [epoch.train_loss, epoch.train_accuracy, epoch.val_loss, epoch.val_accuracy]
        for epoch in engine.fit(state, train, val, how)
    ]


def in_float64() -> None:
    """Let the engine have its pictures and networks in float64."""
    normalise, build = batches.normalise, registry.build

    def seen(images_NHW: Tensor, normalisation: batches.Normalisation) -> Tensor:
        return normalise(images_NHW, normalisation).double()

    def built(arch: str, model: Mapping[str, object]) -> nn.Module:
        return build(arch, model).double()

    vars(engine)["normalise"] = seen
    vars(registry)["build"] = built


def batch_norms(workers: Workers) -> list[float]:
    """The largest differences between batch norm here in parts and on the whole batch at once."""
    generator = torch.Generator().manual_seed(3)
    x_NCHW = 5 * torch.randn(11, 3, 4, 4, generator=generator, dtype=torch.float64) + 2
    wanted_NCHW = torch.randn(11, 3, 4, 4, generator=generator, dtype=torch.float64)
    whole, part = nn.BatchNorm2d(3).double(), nn.Sequential(nn.BatchNorm2d(3).double())
    distributed._share_batch_norm(part)
    mine = workers.share(11)

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
        (whole.weight.grad, workers.total(shared.weight.grad)),
        (whole.bias.grad, workers.total(shared.bias.grad)),
        (whole.running_mean, shared.running_mean),
        (whole.running_var, shared.running_var),
        (whole.eval()(x_NCHW), part.eval()(x_NCHW)),
    ]
    return [float((a - b).abs().max()) for a, b in pairs]


def bad_step(workers: Workers) -> str:
    """What is said where the last process alone has a bad loss in step 3, and all in step 4."""
    numbers, loss = itertools.count(1), engine._loss

    def bad(*args: Any) -> Tensor:
        is_bad = next(numbers) == 3 and workers.rank == workers.count - 1
        return loss(*args) * (math.nan if is_bad else 1)

    vars(engine)["_loss"] = bad
    try:
        losses_of({"recipe": "cnn-26k", "batch_size": 33}, workers)
    except RunError as error:
        return error.what
    finally:
        vars(engine)["_loss"] = loss
    return ""


def main() -> None:
    """Print the losses of every case, how batch norm differs, and where a loss was bad first."""
    in_float64()
    with distributed.joined() as workers:
        found = {
            "curves": [losses_of(case, workers) for case in CASES],
            "batch_norm": batch_norms(workers) if workers.count > 1 else [],
            "bad_step": bad_step(workers),
        }
        if workers.leads:
            sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
