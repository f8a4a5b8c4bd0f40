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

Kind = TypeVar("Kind", bound=Optimizer)

# The functions in PyTorch that wrap. The second also switches gradients off, for a step.
_WRAPPERS = ("_disable_dynamo", "_use_grad_for_differentiable")
_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _inside(method: Callable[..., Any]) -> Callable[..., Any]:
    """What a method of an optimiser does, without the wrappers that are for the compiler."""
    code, inside = (getattr(method, name, None) for name in ("__code__", "__wrapped__"))
    if not code or not inside or code.co_qualname.partition(".")[0] not in _WRAPPERS:
        return method
    return _inside(inside)


def _light(kind: type[Kind]) -> type[Kind]:
    methods = {name: _inside(getattr(kind, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(_inside(kind.step))
    return cast("type[Kind]", type(kind.__name__, (kind,), methods))


SGD = _light(torch.optim.SGD)
Adam = _light(torch.optim.Adam)
AdamW = _light(torch.optim.AdamW)
