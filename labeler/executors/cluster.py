"""Where chunks are run: local Dask workers, jobs of a batch system, or any running Dask cluster by its scheduler's address."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hdistill.data.errors import InputError

from ..process.host import HostSettings
from .admission import Admission, Task, packages_of, require_versions
from .jobs import Jobs, JobSettings

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 20
CLOSE_S = 5.0  # for good-byes to a scheduler that may be gone


@dataclass(frozen=True)
class Cluster:
    """A connected cluster: its client, the workers that may label, and the jobs they come from, if they do."""

    client: Client
    admission: Admission
    jobs: Jobs | None = None
    _sharers: list[int] = field(default_factory=list)

    def workers(self, chunks_left: int) -> set[str]:
        """Addresses of the workers that may be given work now; jobs that ended are replaced while chunks are left."""
        good = self.admission.workers()
        if self.jobs is not None:
            self.jobs.keep_up(chunks_left, self.admission.names(), len(self.admission.refused))
        return good

    def shared(self, host: HostSettings) -> HostSettings:
        """The same for teachers that share their machines, decided when the first chunk is given out.

        Jobs have been told their memory before; where it was not told, it is divided by the workers on the fullest host.
        """
        if not self._sharers:
            counts = Counter(address.rpartition(":")[0] for address in self.admission.present)
            self._sharers.append(max(counts.values(), default=1))
        return replace(host, sharers=self._sharers[0])

    def let_go(self, function: Callable[[], None]) -> None:
        """At the end, run this on workers that live on after this run, if they can be reached."""
        if not self.admission.mine and self.admission.admitted:
            with suppress(Exception):  # a courtesy: the next run on these workers does it otherwise
                asked = self.client._run
                self.client.sync(asked, function, workers=sorted(self.admission.admitted), callback_timeout=CLOSE_S)


@contextmanager
def connect(
    task: Task,
    say: Callable[[str], None],
    scheduler: str | None = None,
    workers: int = 1,
    jobs: JobSettings | None = None,
) -> Iterator[Cluster]:
    """`workers` local processes, or the cluster behind a scheduler's address, or jobs. Raises InputError, ClusterFailure."""
    import dask
    from distributed import LocalCluster

    for name in ("distributed", "distributed.client"):  # what they have to say is said in sentences
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_S}s"}))
        if scheduler is not None:
            client = stack.enter_context(_client(scheduler))
            yield Cluster(client, Admission(client, task, say))
            return
        local = stack.enter_context(
            LocalCluster(
                n_workers=workers if jobs is None else 0,
                threads_per_worker=1,
                processes=True,
                host=None if jobs is None else _address_for_nodes(jobs.interface),
                memory_limit=0,  # the memory is in the teacher processes, which Dask does not see
                dashboard_address=":0",  # any free port: two labelers on one machine must not quarrel
                silence_logs=logging.CRITICAL,
            )
        )
        if jobs is None:
            client = stack.enter_context(_client(local.scheduler_address))
            yield Cluster(client, Admission(client, task, say, mine=True, started_here=True))
            return
        submitted = stack.enter_context(Jobs(jobs, local.scheduler_address, logs_of(task.folder), say))
        client = stack.enter_context(_client(local.scheduler_address))
        yield Cluster(client, Admission(client, task, say, mine=True, queued=True), submitted)


def _address_for_nodes(interface: str | None) -> str:
    """The address of this machine, on a network interface if one is named. Raises InputError."""
    from distributed.utils import get_ip, get_ip_interface

    try:
        return str(get_ip_interface(interface) if interface else get_ip())
    except ValueError as error:  # it lists those that there are
        raise InputError(f"The cluster file's interface cannot be used here: {error}.") from error


def logs_of(folder: Path) -> Path:
    """Where the output of a label set's jobs goes: beside it, for a label set holds nothing but labels."""
    return folder.with_name(folder.name + "-jobs")


@contextmanager
def _client(address: str) -> Iterator[Client]:
    """A client, closed in bounded time whatever state the scheduler is in. Raises InputError, ClusterFailure."""
    from distributed import Client

    try:
        # Before anything else: a client and a scheduler of different versions fail at each other's first words.
        require_versions(asyncio.run(_versions(address)), f"The Dask scheduler {address}", ("dask", "distributed"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a table of workers with other versions: each is refused with a sentence
            client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address} within {CONNECT_S} s; start one with `dask scheduler` "
            "and give its address."
        ) from error
    try:
        yield client
    finally:
        with suppress(Exception):  # whatever a dead scheduler does to a good-bye, the work is on disk
            client.close(timeout=CLOSE_S)


async def _versions(address: str) -> dict[str, str | None]:
    """Packages of a scheduler, by a call that every dask understands."""
    from distributed import rpc

    async with asyncio.timeout(CONNECT_S), rpc(address) as scheduler:
        return packages_of(await scheduler.versions(packages=[]))
