"""A connection to Dask workers elsewhere: jobs of a batch system, or any running cluster by its scheduler's address.

Whoever can talk to a Dask scheduler can run code as its owner. So a scheduler that is started here speaks TLS with keys made for
this run; a cluster of the site speaks what its address says, with the keys of the site's own Dask configuration.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

from ..process.host import HostSettings
from .admission import Admission, require_versions
from .cluster_file import JobSettings
from .inspection import WorkerTask, packages_of
from .jobs import Jobs
from .servers import quiet_logs, run_async, scheduler_class

if TYPE_CHECKING:
    from distributed import Client, Security

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
        if not self.admission.exclusive and self.admission.admitted:
            with suppress(Exception):  # a courtesy: the next run on these workers does it otherwise
                ask = self.client._run
                self.client.sync(ask, function, workers=sorted(self.admission.admitted), callback_timeout=CLOSE_S)


@contextmanager
def connect(
    task: WorkerTask, say: Callable[[str], None], scheduler: str | None = None, jobs: JobSettings | None = None
) -> Iterator[Cluster]:
    """The cluster behind a scheduler's address, or workers as jobs. Raises InputError, ClusterFailure."""
    import dask

    with ExitStack() as stack:
        stack.enter_context(quiet_logs())
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_S}s"}))
        if scheduler is not None:
            client = stack.enter_context(_client(scheduler, _security_of_site(scheduler)))
            yield Cluster(client, Admission(client, task, say))
            return
        assert jobs is not None
        logs = logs_of(task.folder)
        security, options = stack.enter_context(_keys(logs)) if jobs.tls else (None, [])
        address = stack.enter_context(_scheduler(jobs.interface, security))
        submitted = stack.enter_context(Jobs(jobs, address, logs, say, options))
        client = stack.enter_context(_client(address, security))
        yield Cluster(client, Admission(client, task, say, exclusive=True, queued=True), submitted)


@contextmanager
def _scheduler(interface: str | None, security: Security | None) -> Iterator[str]:
    """A scheduler in this process that other machines can reach; gives its address."""
    from distributed import SpecCluster

    options: dict[str, Any] = {
        "host": _address_for_nodes(interface),
        "port": 0,
        "protocol": "tcp://" if security is None else "tls://",
        "dashboard": False,
        "security": security,
    }
    scheduler = {"cls": scheduler_class(), "options": options}
    with SpecCluster(workers={}, scheduler=scheduler, security=security, silence_logs=False) as cluster:
        yield str(cluster.scheduler_address)


def _address_for_nodes(interface: str | None) -> str:
    """The address of this machine, on a network interface if one is named. Raises InputError."""
    from distributed.utils import get_ip, get_ip_interface

    try:
        return str(get_ip_interface(interface) if interface else get_ip())
    except ValueError as error:  # it lists those that there are
        raise InputError(f"The cluster file's interface cannot be used here: {error}.") from error


@contextmanager
def _keys(logs: Path) -> Iterator[tuple[Security, list[str]]]:
    """A key and a certificate for this run alone, and the options by which a worker finds them.

    The files are in a folder that only their owner can read, where the jobs' output goes, and are removed at the end.
    """
    from distributed import Security

    try:
        security = Security.temporary()
    except ImportError as error:
        raise InputError(
            "Encrypted clusters need the package cryptography; type `pip install -c constraints.txt '.[cluster]'`, or say tls = false in "
            "the cluster file."
        ) from error
    logs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".tls-", dir=logs))  # for its owner alone
    try:
        options = []
        for option, text in (
            ("--tls-ca-file", security.tls_ca_file),
            ("--tls-cert", security.tls_worker_cert),
            ("--tls-key", security.tls_worker_key),
        ):
            file = folder / f"{option.removeprefix('--tls-')}.pem"
            file.touch(mode=0o600)
            file.write_text(text)
            options += [option, str(file)]
        yield security, options
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _security_of_site(address: str) -> Security | None:
    """What the site's Dask configuration says, for an address that asks for it. Raises InputError."""
    import dask

    if not address.startswith("tls://"):
        return None
    from distributed import Security

    if not dask.config.get("distributed.comm.tls.ca-file"):
        raise InputError(
            f"The scheduler {address} speaks TLS, and no certificates are configured here: set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..._CLIENT__CERT and ..._CLIENT__KEY, or your site's dask.yaml."
        )
    return Security()


def logs_of(folder: Path) -> Path:
    """Where the output of a label set's jobs goes: beside it, for a label set holds nothing but labels."""
    return folder.with_name(folder.name + "-jobs")


@contextmanager
def _client(address: str, security: Security | None) -> Iterator[Client]:
    """A client, closed in bounded time whatever state the scheduler is in. Raises InputError, ClusterFailure."""
    from distributed import Client

    try:
        # Before anything else: a client and a scheduler of different versions fail at each other's first words.
        versions = run_async(_versions(address, security))
        require_versions(versions, f"The Dask scheduler {address}", ("dask", "distributed"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a table of workers with other versions: each is refused with a sentence
            client = Client(address, timeout=CONNECT_S, security=security, set_as_default=False)
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


async def _versions(address: str, security: Security | None) -> dict[str, str | None]:
    """Packages of a scheduler, by a call that every dask understands."""
    from distributed import rpc

    arguments = {} if security is None else security.get_connection_args("client")
    async with asyncio.timeout(CONNECT_S), rpc(address, connection_args=arguments) as scheduler:
        return packages_of(await scheduler.versions(packages=[]))
