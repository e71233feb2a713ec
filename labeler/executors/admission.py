"""Which Dask workers may label: each newcomer is looked at before it gets work, and refused with a sentence if it cannot do it.

Tasks go only to workers that were admitted by name, so a bad one that joins late harms nobody. What is looked at is in
inspection.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import HDistillError

from ..process import gpus
from .inspection import (
    PACKAGES,
    Worker,
    WorkerTask,
    code_sha256,
    look_around,
    packages_of,
    set_variable,
    version_of,
    versions_problem,
)

if TYPE_CHECKING:
    from distributed import Client

ANSWER_S = 10.0  # for a worker to answer; asked twice, so a silent one is refused after 20 s
SILENCE_S = 30.0  # of a scheduler before the run stops
FIRST_S = 20.0  # until the first worker of a running cluster is there
RETURN_S = 120.0  # until another comes, where all have left
GRACE_S = 5.0  # after the only worker was refused: others may be on their way
POLL_S = 1.0


class ClusterFailure(HDistillError):
    """The cluster cannot do the work: no scheduler, no workers, or none that can label."""


class Admission:
    """The workers of a cluster that may be given work, asked for as often as one likes.

    exclusive: the cluster is of this run alone, so a refused worker is sent away; elsewhere it may serve others. queued: workers
    may come late, out of a batch system's queue, and are waited for. Raises ClusterFailure.
    """

    def __init__(
        self,
        client: Client,
        task: WorkerTask,
        say: Callable[[str], None],
        exclusive: bool = False,
        queued: bool = False,
    ) -> None:
        self.client = client
        self.scheduler = client.scheduler  # the client forgets it when it gives up
        self.task = task
        self.say = say
        self.exclusive = exclusive
        self.queued = queued
        self.present: dict[str, str] = {}  # address to name, of all workers of the scheduler
        self.admitted: set[str] = set()
        self.refused: dict[str, str] = {}
        self._all_bad: list[str] = []  # refusals after which nobody was left
        self._seen_good = False
        self._code = code_sha256()
        self._looking: dict[str, Future[Worker]] = {}
        self._shares = gpus.Shares()
        self._answered = self._busy = time.monotonic()
        self._asked = 0.0

    def workers(self) -> set[str]:
        """Addresses of the workers that are there and were admitted; looks at newcomers on the way, without waiting for them."""
        if time.monotonic() - self._asked < POLL_S and not self._looking:
            return self.admitted
        if not self._see():
            return self.admitted  # those of before: a scheduler may be silent for a while
        present = self.present.keys()
        for address in self.admitted - present:
            self._shares.give_back(address)
        self.admitted &= present
        for address in present - self.admitted - self.refused.keys() - self._looking.keys():
            self._looking[address] = asyncio.run_coroutine_threadsafe(
                self._look(address), self.client.loop.asyncio_loop
            )
        for address in [a for a, looking in self._looking.items() if looking.done()]:
            self._decide(address, self._looking.pop(address), address in present)
        self._require_somebody()
        return self.admitted

    def refuse(self, address: str, problem: str) -> None:
        """Give a worker no more work, and say why; a bad one that joins among good ones stops nothing."""
        if address in self.refused:
            return
        self.admitted.discard(address)
        self._shares.give_back(address)
        self.refused[address] = problem
        self.say(f"Worker {address} is refused: {problem}.")
        if not self.admitted:
            self._all_bad.append(problem)
        if self.exclusive:
            retire = self.scheduler.retire_workers(workers=[address], close_workers=True, remove=True)
            asyncio.run_coroutine_threadsafe(retire, self.client.loop.asyncio_loop)

    def names(self) -> list[str]:
        """Names of all workers that are there, good or bad."""
        return list(self.present.values())

    def _see(self) -> bool:
        """Ask the scheduler which workers are there. Raises ClusterFailure when it has been silent for too long."""
        try:
            identity = self._ask(self.scheduler.identity)
        except ClusterFailure:
            if time.monotonic() - self._answered > SILENCE_S or self.client.status in ("closing", "closed"):
                raise
            return False
        self._answered = self._asked = time.monotonic()
        self.present = {address: str(worker["name"]) for address, worker in identity["workers"].items()}
        return True

    def _ask(self, question: Callable[..., Any], **arguments: Any) -> Any:
        """Call the scheduler, which answers in time or is gone. Raises ClusterFailure."""
        try:
            return self.client.sync(question, callback_timeout=SILENCE_S, **arguments)
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise ClusterFailure(
                f"The Dask scheduler {self.scheduler.address} does not answer any more; all finished chunks are kept: "
                "run the same command again to continue, on a new cluster if this one is gone."
            ) from error

    async def _look(self, address: str) -> Worker:
        """Versions by a call that every dask understands, then the worker's own look around, then its GPU."""
        for attempt in (1, 2):
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._look_once(address)
            except TimeoutError:
                if attempt == 2:
                    break
        return Worker(f"it does not answer within {2 * ANSWER_S:.0f} s")

    async def _look_once(self, address: str) -> Worker:
        asked = {"op": "versions", "packages": ["hdistill"]}
        answers = await self.scheduler.broadcast(msg=asked, workers=[address], on_error="ignore")
        if address not in answers:
            return Worker("it does not say its versions")
        if problem := versions_problem(packages_of(answers[address])):
            return Worker(problem)
        worker = (await self._run(address, look_around, self.task))[address]
        if isinstance(worker, BaseException):
            return Worker(f"it cannot run hdistill ({type(worker).__name__}: {worker})")
        if worker.problem is None and worker.code_sha256 != self._code:
            return Worker(f"its hdistill has other code than this one, though both are {version_of('hdistill')}")
        if worker.problem is None and self.task.host.request.device == "cuda":
            name = self._shares.take(address, worker.node, worker.gpus)
            if name is not None:
                await self._run(address, set_variable, gpus.VARIABLE, name)
        answer: Worker = worker
        return answer

    async def _run(self, address: str, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        answers: dict[str, Any] = await self.client._run(function, *arguments, workers=[address], on_error="return")
        return answers

    def _decide(self, address: str, looking: Future[Worker], present: bool) -> None:
        error = looking.exception()
        problem = f"it does not answer ({error})" if error else looking.result().problem
        if not present:  # it left while we looked: whoever comes in its place is looked at again
            self._shares.give_back(address)
        elif problem is None:
            self.admitted.add(address)
            self._all_bad.clear()
            self._seen_good = True
        else:
            self.refuse(address, problem)

    def _require_somebody(self) -> None:
        """Raise ClusterFailure where nobody can work: all were refused, or nobody came in time."""
        now = time.monotonic()
        if self.admitted or self._looking:
            self._busy = now
            return
        if self._all_bad and now - self._busy > GRACE_S:
            raise ClusterFailure(
                f"No worker can label ({len(self._all_bad)} refused): {'; '.join(dict.fromkeys(self._all_bad))}. "
                "All finished chunks are kept: mend that, then run the same command again."
            )
        patience_s = RETURN_S if self._seen_good else FIRST_S
        if not self.queued and now - self._busy > patience_s:
            address = self.scheduler.address
            raise ClusterFailure(
                f"The Dask scheduler {address} has no workers, and none came within {patience_s:.0f} s; start some with "
                f"`dask worker {address} --nworkers 4`, then run the same command again."
            )


def require_versions(packages: dict[str, str | None], who: str, names: tuple[str, ...] = PACKAGES) -> None:
    """Raise ClusterFailure unless a process has these packages in our versions."""
    if problem := versions_problem(packages, names):
        raise ClusterFailure(f"{who} is refused: {problem}.")
