"""The optimisers train as PyTorch's own do, and its compiler is left alone."""

import subprocess
import sys
from itertools import product

import pytest
import torch
import torch._dynamo  # PyTorch's own optimisers load it; it makes its own cache directory
from torch import nn

from mnistcli.training import optim as optimizers
from mnistcli.training.optim import _unwrap

KINDS = ("SGD", "Adam", "AdamW")

TRAIN_ALL = """
import sys
import torch
from mnistcli.batches import Examples, Normalization
from mnistcli.engine import fit
from mnistcli.settings import resolve
from mnistcli.state import TrainState

examples = Examples(torch.zeros(8, 28, 28, dtype=torch.uint8), torch.arange(8))
flags = {"recipe": "mlp-50-50", "batch_size": 4, "epochs": 2, "augment": True, "ema": 0.9}
for optimizer in ("sgd", "adam", "adamw"):
    for schedule in ("onecycle", "cosine", "step", "plateau", "constant"):
        changes = flags | {"optimizer": optimizer, "schedule": schedule}
        settings = resolve(changes, environ={}).settings
        state, again = (
            TrainState(settings, num_examples=8, device="cpu", precision="bfloat16")
            for _ in range(2)
        )
        list(fit(state, examples, examples, Normalization(0.1, 0.3, 28)))
        again.load_state_dict(state.state_dict())
print("LOADED", "torch._dynamo" in sys.modules)
x = torch.rand(2, 1, 28, 28)
compiled = torch.compile(state.model, backend="eager")
print("COMPILED", torch.equal(compiled(x), state.model(x)), "torch._dynamo" in sys.modules)
"""


def test_training_loads_no_compiler_which_works_all_the_same() -> None:
    command = [sys.executable, "-c", TRAIN_ALL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["LOADED False", "COMPILED True True"], result.stderr


@pytest.mark.parametrize(("name", "decay"), [*product(KINDS, (0.0, 0.1))])
def test_the_weights_are_those_of_the_optimizer_of_pytorch(name: str, decay: float) -> None:
    kinds = getattr(optimizers, name), getattr(torch.optim, name)
    extra = {"momentum": 0.9, "nesterov": True} if name == "SGD" else {}
    ours, theirs = ([*map(torch.clone, stepped(kind, decay, **extra))] for kind in kinds)
    assert all(map(torch.equal, ours, theirs))


def stepped(kind: type[torch.optim.Optimizer], decay: float, **extra: object) -> nn.ParameterList:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (5,), (2, 1, 3, 3)]
    parameters = nn.ParameterList([torch.randn(each, generator=generator) for each in shapes])
    groups = [{"params": [each], "weight_decay": decay * each.ndim} for each in parameters]
    optimizer = kind(groups, lr=0.1, fused=True, **extra)  # type: ignore[call-arg, arg-type]
    for step in range(5):
        optimizer.zero_grad()
        torch.stack([(each**2).sum() * (step + 1) for each in parameters]).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    assert torch.is_grad_enabled()
    assert all(each.grad is not None for each in parameters)
    return parameters


def test_a_wrapper_that_is_not_known_stays() -> None:
    def wrapped() -> int:
        return 1

    def wrapper() -> int:
        return 2

    wrapper.__wrapped__ = wrapped  # type: ignore[attr-defined]
    assert _unwrap(wrapper) is wrapper
    assert _unwrap(len) is len
    assert _unwrap(torch.optim.Optimizer.zero_grad) is not (torch.optim.Optimizer.zero_grad)
