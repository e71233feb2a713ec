"""What every executor is: something that labels chunks of a plan, here or elsewhere, and says what became of each.

in_process.InProcess     Dask in this process, the local default
on_cluster.OnCluster     the workers of a Dask cluster
share.Share              one share of a plan, for one task of a job array
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..work.chunk import Receipt


class Executor(Protocol):
    def own(self, chunks: Sequence[int]) -> list[int]:
        """Those of some chunks of a plan that this executor is to do."""
        ...

    def receipts(self, chunks: Sequence[int], folder: Path) -> Iterator[Receipt]:
        """Label and publish these chunks, at least one, of the plan in a folder; a receipt for each as it is done.

        Closing the iterator stops the work. What is published is kept, whatever is raised.
        """
        ...
