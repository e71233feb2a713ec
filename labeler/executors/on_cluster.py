"""Chunks over the workers of a Dask cluster: a window of them in flight, receipts back, and the worker's side."""

from __future__ import annotations

import queue
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hdistill.data.errors import HDistillError

from ..process.host import HostSettings, TeacherHost, TeacherWillNotStart
from ..teachers.light import import_vesin_without_torch
from ..work.chunk import Receipt, label_chunk
from .cluster import Cluster, connect
from .cluster_file import JobSettings
from .inspection import WorkerTask

if TYPE_CHECKING:
    from distributed import Future

CHUNKS_PER_WORKER = 3  # in flight: a queue of all chunks would cost the scheduler gigabytes at a million of them
TICK_S = 0.5  # between looks at the workers while no chunk is done
RECEIPT_S = 10.0  # for a few bytes from a worker that has finished
MAX_LOST = 4  # times that a chunk may lose all of its workers


@dataclass(frozen=True)
class OnCluster:
    """All chunks of a plan by workers that are jobs of a batch system, or those of a scheduler that runs already."""

    host: HostSettings
    say: Callable[[str], None]
    scheduler: str | None = None
    jobs: JobSettings | None = None

    def own(self, chunks: Sequence[int]) -> list[int]:
        return list(chunks)

    def receipts(self, chunks: Sequence[int], folder: Path) -> Iterator[Receipt]:
        """Receipts as chunks are done. Raises InputError, ClusterFailure, HDistillError; what is finished is kept."""
        with connect(WorkerTask.of(folder, self.host), self.say, self.scheduler, self.jobs) as cluster:
            yield from receipts(cluster, list(chunks), folder, self.host)


def receipts(cluster: Cluster, chunks: list[int], folder: Path, host: HostSettings) -> Iterator[Receipt]:
    """Receipts as chunks are done, with a window of chunks in flight. Raises HDistillError where the cluster fails.

    Chunks go to the admitted workers by name, so the window follows their number, and a chunk whose workers have all left
    (wall time) is handed to those that came in their place.
    """
    from distributed.client import ClosedClientError

    # Two labelers on one directory begin at different places, so that they seldom do the same chunk at the same time.
    first = random.randrange(len(chunks))
    waiting = deque(chunks[first:] + chunks[:first])
    flying: dict[Future, tuple[int, set[str]]] = {}
    done: queue.SimpleQueue[Future] = queue.SimpleQueue()
    lost: Counter[int] = Counter()

    def take_back(future: Future) -> None:
        chunk, _ = flying.pop(future)
        waiting.appendleft(chunk)

    try:
        while waiting or flying:
            workers = set(cluster.workers(len(waiting) + len(flying)))
            for future in [f for f, (_, named) in flying.items() if not named & workers and f.status == "pending"]:
                lost[flying[future][0]] += 1
                take_back(future)
                future.cancel()
            if lost and max(lost.values()) > MAX_LOST:
                raise _workers_died(f"chunk {lost.most_common(1)[0][0]} lost its workers {MAX_LOST + 1} times")
            room = CHUNKS_PER_WORKER * len(workers) if cluster.client.status == "running" else 0
            while waiting and len(flying) < room:
                settings = cluster.shared(host)
                try:
                    future = cluster.client.submit(
                        label_on_worker, waiting[0], str(folder), settings, workers=sorted(workers), pure=False
                    )
                except ClosedClientError:
                    break  # the next look at the workers says what happened
                flying[future] = waiting.popleft(), workers
                future.add_done_callback(done.put)
            for future in _finished(done):
                if future not in flying:
                    continue
                if future.status in ("cancelled", "lost"):  # with its scheduler, which may come back
                    take_back(future)
                    continue
                answer = _result(future)
                if answer is None:
                    lost[flying[future][0]] += 1
                    take_back(future)
                    future.cancel()
                elif isinstance(answer, Receipt):
                    del flying[future]
                    yield answer
                else:
                    cluster.admission.refuse(*answer)
                    take_back(future)
    finally:
        cluster.let_go(let_go)


def _finished(done: queue.SimpleQueue[Future]) -> Iterator[Future]:
    """Futures that are done: those at hand, or the next one if it comes before the workers must be looked at again."""
    try:
        yield done.get(timeout=TICK_S)
        while True:
            yield done.get_nowait()
    except queue.Empty:
        return


def _workers_died(what: object) -> HDistillError:
    return HDistillError(
        f"Dask workers died while they labelled ({what}); all finished chunks are kept: run the same command again, "
        "with more memory for the workers."
    )


def _result(future: Future) -> Receipt | tuple[str, str] | None:
    """The receipt of a finished chunk, or the worker whose teacher does not start and why; other failures are raised.

    None where the receipt was lost with its worker: Dask would run the task again, on a worker that may be no more.
    """
    from distributed.scheduler import KilledWorker

    try:
        answer: Receipt | tuple[str, str] = future.result(timeout=RECEIPT_S)
    except TimeoutError:
        return None
    except KilledWorker as error:
        raise _workers_died(error) from error
    except OSError as error:
        raise HDistillError(
            f"A worker cannot read or write the output directory ({error}); all finished chunks are kept: make room or mend "
            "the permissions, then run the same command again."
        ) from error
    return answer


_HOSTS: dict[str, TeacherHost] = {}  # of this worker process: the teacher is loaded once, not once a chunk
_ONE_AT_A_TIME = threading.Lock()  # a worker with many threads has one teacher all the same


def label_on_worker(chunk: int, folder: str, settings: HostSettings) -> Receipt | tuple[str, str]:
    """Runs on a Dask worker: label one chunk with the worker's own teacher process.

    Where that does not start, the worker's address and the reason: this worker is of no use, others may be.
    """
    from distributed import get_worker

    with _ONE_AT_A_TIME:
        import_vesin_without_torch()
        key = repr(settings)
        if key not in _HOSTS:
            let_go()  # a long-lived worker serves one run after another: let the former teacher go
            _HOSTS[key] = TeacherHost(settings)
        host = _HOSTS[key]
        try:
            return label_chunk(Path(folder), chunk, lambda: nullcontext(host))
        except TeacherWillNotStart as error:
            return get_worker().address, f"its teacher does not start: {str(error).rstrip('.')}"


def let_go() -> None:
    """Runs on a worker: end its teacher process, and with it what the teacher holds of a GPU."""
    for host in _HOSTS.values():
        host.close()
    _HOSTS.clear()
