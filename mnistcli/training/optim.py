"""The optimizers: how each is built, and the tensors it keeps for every parameter.

PyTorch wraps some methods of its optimizers for `torch.compile`, and the first call through
a wrapper imports `torch._dynamo`, which takes a second or two. No optimizer here is ever
compiled, so `build_optimizer` calls what is inside the wrappers. PyTorch itself is not
changed, and wrappers of an unknown kind are left in place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistcli.config.choices import OptimizerName
from mnistcli.config.settings import TrainSettings


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer of PyTorch's.

    `options` are its arguments besides the learning rate and the weight decay;
    `initial_state` are the tensors it keeps for a parameter, before the first step.
    """

    torch_class: type[Optimizer]
    options: Callable[[TrainSettings], dict[str, Any]]
    initial_state: Callable[[Tensor, TrainSettings], dict[str, Tensor]]


def _sgd_options(settings: TrainSettings) -> dict[str, Any]:
    return {"momentum": settings.momentum, "nesterov": settings.momentum > 0, "fused": True}


def _sgd_state(parameter: Tensor, settings: TrainSettings) -> dict[str, Tensor]:
    # If the scaled loss overflows in the first step, PyTorch leaves its own uninitialized.
    return {"momentum_buffer": torch.zeros_like(parameter)} if settings.momentum else {}


def _adam_options(_settings: TrainSettings) -> dict[str, Any]:
    return {"fused": True}


def _adam_state(parameter: Tensor, _settings: TrainSettings) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


OPTIMIZERS: dict[OptimizerName, OptimizerSpec] = {
    "sgd": OptimizerSpec(torch.optim.SGD, _sgd_options, _sgd_state),
    "adam": OptimizerSpec(torch.optim.Adam, _adam_options, _adam_state),
    "adamw": OptimizerSpec(torch.optim.AdamW, _adam_options, _adam_state),
}


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimizer of a network, with weight decay on weight matrices and kernels only.

    Decaying a bias or a batch-norm scale limits what the network can express and
    does not regularize it.
    """
    spec = OPTIMIZERS[settings.optimizer]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    build: Callable[..., Optimizer] = _without_compiler(spec.torch_class)
    optimizer = build(groups, lr=settings.lr, **spec.options(settings))
    for parameter in (*decayed, *free):
        if state := spec.initial_state(parameter.detach(), settings):
            optimizer.state[parameter] = state
    return optimizer


def copy_state(
    optimizer: Optimizer, saved: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, Tensor]]:
    """Copies of an optimizer's saved tensors, each laid out in memory as `optimizer`'s own are.

    `load_state_dict` checks neither names nor shapes, and PyTorch's fused steps would read
    and write beyond the end of a tensor that is too short.

    Args:
        optimizer: a new one.
        saved: the tensors by the number of their parameter and their name.

    Raises:
        ValueError: they are of another network or another optimizer.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = [optimizer.state[p] for p in parameters if p in optimizer.state]
    if sorted(saved) != list(range(len(expected))):
        raise ValueError(f"the optimizer has the state of {len(saved)} parameters")
    return {number: _copy_tensors(saved[number], expected[number]) for number in sorted(saved)}


def _copy_tensors(saved: Mapping[str, Any], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if saved.keys() != expected.keys():
        raise ValueError(f"the optimizer's state has {', '.join(map(str, saved))}")
    for name, tensor in expected.items():
        value = saved[name]
        if (value.shape, value.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"the optimizer's {name} is {value.dtype} {tuple(value.shape)}")
    return {name: torch.empty_like(expected[name]).copy_(saved[name]) for name in saved}


# The functions of PyTorch that wrap. The second one also switches gradients off for a step.
_WRAPPERS = ("_disable_dynamo", "_use_grad_for_differentiable")
_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _without_compiler(torch_class: type[Optimizer]) -> type[Optimizer]:
    methods = {name: _unwrap(getattr(torch_class, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(_unwrap(torch_class.step))
    return type(torch_class.__name__, (torch_class,), methods)


def _unwrap(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an optimizer without the wrappers that are meant for the compiler."""
    code, inside = (getattr(method, name, None) for name in ("__code__", "__wrapped__"))
    if not code or not inside or code.co_qualname.partition(".")[0] not in _WRAPPERS:
        return method
    return _unwrap(inside)
