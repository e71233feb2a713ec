"""Label a subset: a plan, then its chunks by an executor, then shards and a manifest. Run it again to continue.

settings -> prepare -> plan on disk -> run_plan(plan, executor) -> chunks -> finish -> label set
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hdistill.data.errors import HDistillError
from hdistill.data.format.manifest import MANIFEST, read_manifest
from hdistill.data.format.records import Manifest
from hdistill.data.support.progress import progress

from .executors.cluster_file import JobSettings
from .executors.executor import Executor
from .executors.in_process import InProcess
from .executors.on_cluster import OnCluster
from .executors.pool import TeacherPool
from .executors.share import Share
from .planning.plan import LabelSettings, Plan, missing, request_of
from .planning.prepare import prepare
from .planning.resume import require_same_labels
from .process.host import DEADLINE_S, HostSettings
from .teachers.environments import interpreter
from .work.compact import ChunkDamaged, clear_up, damaged_chunks, finish

ROUNDS = 3  # of making damaged chunks again
Say = Callable[[str], None]


@dataclass(frozen=True)
class RunSettings:
    """How a plan is run; none of it changes the label set, but for memory where it is too small for the usual batches.

    threads: CPU threads of each teacher process. memory_bytes: what each may take on a CPU; None is an equal share of the
    machine. deadline_s: how long a small batch may take; it grows with the batch.
    """

    workers: int = 2
    threads: int = 1
    scheduler: str | None = None
    teacher_python: Path | None = None
    deadline_s: float = DEADLINE_S
    memory_bytes: int | None = None
    progress: bool = True
    jobs: JobSettings | None = None  # workers as jobs of a batch system

    @property
    def is_elsewhere(self) -> bool:
        """Whether chunks are labelled by other machines' workers."""
        return self.scheduler is not None or self.jobs is not None


@dataclass(frozen=True)
class LabelResult:
    """What was done: the label set's folder, its manifest, and the seconds and structures of this call alone."""

    path: Path
    manifest: Manifest
    n_labelled_now: int
    seconds: float

    @property
    def n_quarantined(self) -> int:
        return self.manifest.counts.n_quarantined


@dataclass(frozen=True)
class ShareResult:
    """What one share of a job array did: chunks of its own and of the whole plan that are missing still."""

    path: Path
    share: str
    n_labelled_now: int
    n_chunks: int
    n_missing: int
    n_missing_elsewhere: int
    seconds: float


def label(
    settings: LabelSettings,
    out: Path,
    data: Path | None = None,
    run: RunSettings = RunSettings(),
    say: Say = print,
    is_pass: bool = False,
) -> LabelResult:
    """Label a subset into the directory `out`; the same call again continues what was begun, or finds it done.

    is_pass: the structures will join another set, and may be as few as they like. Raises InputError, TeacherError (TeacherMissing,
    TeacherCrashed), PlanMismatch, LabelSetError. Structures that cannot be labelled do not raise: they are in the quarantine.
    """
    started = time.monotonic()
    out = out.resolve()
    was_complete = (out / MANIFEST).exists()
    n_labelled = 0
    with _teachers(settings, run) as teachers:
        plan = prepare(settings, out, data, teachers.first, say, run.progress, is_pass)
        if not (out / MANIFEST).exists():
            n_labelled = _complete(plan, out, teachers, run, say)
    clear_up(out)
    if was_complete:
        say(f"{out.name}/ is complete already; nothing to do.")
    return LabelResult(out, read_manifest(out), n_labelled, time.monotonic() - started)


def label_share(
    settings: LabelSettings,
    out: Path,
    share: tuple[int, int],
    data: Path | None = None,
    run: RunSettings = RunSettings(),
    say: Say = print,
) -> ShareResult:
    """Label one share, (k, n), of the plan of `out` and nothing else, as a task of a job array does.

    Whichever comes first makes the plan, and the others wait for it; (0, n) makes the plan alone. When all shares are
    done, label() makes shards and manifest of them. Raises what label() raises.
    """
    started = time.monotonic()
    out = out.resolve()
    name = f"{share[0]}/{share[1]}"
    n_labelled = 0
    with _teachers(settings, run) as teachers:
        plan = prepare(settings, out, data, teachers.first, say, run.progress)
        executor = Share(teachers, *share)
        n_own = len(executor.own(range(plan.n_chunks)))
        if (out / MANIFEST).exists():
            say(f"{out.name}/ is complete already; nothing to do.")
        elif executor.own(missing(plan, out)):
            with _unless_finished(out):
                require_same_labels(plan, out, teachers.first, say)
                n_labelled = run_plan(plan, out, executor, run.progress)
    if (out / MANIFEST).exists():
        clear_up(out)
        return ShareResult(out, name, n_labelled, n_own, 0, 0, time.monotonic() - started)
    left = missing(plan, out)
    n_left = len(executor.own(left))
    return ShareResult(out, name, n_labelled, n_own, n_left, len(left) - n_left, time.monotonic() - started)


def run_plan(plan: Plan, folder: Path, executor: Executor, show: bool = True) -> int:
    """Label those chunks of a plan that are missing and are the executor's; returns how many structures were labelled now.

    show: with a progress bar. Raises what the executor raises; what is published is kept.
    """
    todo = executor.own(missing(plan, folder))
    if not todo:
        return 0

    def size(chunk: int) -> int:
        return plan.chunk_starts[chunk + 1] - plan.chunk_starts[chunk]

    total = sum(map(size, executor.own(range(plan.n_chunks))))
    labelled = products = 0
    began = time.monotonic()
    with progress(total, "structures", "labelling", show, total - sum(map(size, todo))) as bar:
        for receipt in executor.receipts(todo, folder):
            labelled += receipt.n_labelled
            products += receipt.n_products
            rate = products / (time.monotonic() - began)
            bar.advance(size(receipt.chunk), products_per_s=f"{rate:.3g}")
    return labelled


def _teachers(settings: LabelSettings, run: RunSettings) -> TeacherPool:
    """The teachers of this process: one to plan with, and others where it labels too. On this machine there will be `workers`."""
    request = request_of(settings)
    if run.teacher_python is not None:
        interpreter(request.family, run.teacher_python)  # a wrong path is said now, not by a worker
    memory_bytes = run.memory_bytes or (run.jobs.memory_per_worker if run.jobs else None)
    host = HostSettings(request, run.teacher_python, run.threads, run.deadline_s, memory_bytes, run.workers)
    return TeacherPool(host, 1 if run.is_elsewhere else run.workers)


def _complete(plan: Plan, out: Path, teachers: TeacherPool, run: RunSettings, say: Say) -> int:
    """Label what is missing and finish the set; damaged chunks are made again. Returns the structures labelled now."""
    n_labelled = 0
    with _unless_finished(out):
        for attempt in range(1, ROUNDS + 1):
            if missing(plan, out):
                require_same_labels(plan, out, teachers.first, say)
                n_labelled += run_plan(plan, out, _executor(teachers, run, say), run.progress)
            try:
                finish(out, plan)
                break
            except ChunkDamaged:
                if attempt == ROUNDS:
                    raise
            for problem in damaged_chunks(out, plan):
                say(f"{problem} It is made again.")
                problem.path.unlink(missing_ok=True)
    return n_labelled


@contextmanager
def _unless_finished(out: Path) -> Iterator[None]:
    """Another labeler on the same directory may be quicker, at any moment, and take away what this one works on: that is as good."""
    try:
        yield
    except (HDistillError, OSError):
        if not (out / MANIFEST).exists():
            raise


def _executor(teachers: TeacherPool, run: RunSettings, say: Say) -> Executor:
    if not run.is_elsewhere:
        return InProcess(teachers)
    teachers.close()  # the one that planned; its GPU, if it has one, may be a worker's
    settings = teachers.settings
    host = replace(settings, python=interpreter(settings.request.family, settings.python))
    return OnCluster(host, say, run.scheduler, run.jobs)
