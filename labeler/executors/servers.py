"""Pieces of Dask as this project wants them: no HTTP server beside a scheduler or worker, no log, coroutines from plain code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def scheduler_class() -> type:
    """Dask's Scheduler without its HTTP server, which listens on all interfaces whether or not there is a dashboard."""
    from distributed import Scheduler

    class SilentScheduler(Scheduler):  # type: ignore[misc]
        def start_http_server(self, *_: Any, **__: Any) -> None: ...

    return SilentScheduler


def worker_class() -> type:
    """Dask's Worker without its HTTP server."""
    from distributed import Worker

    class SilentWorker(Worker):  # type: ignore[misc]
        def start_http_server(self, *_: Any, **__: Any) -> None: ...

    return SilentWorker


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Dask's log is silent meanwhile: what matters in it is said in sentences."""
    late = logging.getLogger("distributed.batched")
    # It tells of connections with a traceback, as information, also of those that close after the end.
    if late.level == logging.NOTSET:
        late.setLevel(logging.WARNING)
    # tornado.application: what Dask's sync() raises in its loop where Ctrl-C comes at an odd moment
    names = ("distributed", "distributed.client", "tornado.application")
    loggers = [late, *(logging.getLogger(name) for name in names)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where this thread has a running event loop, as in a notebook."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
