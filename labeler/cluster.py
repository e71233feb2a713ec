"""Where chunks are run: a local Dask cluster by default, or any running one by its scheduler's address."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hdistill.data.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 20


@contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A Dask client on `workers` local processes, or on the cluster behind a scheduler's address. Raises InputError."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(
        {
            "distributed.scheduler.no-workers-timeout": "120s",  # a task nobody can run must not wait for ever
            "distributed.comm.timeouts.connect": f"{CONNECT_S}s",
        }
    ):
        if scheduler is None:
            with (
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # the memory is in the teacher processes, which Dask does not see
                    dashboard_address=":0",  # any free port: two labelers on one machine must not quarrel
                    silence_logs=logging.CRITICAL,
                ) as cluster,
                Client(cluster) as client,
            ):
                yield client
            return
        try:
            client = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise InputError(
                f"No Dask scheduler answers at {scheduler} within {CONNECT_S} s; start one with `dask scheduler` "
                "and give its address."
            ) from error
        with client:
            yield client


def n_workers(client: Client) -> int:
    """Worker threads of the cluster, at least one: how many chunks can be worked on at once."""
    return max(1, sum(int(n) for n in client.nthreads().values()))
