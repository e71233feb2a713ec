"""Several processes that fit one student, as torchrun starts them: each takes its share of every step, sums are added up.

No wrapper around the model: gradients that are sums over shares need one all-reduce, and second derivatives do not pass through
hooks made for first ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from hdistill.data.errors import HDistillError, InputError
from hdistill.data.labelsets.label_set import LabelSet
from hdistill.data.sharing.cache import ShardCache
from hdistill.data.sharing.remote import open_labels

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `count`, and among those of its machine, where its number is `local`; device is its own."""

    index: int = 0
    count: int = 1
    device: str = "cpu"
    local: int = 0

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

    def from_first(self, make: Callable[[], bytes]) -> bytes:
        """The bytes that `make` gives on the first rank, on all of them; only there is it called.

        Raises on the first what `make` raises, and HDistillError on the others.
        """
        if self.count == 1:
            return make()
        try:
            data = make() if self.first else b""
        except BaseException:
            self._broadcast(torch.tensor([-1]))
            raise
        size = int(self._broadcast(torch.tensor([len(data)])).item())
        if size < 0:
            raise HDistillError("The first rank stopped; its message says why.")
        if not size:
            return b""
        buffer = (
            torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.first else torch.zeros(size, dtype=torch.uint8)
        )
        return self._broadcast(buffer).numpy().tobytes()

    def _broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.to(self.device)
        dist.broadcast(tensor, 0)
        return tensor.cpu()

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
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise InputError(
                f"Rank {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
                "give torchrun that number as --nproc-per-node."
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, device, local)
    finally:
        dist.destroy_process_group()


def labels_of_all(place: Path | str, cache: ShardCache | None, ranks: Ranks) -> LabelSet:
    """The label set at a place, the same on all ranks. One process of each machine checks every byte, for the others too.

    Raises what open_labels raises, and InputError where ranks have different sets.
    """
    if ranks.local == 0:
        labels = open_labels(place, cache)
    ranks.wait()
    if ranks.local != 0:
        labels = open_labels(place, cache, check=False)
    first = ranks.from_first(labels.digest.encode).decode()
    if labels.digest != first:
        raise InputError(
            f"Rank {ranks.index} found another label set at {place} ({labels.digest[:12]}) than the first rank ({first[:12]}); "
            "give all ranks the same one."
        )
    return labels
