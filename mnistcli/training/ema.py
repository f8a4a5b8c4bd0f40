"""The exponential moving average (EMA) of a network's weights."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WeightEMA:
    """An exponential moving average of a network's weights.

    Batch norm's statistics are copied. They are averages already, and averaging them again makes
    the first epochs' validation accuracy worse and the last ones' no better. After augmentation
    the engine recomputes them.

    The decay starts low and reaches its value within about 10 / (1 - decay) steps, so
    that the random initial weights are soon forgotten and short runs have a useful
    average too. The engine calls `update` after every step; `module` is the averaged network.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay = decay
        self._num_updates = 0
        # Gathered once: walking through the network after each of thousands of short steps
        # takes as long as averaging.
        self._averages: list[Tensor] = list(self.module.parameters())
        self._live: list[Tensor] = list(model.parameters())
        self._copies, self._live_buffers = list(self.module.buffers()), list(model.buffers())

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's present weights."""
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        # The first update copies the weights.
        weight = 1 - decay if self._num_updates else 1.0
        torch._foreach_lerp_(self._averages, self._live, weight)
        for copied, live in zip(self._copies, self._live_buffers, strict=True):
            copied.copy_(live)
        self._num_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that `update` changes; the tensors are the live ones."""
        return {"num_updates": self._num_updates, "average": self.module.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; raises as PyTorch does for another network's."""
        self._num_updates = int(saved["num_updates"])
        if self._num_updates < 0:
            raise ValueError("the average has a negative number of updates")
        self.module.load_state_dict(saved["average"])
