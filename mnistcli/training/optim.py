"""PyTorch's optimisers, without the second or two in which they load its compiler.

Some of their methods are wrapped to mean something inside `torch.compile`,
where no optimiser of ours is ever called: a first call through a wrapper
imports `torch._dynamo`. These call what is inside. Nothing of PyTorch is changed, and
where a version wraps in another way, its wrappers stay.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistcli.config.settings import TrainSettings

OptimizerType = TypeVar("OptimizerType", bound=Optimizer)

# The functions in PyTorch that wrap. The second also switches gradients off, for a step.
_WRAPPERS = ("_disable_dynamo", "_use_grad_for_differentiable")
_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _unwrap(method: Callable[..., Any]) -> Callable[..., Any]:
    """What a method of an optimiser does, without the wrappers that are for the compiler."""
    code, inside = (getattr(method, name, None) for name in ("__code__", "__wrapped__"))
    if not code or not inside or code.co_qualname.partition(".")[0] not in _WRAPPERS:
        return method
    return _unwrap(inside)


def _without_compiler(kind: type[OptimizerType]) -> type[OptimizerType]:
    methods = {name: _unwrap(getattr(kind, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(_unwrap(kind.step))
    return cast("type[OptimizerType]", type(kind.__name__, (kind,), methods))


SGD = _without_compiler(torch.optim.SGD)
Adam = _without_compiler(torch.optim.Adam)
AdamW = _without_compiler(torch.optim.AdamW)


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimiser, with weight decay on weight matrices and kernels only.

    Decaying a bias or a batch-norm scale limits what the network can express
    and regularises nothing.
    """
    parameters = list(model.parameters())
    groups = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        momentum = settings.momentum
        sgd = SGD(groups, settings.lr, momentum, nesterov=momentum > 0, fused=True)
        if momentum:
            # PyTorch's own first step leaves it uninitialised where the scaled loss overflows.
            for parameter in parameters:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    if settings.optimizer == "adamw":
        return AdamW(groups, settings.lr, fused=True)
    return Adam(groups, settings.lr, fused=True)


def copy_moments(
    optimizer: Optimizer, saved: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, Tensor]]:
    """Copies of saved moments, each laid out in memory as its parameter is.

    PyTorch looks at neither names nor shapes, and its fused steps would read
    and write beyond the end.

    Raises:
        ValueError: they are of another network or another optimiser.
    """
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    is_sgd = isinstance(optimizer, torch.optim.SGD)
    names = {"momentum_buffer"} if is_sgd else {"step", "exp_avg", "exp_avg_sq"}
    remembers = not is_sgd or optimizer.defaults["momentum"] > 0
    if sorted(saved) != list(range(len(parameters) * remembers)):
        raise ValueError(f"the optimizer remembers {len(saved)} parameters")
    own: dict[int, dict[str, Tensor]] = {}
    for number, moments in saved.items():
        if set(moments) != names:
            raise ValueError(f"the optimizer remembers {', '.join(map(str, moments))}")
        own[number] = {
            name: _copy_with_layout(
                value, torch.zeros(()) if name == "step" else parameters[number]
            )
            for name, value in moments.items()
        }
    return own


def _copy_with_layout(value: Tensor, like: Tensor) -> Tensor:
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(f"a moment is {value.dtype} of the shape {tuple(value.shape)}")
    return torch.empty_like(like).copy_(value)
