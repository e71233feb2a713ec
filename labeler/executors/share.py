"""One share of a plan, for one task of a job array: no network, no scheduler outside of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdistill.data.errors import InputError

from ..work.chunk import Receipt
from .in_process import InProcess
from .pool import TeacherPool


@dataclass(frozen=True)
class Share:
    """The k-th of n shares of a plan's chunks, by the teachers of a pool."""

    pool: TeacherPool
    k: int
    n: int

    def own(self, chunks: Sequence[int]) -> list[int]:
        """The chunks of this share, by their number: the same ones however many are missing still."""
        return [chunk for chunk in chunks if chunk % self.n == self.k - 1]

    def receipts(self, chunks: Sequence[int], folder: Path) -> Iterator[Receipt]:
        return InProcess(self.pool).receipts(chunks, folder)


def parse(text: str) -> tuple[int, int]:
    """'3/64' to (3, 64): the third of 64 shares; 0/64 is the plan and no share of it. Raises InputError."""
    k, slash, n = text.partition("/")
    if not (slash and k.strip().isdigit() and n.strip().isdigit() and int(k) <= int(n) > 0):
        raise InputError(
            f"--part was '{text}'; it takes K/N with K from 1 to N, such as 3/64, or 0/64 for the plan alone."
        )
    return int(k), int(n)
