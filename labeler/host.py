"""Keeps one teacher process alive for a worker: starts it when it is first needed, and again after it died."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hdistill.data.errors import HDistillError, TeacherError
from hdistill.data.structure import Directions, Labels, Structure

from .teacher_process import TeacherProcess
from .teachers.contract import TeacherRequest

# How long a batch may take: generous, for it only has to tell slow from never. It grows with atoms times evaluations.
DEADLINE_S = 120.0
ATOM_EVALUATIONS = 120  # as many double the deadline


class TeacherWillNotStart(HDistillError):
    """The teacher process cannot be started or load its weights, on this worker, now."""


class TeacherHost:
    """A teacher that can be asked again after a crash. Raises what TeacherProcess raises."""

    def __init__(self, python: Path, request: TeacherRequest, threads: int = 1, deadline_s: float = DEADLINE_S):
        self.python = python
        self.request = request
        self.threads = threads
        self.deadline_s = deadline_s
        self._process: TeacherProcess | None = None

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        """Labels of a batch within a deadline that grows with atoms and products."""
        if self._process is None:
            try:
                self._process = TeacherProcess(self.python, self.request, self.threads)
            except TeacherError as error:  # not the fault of these structures: stop the run, quarantine nothing
                raise TeacherWillNotStart(str(error)) from error
        evaluations = sum(s.n_atoms * (1 + len(d or ())) for s, d in zip(structures, directions, strict=True))
        deadline = self.deadline_s * (1 + evaluations / ATOM_EVALUATIONS)
        try:
            return self._process.label(structures, directions, deadline)
        finally:
            if not self._process.alive:
                self._process = None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None
