"""Keeps one teacher process alive for a worker: starts it when it is first needed, and again after it died."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hdistill.data.errors import HDistillError, TeacherError
from hdistill.data.structure import Directions, Labels, Structure

from ..teachers.contract import TeacherInfo, TeacherRequest
from ..teachers.environments import interpreter
from . import memory
from .parent import TeacherOutOfMemory, TeacherProcess

# How long a batch may take: generous, for it only has to tell slow from never. It grows with atoms times evaluations.
DEADLINE_S = 120.0
ATOM_EVALUATIONS = 120  # as many double the deadline, while nothing is known of the teacher's speed
SLOW = 30  # times slower than the slowest batch until now is no longer slow but hung


class TeacherWillNotStart(HDistillError):
    """The teacher process cannot be started or load its weights, on this worker, now."""


@dataclass(frozen=True)
class HostSettings:
    """How a worker runs its teacher; none of it changes the labels.

    python: the interpreter that the user named; None, and a worker that has none there, take the family's own environment.
    memory_bytes: None is an equal share of the worker's machine among its `sharers`. deadline_s: how long a small batch may
    take.
    """

    request: TeacherRequest
    python: Path | None = None
    threads: int = 1
    deadline_s: float = DEADLINE_S
    memory_bytes: int | None = None
    sharers: int = 1
    gpu: str | None = None  # the only one that the teacher sees; None: those that this process sees

    @property
    def limit_bytes(self) -> int:
        """What the teacher may take on this machine."""
        return self.memory_bytes or memory.share(self.sharers)

    def start(self) -> TeacherProcess:
        """A teacher process on this machine. Raises TeacherError, TeacherMissing."""
        named = self.python if self.python is not None and self.python.exists() else None
        python = interpreter(self.request.family, named)
        return TeacherProcess(python, self.request, self.threads, self.limit_bytes, gpu=self.gpu)


class TeacherHost:
    """A teacher that can be asked again after a crash. Raises what TeacherProcess raises, and TeacherWillNotStart."""

    def __init__(self, settings: HostSettings):
        self.settings = settings
        self._process: TeacherProcess | None = None
        self._stopped = False
        self._slowest = 0.0  # s for one evaluation of one atom, of the batches that were done
        self._ran_out_at: int | None = None  # pairs of the smallest batch of several structures that did not fit

    def label(
        self, structures: Sequence[Structure], directions: Sequence[Directions | None], n_pairs: int
    ) -> list[Labels]:
        """Labels of a batch with n_pairs pairs, within a deadline that grows with the work.

        A batch of several structures as large as one that did not fit is refused with TeacherOutOfMemory unasked: it would be
        halved in the end all the same.
        """
        if self._ran_out_at is not None and len(structures) > 1 and n_pairs >= self._ran_out_at:
            raise TeacherOutOfMemory(f"{self._ran_out_at} pairs did not fit, so {n_pairs} will not.")
        process = self._process = self._process or self._start()
        if self._stopped:  # while it was loading
            process.kill()
        evaluations = sum(s.n_atoms * (1 + len(d or ())) for s, d in zip(structures, directions, strict=True))
        try:
            labels = process.label(structures, directions, self._deadline(evaluations))
        except TeacherOutOfMemory:
            if len(structures) > 1:
                self._ran_out_at = min(n_pairs, self._ran_out_at or n_pairs)
            else:
                process.close()  # a lone structure is asked once more, in a process with nothing left of former batches
            raise
        finally:
            if not process.alive:
                self._process = None
        self._slowest = max(self._slowest, process.seconds / evaluations)
        return labels

    @property
    def info(self) -> TeacherInfo:
        """What the loaded teacher says of itself; loads it where it is not loaded yet."""
        return self._loaded().info

    @property
    def peak_bytes(self) -> int:
        """The most memory that the loaded teacher has had until now; loads it where it is not loaded yet."""
        return self._loaded().peak_bytes

    @property
    def limit_bytes(self) -> int:
        """What the loaded teacher may take: of its GPU, else of this machine."""
        return self._loaded().device_bytes or self.settings.limit_bytes

    def _loaded(self) -> TeacherProcess:
        self._process = self._process or self._start()
        return self._process

    def _start(self) -> TeacherProcess:
        if self._stopped:
            raise TeacherWillNotStart("The run was stopped.")
        try:
            return self.settings.start()
        except TeacherError as error:  # not the fault of these structures: stop the run, quarantine nothing
            raise TeacherWillNotStart(str(error)) from error

    def _deadline(self, evaluations: int) -> float:
        generous = self.settings.deadline_s * (1 + evaluations / ATOM_EVALUATIONS)
        if not self._slowest:
            return generous
        return min(generous, self.settings.deadline_s + SLOW * self._slowest * evaluations)

    def stop(self) -> None:
        """From another thread: end the process, so that label() raises, now and ever after."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None
