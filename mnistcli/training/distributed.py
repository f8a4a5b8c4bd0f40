"""Several processes that train one network together, as torchrun starts them.

Every process holds the whole network and all the examples, and draws the same
random batches; of each batch it computes its own share. PyTorch's
DistributedDataParallel averages the gradients, so that all take the same step.
The leader, process 0, alone writes and draws.
"""

import atexit
import gc
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel

from mnistcli.errors import DeviceError, RunError

T = TypeVar("T")

# How long a process waits for the others before it gives them up for lost.
TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training: this one's `rank` (0 leads) and how many there are."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this process is the one that writes and draws."""
        return self.rank == 0

    def shard(self, num: int) -> slice:
        """This process's part of `num` things in a row; the parts differ by one at most."""
        return slice(self.rank * num // self.world_size, (self.rank + 1) * num // self.world_size)

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """`model`, with gradients averaged over the processes and batch norm over all batches."""
        if self.world_size == 1:
            return model
        _synchronize_batch_norm(model)
        return DistributedDataParallel(model)

    def use_own_gpu(self, device: str) -> None:
        """Take this process's own GPU, if they train on "cuda".

        Raises:
            DeviceError: its machine has fewer GPUs than processes.
        """
        if self.world_size > 1 and device == "cuda":
            _use_gpu(int(os.environ.get("LOCAL_RANK", "0")))

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes, the same on each."""
        if self.world_size == 1:
            return values
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def broadcast_from_leader(self, make: Callable[[], T]) -> T:
        """What `make` returns on the leader, on every process; it is called there alone.

        What it raises goes on in the leader, and the others end quietly with
        its exit code, instead of waiting for ever.
        """
        if self.world_size == 1:
            return make()
        sent: list[Any] = [None]
        if self.is_leader:
            try:
                sent = [make()]
            except BaseException as error:
                dist.broadcast_object_list([_LeaderFailed(getattr(error, "exit_code", 1))])
                # Its threads must not be left at the end; until then, the others wait.
                atexit.register(dist.destroy_process_group)
                raise
        dist.broadcast_object_list(sent)
        if isinstance(sent[0], _LeaderFailed):
            # torchrun ends all once one has ended: not before the leader has said why.
            with suppress(RuntimeError):
                dist.broadcast_object_list([None])
            dist.destroy_process_group()
            sys.exit(sent[0].exit_code)
        made: T = sent[0]
        return made


SINGLE_PROCESS = ProcessGroup()


@dataclass(frozen=True)
class _LeaderFailed:
    exit_code: int


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """The processes that torchrun has started beside this one; ALONE where it has not.

    Raises:
        RunError: another process ended or fell silent.
    """
    # Other tools set one or the other of these too.
    told = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    if not told or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE_PROCESS
        return
    with translate_lost_process():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
        # Only here: after a failure it could wait for processes that are gone. A network that
        # was made parallel must be gone first, or its threads end the process by SIGABRT.
        gc.collect()
        dist.destroy_process_group()


def _use_gpu(place: int) -> None:
    num_gpus = torch.cuda.device_count()
    if place >= num_gpus:
        raise DeviceError(
            f"There is no GPU for process {place} of this machine.",
            why=f"It has {num_gpus}, and each process needs its own.",
            fix=f"Start fewer: torchrun --nproc-per-node {num_gpus}",
        )
    torch.cuda.set_device(place)


@contextmanager
def translate_lost_process(run: str = "last") -> Iterator[None]:
    """Say of a failed exchange between processes that one is gone, and how `run` goes on.

    Raises:
        RunError: another process ended or fell silent.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        # Not every backend has a class of its own for it.
        if not isinstance(error, dist.DistError) and not re.search(
            "gloo|nccl", text, re.IGNORECASE
        ):
            raise
        # Without the place in PyTorch's sources before the first sentence, and without the rest.
        said = re.sub(r"^\[[^]]*\] *", "", text.partition("\n")[0]).partition(". ")[0]
        raise RunError(
            "Another process of this training has ended or fallen silent.",
            why=f"PyTorch says: {said.rstrip('.')}.",
            fix="See above or on the other machines what ended it. "
            f"Then go on, with as many processes as you like: mnist train --resume {run}",
        ) from error


def _synchronize_batch_norm(model: nn.Module) -> None:
    """Let every batch norm of `model` look at the batches of all processes."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                shared = _SyncBatchNorm(child.num_features)
                # All that the layer is and holds, even where its scale is no parameter;
                # the layer itself is dropped.
                vars(shared).update(vars(child))
                setattr(parent, name, shared)


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 (of 1-d and 2-d alike)
    """Batch norm over the batches of all processes together (Ioffe, Szegedy 2015, algorithm 1).

    PyTorch's SyncBatchNorm does this for GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalised (N, C) or (N, C, H, W); in training it also moves the running statistics."""
        if not self.training:
            return super().forward(x)
        others = [axis for axis in range(x.ndim) if axis != 1]
        like_C = [1, -1, *[1] * (x.ndim - 2)]
        # Under autocast in float32, as the usual batch norm does it.
        wide = x.to(self.bias.dtype)
        ones = wide.new_full((1,), wide.numel() / wide.shape[1])
        sums = _AllReduceSum.apply(torch.cat([wide.sum(dim=others), ones]))
        num, mean_C = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = wide - mean_C.view(like_C)
        variance_C = _AllReduceSum.apply(centred.square().sum(dim=others)) / num
        self._remember(mean_C.detach(), variance_C.detach() * num / (num - 1))
        scale_C = (variance_C + self.eps).rsqrt()
        if self.weight is not None:
            scale_C = self.weight * scale_C
        normalized: Tensor = (centred * scale_C.view(like_C) + self.bias.view(like_C)).to(x.dtype)
        return normalized

    def _check_input_dim(self, _input: Tensor) -> None:
        """Nothing: the layer that this one stands for has been built for its input."""

    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)


class _AllReduceSum(Function):
    """The sum over the processes; what flows back is the sum of what they send back."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _AllReduceSum.forward(None, gradient.contiguous())
