"""Label a subset: plan, then a window of chunks over Dask, then shards and a manifest. Run it again to continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hdistill.data.errors import LabelSetError
from hdistill.data.format.manifest import MANIFEST, Manifest, read_manifest
from hdistill.data.support.progress import progress

from .executors import over_dask, share as parts
from .executors.admission import Task
from .executors.cluster import connect
from .executors.jobs import JobSettings
from .planning import plan as plans
from .planning.prepare import prepare
from .process.host import DEADLINE_S, HostSettings
from .teachers.environments import interpreter
from .work.chunk import Receipt
from .work.compact import finish


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
class PartResult:
    """What one part of a job array did: chunks of its share and of the whole plan that are missing still."""

    path: Path
    part: str
    n_labelled_now: int
    n_chunks: int
    n_missing: int
    n_missing_elsewhere: int
    seconds: float


Say = Callable[[str], None]


def label(
    settings: plans.LabelSettings,
    out: Path,
    data: Path | None = None,
    run: RunSettings = RunSettings(),
    say: Say = print,
) -> LabelResult:
    """Label a subset into the directory `out`; the same call again continues what was begun, or finds it done.

    Raises InputError, TeacherError (TeacherMissing, TeacherCrashed), PlanMismatch, LabelSetError. Structures that cannot be
    labelled do not raise: they are in the manifest's quarantine.
    """
    out = out.resolve()
    was_complete = (out / MANIFEST).exists()
    result = complete(settings, out, data, run, say)
    if was_complete:
        say(f"{out.name}/ is complete already; nothing to do.")
    return result


def complete(settings: plans.LabelSettings, out: Path, data: Path | None, run: RunSettings, say: Say) -> LabelResult:
    """label(), for one to whom a set that is complete already is no news."""
    started = time.monotonic()
    host = _host(settings, run)
    plan = prepare(settings, out, data, host, say, run.progress)
    if (out / MANIFEST).exists():
        return LabelResult(out, read_manifest(out), 0, time.monotonic() - started)
    missing = plans.missing(plan, out)
    labelled = 0
    if missing:
        host = replace(host, python=interpreter(host.request.family, run.teacher_python))
        with connect(Task.of(out, host), say, run.scheduler, min(run.workers, len(missing)), run.jobs) as cluster:
            receipts = over_dask.receipts(cluster, missing, out, host)
            labelled = _advance(receipts, plan, missing, range(plan.n_chunks), run.progress)
    manifest = _finish_once(out, plan)
    return LabelResult(out, manifest, labelled, time.monotonic() - started)


def label_part(
    settings: plans.LabelSettings,
    out: Path,
    part: tuple[int, int],
    data: Path | None = None,
    run: RunSettings = RunSettings(),
    say: Say = print,
) -> PartResult:
    """Label one share, (k, n), of the plan of `out` without any scheduler, as a task of a job array does.

    Whichever part comes first makes the plan, and the others wait for it; (0, n) makes the plan alone. When all parts are
    done, label() makes shards and manifest of them. Raises what label() raises.
    """
    started = time.monotonic()
    out = out.resolve()
    host = _host(settings, run)
    plan = prepare(settings, out, data, host, say, run.progress)
    name = f"{part[0]}/{part[1]}"
    mine = parts.share_of(range(plan.n_chunks), part)
    if (out / MANIFEST).exists():
        say(f"{out.name}/ is complete already; nothing to do.")
        return PartResult(out, name, 0, len(mine), 0, 0, time.monotonic() - started)
    missing = parts.share_of(plans.missing(plan, out), part)
    labelled = 0
    if missing:
        receipts = parts.receipts(missing, out, host, min(run.workers, len(missing)))
        labelled = _advance(receipts, plan, missing, mine, run.progress)
    left = plans.missing(plan, out)
    n_mine = len(parts.share_of(left, part))
    return PartResult(out, name, labelled, len(mine), n_mine, len(left) - n_mine, time.monotonic() - started)


def _host(settings: plans.LabelSettings, run: RunSettings) -> HostSettings:
    """How teachers are run; on this machine there will be `workers` of them."""
    request = plans.request_of(settings)
    if run.teacher_python is not None:
        interpreter(request.family, run.teacher_python)  # a wrong path is said now, not by a worker
    memory_bytes = run.memory_bytes or (run.jobs.memory_per_worker if run.jobs else None)
    return HostSettings(request, run.teacher_python, run.threads, run.deadline_s, memory_bytes, run.workers)


def _advance(
    receipts: Iterable[Receipt], plan: plans.Plan, missing: Sequence[int], of: Sequence[int], show: bool
) -> int:
    """Follow the receipts of the chunks that are missing `of` some with a progress bar; returns the structures labelled."""

    def size(chunk: int) -> int:
        return plan.chunk_starts[chunk + 1] - plan.chunk_starts[chunk]

    total = sum(map(size, of))
    labelled = products = 0
    begun = time.monotonic()
    with progress(total, "structures", "labelling", show, total - sum(map(size, missing))) as bar:
        for receipt in receipts:
            labelled += receipt.n_labelled
            products += receipt.n_products
            rate = products / (time.monotonic() - begun)
            bar.advance(size(receipt.chunk), products_per_s=f"{rate:.3g}")
    return labelled


def _finish_once(folder: Path, plan: plans.Plan) -> Manifest:
    """Shards and manifest; another labeler on the same directory may have been quicker, which is as good."""
    try:
        return finish(folder, plan)
    except LabelSetError:
        if (folder / MANIFEST).exists():
            return read_manifest(folder)
        raise
