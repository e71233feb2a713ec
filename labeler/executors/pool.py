"""The teachers of this process: each in a process of its own, lent to whichever thread has a chunk for one."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from ..process import gpus
from ..process.host import HostSettings, TeacherHost


class TeacherPool:
    """n teachers, started when they are first asked, each with a GPU of its own where the device is "cuda".

    The first one makes the plan and then labels like the others: a teacher that is loaded is not loaded again. As a context
    manager it ends all teacher processes.
    """

    def __init__(self, settings: HostSettings, n: int) -> None:
        self.settings = settings
        self._hosts = [TeacherHost(replace(settings, gpu=gpu)) for gpu in gpus.one_each(settings.request.device, n)]
        self._free: queue.LifoQueue[TeacherHost] = queue.LifoQueue()
        for host in reversed(self._hosts):
            self._free.put(host)

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def first(self) -> TeacherHost:
        return self._hosts[0]

    @contextmanager
    def lend(self) -> Iterator[TeacherHost]:
        """A teacher that nobody else has; waits for one."""
        host = self._free.get()
        try:
            yield host
        finally:
            self._free.put(host)

    def stop(self) -> None:
        """From another thread than the borrowers': their teachers end, and every further question raises."""
        for host in self._hosts:
            host.stop()

    def close(self) -> None:
        """End the teacher processes; one that is asked again starts again."""
        for host in self._hosts:
            host.close()

    def __enter__(self) -> TeacherPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
