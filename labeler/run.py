"""Label a subset: plan, then a window of chunks over Dask, then shards and a manifest. Run it again to continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import HDistillError, LabelSetError
from hdistill.data.labelset import MANIFEST, read_manifest
from hdistill.data.progress import progress

from . import plan as plans
from .chunk import Receipt, label_chunk
from .cluster import connect, n_workers
from .compact import finish
from .environments import interpreter
from .host import DEADLINE_S, TeacherHost
from .prepare import prepare
from .teachers.contract import TeacherRequest

if TYPE_CHECKING:
    from distributed import Client, Future

CHUNKS_PER_WORKER = 3  # in flight: a queue of all chunks would cost the scheduler gigabytes at a million of them


@dataclass(frozen=True)
class RunSettings:
    """How a plan is run; none of it changes the label set.

    threads: CPU threads of each teacher process. deadline_s: how long a small batch may take; it grows with the batch.
    """

    workers: int = 2
    threads: int = 1
    scheduler: str | None = None
    teacher_python: Path | None = None
    deadline_s: float = DEADLINE_S
    progress: bool = True


@dataclass(frozen=True)
class LabelResult:
    """What was done: the label set's folder, its manifest, and the seconds and structures of this call alone."""

    path: Path
    manifest: dict[str, Any]
    n_labelled_now: int
    seconds: float

    @property
    def n_quarantined(self) -> int:
        return int(self.manifest["counts"]["n_quarantined"])


def label(
    settings: plans.LabelSettings,
    out: Path,
    data: Path | None = None,
    run: RunSettings = RunSettings(),
    say: Callable[[str], None] = print,
) -> LabelResult:
    """Label a subset into the directory `out`; the same call again continues what was begun, or finds it done.

    Raises InputError, TeacherError (TeacherMissing, TeacherCrashed), PlanMismatch, LabelSetError. Structures that cannot be
    labelled do not raise: they are in the manifest's quarantine.
    """
    started = time.monotonic()
    out = out.resolve()
    plan, request = prepare(settings, out, data, run.teacher_python, run.threads, say)
    if (out / MANIFEST).exists():
        say(f"{out.name}/ is complete already; nothing to do.")
        return LabelResult(out, read_manifest(out), 0, time.monotonic() - started)
    labelled = _label_missing(plan, out, request, run)
    manifest = _finish_once(out, plan)
    return LabelResult(out, manifest, labelled, time.monotonic() - started)


def _label_missing(plan: plans.Plan, folder: Path, request: TeacherRequest, run: RunSettings) -> int:
    """Label every missing chunk; returns the structures labelled by this call."""
    missing = plans.missing(plan, folder)
    if not missing:
        return 0
    sizes = {chunk: plan.chunk_starts[chunk + 1] - plan.chunk_starts[chunk] for chunk in missing}
    labelled = products = 0
    begun = time.monotonic()
    workers = min(run.workers, len(missing))
    with (
        connect(run.scheduler, workers) as client,
        progress(n := plan.spool.n_structures, "structures", "labelling", run.progress, n - sum(sizes.values())) as bar,
    ):
        python = str(interpreter(request.family, run.teacher_python))
        for receipt in _receipts(client, missing, str(folder), python, request, run.threads, run.deadline_s):
            labelled += receipt.n_labelled
            products += receipt.n_products
            rate = products / (time.monotonic() - begun)
            bar.advance(sizes[receipt.chunk], products_per_s=f"{rate:.3g}")
    return labelled


def _receipts(client: Client, chunks: list[int], *work: Any) -> Iterator[Receipt]:
    """Receipts as chunks are done, with a window of chunks in flight."""
    from distributed import as_completed

    waiting = iter(chunks)

    def submit(chunk: int) -> Future:
        return client.submit(label_on_worker, chunk, *work, pure=False)

    done = as_completed([submit(chunk) for chunk in islice(waiting, CHUNKS_PER_WORKER * n_workers(client))])
    for future in done:
        yield _result(future)
        for chunk in islice(waiting, 1):
            done.add(submit(chunk))


def _result(future: Future) -> Receipt:
    """The receipt of a finished chunk; what went wrong with the cluster becomes a sentence."""
    from distributed.scheduler import KilledWorker

    try:
        receipt: Receipt = future.result()
    except KilledWorker as error:
        raise HDistillError(
            f"Dask workers died while they labelled ({error}); all finished chunks are kept: run the same command again, "
            "with more memory for the workers."
        ) from error
    except OSError as error:
        raise HDistillError(
            f"A worker cannot read or write the output directory ({error}); all finished chunks are kept: make room or mend "
            "the permissions, then run the same command again."
        ) from error
    return receipt


_HOSTS: dict[tuple[Any, ...], TeacherHost] = {}  # of this worker process: the teacher is loaded once, not once a chunk


def label_on_worker(
    chunk: int, folder: str, python: str, request: TeacherRequest, threads: int, deadline_s: float
) -> Receipt:
    """Runs on a Dask worker: label one chunk with the worker's own teacher process."""
    key = (python, repr(request), threads, deadline_s)
    if key not in _HOSTS:
        for other in _HOSTS.values():  # a long-lived worker serves one run after another: let the former teacher go
            other.close()
        _HOSTS.clear()
        path = Path(python) if Path(python).exists() else interpreter(request.family)
        _HOSTS[key] = TeacherHost(path, request, threads, deadline_s)
    return label_chunk(Path(folder), chunk, _HOSTS[key])


def _finish_once(folder: Path, plan: plans.Plan) -> dict[str, Any]:
    """Shards and manifest; another labeler on the same directory may have been quicker, which is as good."""
    try:
        return finish(folder, plan)
    except LabelSetError:
        if (folder / MANIFEST).exists():
            return read_manifest(folder)
        raise
