"""Dask in this process, the local default: worker threads around teacher processes, and nothing that listens on a port.

Scheduler, worker and client talk through Dask's in-process transport, so no other user of the machine can reach them, and
nothing is started again: a script without a `__main__` guard and a notebook with a running event loop may label.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..work.chunk import Receipt, label_chunk
from .pool import TeacherPool
from .servers import quiet_logs, scheduler_class, worker_class

if TYPE_CHECKING:
    from distributed import Client

WAITING = 2  # chunks given to Dask beyond those that its threads are at work on
QUIET_DASK: dict[str, Any] = {
    "distributed.worker.profile.enabled": False,  # a thread that samples the others a hundred times a second
    "distributed.scheduler.worker-ttl": None,  # a laptop that slept has not lost its worker
    "distributed.admin.tick.interval": "1s",  # else each of them looks at its own delay fifty times a second
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
_POOLS: dict[str, TeacherPool] = {}  # of the runs of this process; a task brings the name of its own


@dataclass(frozen=True)
class InProcess:
    """All chunks of a plan by the teachers of a pool.

    There is one thread more than there are teachers: while teachers work, it reads and checks a chunk that comes next, or
    compresses and writes one that is done.
    """

    pool: TeacherPool

    def own(self, chunks: Sequence[int]) -> list[int]:
        return list(chunks)

    def receipts(self, chunks: Sequence[int], folder: Path) -> Iterator[Receipt]:
        """Receipts as chunks are done. Raises what label_chunk raises; what is finished is kept."""
        from distributed import as_completed

        # Two labelers on one directory begin at different places, so that they seldom do the same chunk at the same time.
        first = random.randrange(len(chunks))
        waiting = iter([*chunks[first:], *chunks[:first]])
        name = uuid.uuid4().hex
        n_threads = min(len(self.pool) + 1, len(chunks))
        _POOLS[name] = self.pool
        try:
            with client_in_process(n_threads) as client:
                try:
                    begun = [_submit(client, chunk, folder, name) for chunk in islice(waiting, n_threads + WAITING)]
                    futures = as_completed(begun, loop=client.loop)
                    for future in futures:
                        receipt: Receipt = future.result()
                        for chunk in islice(waiting, 1):
                            futures.add(_submit(client, chunk, folder, name))
                        yield receipt
                except BaseException:
                    self.pool.stop()  # frees threads that wait for a teacher's answer
                    raise
        finally:
            del _POOLS[name]


def _submit(client: Client, chunk: int, folder: Path, name: str) -> Any:
    return client.submit(_label, chunk, str(folder), name, pure=False)


def _label(chunk: int, folder: str, name: str) -> Receipt:
    """Runs on a thread of the worker."""
    return label_chunk(Path(folder), chunk, _POOLS[name].lend)


@contextmanager
def client_in_process(n_threads: int) -> Iterator[Client]:
    """A synchronous client of a Dask scheduler and a worker of n_threads, all in this process, none of them on a port."""
    import dask
    from distributed import Client, SpecCluster

    common = {"protocol": "inproc://", "dashboard": False}
    scheduler = {"cls": scheduler_class(), "options": common}
    # No limit of memory: that is in the teacher processes, which Dask does not see.
    worker = {"cls": worker_class(), "options": common | {"nthreads": n_threads, "memory_limit": 0}}
    with ExitStack() as stack:
        stack.enter_context(quiet_logs())
        stack.enter_context(dask.config.set(QUIET_DASK))
        cluster = stack.enter_context(SpecCluster(workers={0: worker}, scheduler=scheduler, silence_logs=False))
        yield stack.enter_context(Client(cluster, set_as_default=False))
