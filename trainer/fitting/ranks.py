"""Several processes that fit one student, as torchrun starts them: each takes its share of every step, sums are added up.

No wrapper around the model: gradients that are sums over shares need one all-reduce, and second derivatives do not pass through
hooks made for first ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from hdistill.data.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; device is its own."""

    index: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.index == 0

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """Every count-th of the things: all ranks together have each of them once."""
        return things[self.index :: self.count]

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1).double() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def mean(self, *values: float) -> list[float]:
        """The mean of each value over all ranks, the same on all of them."""
        if self.count == 1:
            return list(values)
        each = torch.tensor(values, dtype=torch.float64, device=self.device)
        self.add_up([each])
        return [float(x) for x in each / self.count]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            self.mean(0.0)


@contextmanager
def all_ranks(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or this process alone.

    gloo on CPUs, NCCL on GPUs, of which each rank takes the one with its local number. Raises InputError where there are fewer.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(device=device)
        return
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"Rank {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
                "give torchrun that number as --nproc-per-node."
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, device)
    finally:
        dist.destroy_process_group()
