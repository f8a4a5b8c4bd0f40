"""The optimizers train as PyTorch's own do, without loading its compiler."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch._dynamo  # PyTorch's own optimizers load it; it makes its own cache directory
from torch import Tensor, nn

from mnistcli.config.choices import OptimizerName, values
from mnistcli.training.optim import OPTIMIZERS, _unwrap, build_optimizer, copy_state
from tests.helpers.paths import REPOSITORY
from tests.helpers.training import build_state, make_settings, some_digits, train_network

TORCH_OPTIMIZERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}

TRAIN_ALL = """
import sys
from mnistcli.config.choices import OptimizerName, ScheduleName, values
from tests.helpers.training import build_state, make_settings, some_digits, train_network

flags = {"batch_size": 4, "augment": True, "ema": 0.9}
combinations = [(name, "constant") for name in values(OptimizerName)]
combinations += [("sgd", name) for name in values(ScheduleName)]
for optimizer, schedule in combinations:
    settings = make_settings(**flags, optimizer=optimizer, schedule=schedule)
    state, _ = train_network(settings, some_digits(8), some_digits(8), precision="bfloat16")
    build_state(settings, 8).load_state_dict(state.state_dict())
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_training_does_not_load_the_compiler() -> None:
    command = [sys.executable, "-c", TRAIN_ALL]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert result.stdout == "False\n", result.stderr


def test_every_optimizer_of_the_settings_is_in_the_table() -> None:
    assert set(OPTIMIZERS) == set(values(OptimizerName)) == set(TORCH_OPTIMIZERS)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    return network.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_the_weights_are_those_of_pytorchs_optimizer(name: str) -> None:
    settings = make_settings(optimizer=name, lr=0.1, weight_decay=0.1)
    ours, theirs = small_network(), small_network()
    options = {"momentum": settings.momentum, "nesterov": True} if name == "sgd" else {}
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    torchs = TORCH_OPTIMIZERS[name](groups, lr=0.1, fused=True, **options)
    for network, optimizer in ((ours, build_optimizer(ours, settings)), (theirs, torchs)):
        for _ in range(5):
            optimizer.zero_grad()
            network(torch.ones(2, 1, 4, 4)).square().sum().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
    assert torch.is_grad_enabled()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_weight_decay_is_kept_off_biases_and_batch_norm(name: str) -> None:
    settings = make_settings(
        recipe="cnn-small", width=3, optimizer=name, weight_decay=0.25, lr=0.02
    )
    state = build_state(settings, 10)
    decayed, free = state.optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.25, 0)
    assert (decayed["lr"], free["lr"]) == (0.02, 0.02)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {1}
    grouped = [id(p) for p in (*decayed["params"], *free["params"])]
    assert sorted(grouped) == sorted(id(p) for p in state.model.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_sgd_keeps_its_momentum_under_every_schedule(momentum: float, schedule: str) -> None:
    settings = make_settings(optimizer="sgd", momentum=momentum, schedule=schedule, batch_size=16)
    state, _ = train_network(settings, some_digits(64))
    assert {group["momentum"] for group in state.optimizer.param_groups} == {momentum}
    assert {group["nesterov"] for group in state.optimizer.param_groups} == {momentum > 0}


def test_a_first_step_that_overflows_leaves_sgds_momentum_finite() -> None:
    """On a CPU: its fused kernel handles the scaler's overflow as CUDA's does."""
    settings = make_settings(recipe="mlp-nll-sgd", momentum=0.9, lr=0.01)
    garbage = [torch.full((1 << 16,), 7e37) for _ in range(50)]
    del garbage  # which uninitialized memory then consists of
    state = build_state(settings, 64)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (math.inf, 1.0):
        state.optimizer.zero_grad()
        loss = state.model(torch.ones(4, 1, 28, 28)).square().mean() * factor
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
    assert state.scaler.get_scale() == 512.0
    buffers = [tensors["momentum_buffer"] for tensors in state.optimizer.state.values()]
    assert len(buffers) == len(list(state.model.parameters()))
    assert all(
        tensor.detach().abs().max() < 1e3 for tensor in [*buffers, *state.model.parameters()]
    )


def test_a_copied_state_is_laid_out_as_its_parameters_are() -> None:
    """Fused steps walk through memory: an expanded tensor would take them beyond its end."""
    settings = make_settings()
    network = small_network()
    optimizer = build_optimizer(network, settings)
    parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    saved = {
        number: {
            "step": torch.ones(()),
            "exp_avg": torch.rand_like(parameter).contiguous(),
            "exp_avg_sq": torch.full((1,), 0.5).expand(parameter.shape),
        }
        for number, parameter in enumerate(parameters)
    }
    copied = copy_state(optimizer, saved)
    for number, parameter in enumerate(parameters):
        tensors = copied[number]
        assert tensors["exp_avg"].stride() == tensors["exp_avg_sq"].stride() == parameter.stride()
        assert torch.equal(tensors["exp_avg"], saved[number]["exp_avg"])
        assert tensors["exp_avg_sq"].untyped_storage().nbytes() == 4 * parameter.numel()


def test_an_unknown_wrapper_is_left_in_place() -> None:
    def wrapped() -> int:
        return 1

    def wrapper() -> int:
        return 2

    wrapper.__wrapped__ = wrapped  # type: ignore[attr-defined]
    assert _unwrap(wrapper) is wrapper
    assert _unwrap(len) is len
    assert _unwrap(torch.optim.Optimizer.zero_grad) is not torch.optim.Optimizer.zero_grad
