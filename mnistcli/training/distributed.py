"""Training one network in several processes, started by torchrun.

Every process has the whole network and all the examples, and draws the same random
batches, but computes only its share of each. PyTorch's DistributedDataParallel (DDP)
averages the gradients, so that all processes take the same step. Only the main
process, rank 0, writes files and prints.
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

from mnistcli.errors import DeviceError, RunError, first_line

T = TypeVar("T")

# How long a process waits for the others before it takes them for lost.
TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class ProcessGroup:
    """A training's processes: `rank` is this one's, 0 that of the main process."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def shard(self, num: int) -> slice:
        """This process's share of `num` items; the shares' sizes differ by at most one."""
        return slice(self.rank * num // self.world_size, (self.rank + 1) * num // self.world_size)

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """`model` with gradients and batch-norm statistics over the batches of all processes."""
        if self.world_size == 1:
            return model
        _synchronize_batch_norm(model)
        return DistributedDataParallel(model)

    def use_own_gpu(self, device: str) -> None:
        """On "cuda", give every process of this machine a GPU of its own.

        Raises:
            DeviceError: the machine has fewer GPUs than processes.
        """
        if self.world_size > 1 and device == "cuda":
            _set_gpu(int(os.environ.get("LOCAL_RANK", "0")))

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes."""
        if self.world_size == 1:
            return values
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def broadcast_from_main(self, make: Callable[[], T]) -> T:
        """Call `make` in the main process only, and return its result in every process.

        If it raises, the error propagates in the main process, and the others exit
        silently with its exit code.
        """
        if self.world_size == 1:
            return make()
        message: list[Any] = [None]
        if self.is_main:
            try:
                message = [make()]
            except BaseException as error:
                dist.broadcast_object_list([_MainFailed(getattr(error, "exit_code", 1))])
                # Leftover threads would abort the exit; until then, the others wait.
                atexit.register(dist.destroy_process_group)
                raise
        dist.broadcast_object_list(message)
        if isinstance(message[0], _MainFailed):
            # torchrun ends all processes once one has ended, so wait for the main process:
            # it has not yet printed its error.
            with suppress(RuntimeError):
                dist.broadcast_object_list([None])
            dist.destroy_process_group()
            sys.exit(message[0].exit_code)
        result: T = message[0]
        return result


SINGLE_PROCESS = ProcessGroup()


@dataclass(frozen=True)
class _MainFailed:
    exit_code: int


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """The process group that torchrun has started, or SINGLE_PROCESS without torchrun.

    Raises:
        RunError: another process ended or stopped answering.
    """
    # Other tools set some of these variables too.
    variables = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    is_launched = all(name in os.environ for name in variables)
    if not is_launched or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE_PROCESS
        return
    with translate_lost_process():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
        # Not after a failure: it could wait for processes that are gone. A network wrapped by
        # DDP must be freed first, or its threads end the process by SIGABRT.
        gc.collect()
        dist.destroy_process_group()


def _set_gpu(local_rank: int) -> None:
    num_gpus = torch.cuda.device_count()
    if local_rank >= num_gpus:
        raise DeviceError(
            f"There is no GPU for process {local_rank} of this machine.",
            why=f"It has {num_gpus}, and each process needs its own.",
            fix=f"Start fewer processes: torchrun --nproc-per-node {num_gpus}",
        )
    torch.cuda.set_device(local_rank)


@contextmanager
def translate_lost_process(run: str = "last") -> Iterator[None]:
    """Raise RunError, which says how to resume `run`, if the connection to a process is lost.

    Raises:
        RunError: another process ended or stopped answering.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        # Not every backend has an exception class for it.
        if not isinstance(error, dist.DistError) and not re.search(
            "gloo|nccl", text, re.IGNORECASE
        ):
            raise
        # The first sentence, without the place in PyTorch's source code before it.
        sentence = re.sub(r"^\[[^]]*\] *", "", first_line(text)).partition(". ")[0]
        raise RunError(
            "Another process of this training has ended or stopped answering.",
            why=f"PyTorch reports: {sentence}.",
            fix="Its own error is above or on its machine. "
            f"Then resume, with any number of processes: mnist train --resume {run}",
        ) from error


def _synchronize_batch_norm(model: nn.Module) -> None:
    """Replace every batch norm of `model` by one over the batches of all processes."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                synchronized = _SyncBatchNorm(child.num_features)
                # All attributes of the layer too: its scale may not be a parameter.
                vars(synchronized).update(vars(child))
                setattr(parent, name, synchronized)


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 (for 1-d and 2-d)
    """Batch norm over the batches of all processes (Ioffe and Szegedy 2015, algorithm 1).

    PyTorch's SyncBatchNorm does this on GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C) or (N, C, H, W); training also updates the running statistics."""
        if not self.training:
            return super().forward(x)
        not_C = [axis for axis in range(x.ndim) if axis != 1]
        shape_C = [1, -1, *[1] * (x.ndim - 2)]
        # Under autocast in float32, like PyTorch's batch norm.
        full = x.to(self.bias.dtype)
        count = full.new_full((1,), full.numel() / full.shape[1])
        sums = _AllReduceSum.apply(torch.cat([full.sum(dim=not_C), count]))
        num, mean_C = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centered = full - mean_C.view(shape_C)
        variance_C = _AllReduceSum.apply(centered.square().sum(dim=not_C)) / num
        self._update_statistics(mean_C.detach(), variance_C.detach() * num / (num - 1))
        scale_C = (variance_C + self.eps).rsqrt()
        if self.weight is not None:
            scale_C = self.weight * scale_C
        y: Tensor = centered * scale_C.view(shape_C) + self.bias.view(shape_C)
        return y.to(x.dtype)

    def _check_input_dim(self, _input: Tensor) -> None:
        """Nothing to check: the replaced layer was built for its input."""

    def _update_statistics(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)


class _AllReduceSum(Function):
    """The sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _AllReduceSum.forward(None, gradient.contiguous())
