"""PyTorch's optimisers, without the second or two in which they load its compiler.

Some of their methods are wrapped to mean something inside `torch.compile`,
where no optimiser of ours is ever called: a first call through a wrapper
imports `torch._dynamo`. These call what is inside. Nothing of PyTorch is changed, and
where a version wraps in another way, its wrappers stay.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.optim import Optimizer

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
