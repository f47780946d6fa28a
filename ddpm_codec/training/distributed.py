"""One process, or several under ``torchrun``."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from ddpm_codec.errors import DdpmCodecError


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """Join the processes that ``torchrun`` started, if it did; yield (rank, world size).

    A process group that the caller has already joined is used, and left as it is.
    """
    if dist.is_initialized():
        yield dist.get_rank(), dist.get_world_size()
        return
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield 0, 1
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
        # A process that leaves while another still talks to it ends in an abort of its communication threads.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of ``values`` over all processes (each must call this); alone, ``values``."""
    if not dist.is_initialized():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of ``values`` over all processes (each must call this); alone, ``values``."""
    return sum_over_processes(values) / dist.get_world_size() if dist.is_initialized() else values


def gather(part: Tensor, rank: int, world: int) -> Tensor:
    """Return the values of a whole batch, given those of images rank, rank + world, ... (each process must call this)."""
    whole = torch.zeros(len(part) * world, dtype=torch.float64, device=part.device)
    whole[rank::world] = part.detach().double()
    return sum_over_processes(whole)


def same_everywhere(number: int, device: torch.device) -> bool:
    """Return whether all processes gave the same number (each must call this)."""
    if not dist.is_initialized():
        return True
    extremes = torch.tensor([number, -number], device=device)
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    return bool((extremes[0] == -extremes[1]).item())


def stopped_anywhere(stopped: bool, device: torch.device) -> bool:
    """Return whether any process gave True (each must call this)."""
    if not dist.is_initialized():
        return stopped
    any_stopped = torch.tensor(int(stopped), device=device)
    dist.all_reduce(any_stopped, dist.ReduceOp.MAX)
    return bool(any_stopped.item())


def decide_in_first(work: Callable[[], None], tensors: Iterable[Tensor]) -> None:
    """Do ``work`` in the first process, then copy its ``tensors`` to all processes (each must call this).

    Raises:
        DdpmCodecError: in every process, if ``work`` raises it.
    """
    problem: list[DdpmCodecError | None] = [None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            work()
        except DdpmCodecError as error:
            problem = [error]
    if dist.is_initialized():
        dist.broadcast_object_list(problem, src=0)
    if problem[0] is not None:
        raise problem[0]
    if dist.is_initialized():
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, src=0)
            tensor.detach().copy_(values)
