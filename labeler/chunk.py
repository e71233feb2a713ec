"""The whole life of one chunk: read, check, ask the teacher, check again, publish. Runs on a Dask worker; may run twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdistill.data import codec, shard
from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.probes import draw
from hdistill.data.publish import publish
from hdistill.data.shard_file import image
from hdistill.data.structure import Directions, Labels, Structure

from . import checks, plan as plans
from .batching import edges, pack
from .host import TeacherHost
from .teacher_process import TeacherException, TeacherOutOfMemory

CRASH_ATTEMPTS = 2  # a lone structure is asked twice: the first crash may have been somebody else's memory


@dataclass(frozen=True)
class Failure:
    """Why one structure has no labels: a reason code, words, and how often the teacher was asked."""

    reason: str
    text: str
    attempts: int


@dataclass(frozen=True)
class Receipt:
    """What a worker sends back: a few numbers, never arrays."""

    chunk: int
    n_labelled: int
    n_quarantined: int
    n_products: int


def label_chunk(folder: Path, chunk: int, host: TeacherHost) -> Receipt:
    """Label one chunk of the plan in `folder` and publish it; a chunk that is already there is left alone."""
    if plans.chunk_path(
        folder, chunk
    ).exists():  # Dask runs a task again when a worker dies; another labeler may be quicker
        return Receipt(chunk, 0, 0, 0)
    plan = plans.load_cached(folder)
    entries = plans.structures_of(plan, folder, chunk)
    outcome: list[Labels | Failure | None] = [None] * len(entries)
    for i, (structure, _) in enumerate(entries):
        problem = checks.structure_problem(structure, plan.teacher["elements"])
        outcome[i] = Failure("bad structure", problem, 0) if problem else None
    fit = [i for i, failure in enumerate(outcome) if failure is None]
    for batch in pack([edges(entries[i][0]) for i in fit], plan.batch_edges):
        structures = [entries[fit[j]][0] for j in batch]
        directions = [draw(plan.hessian, plan.settings.seed, s.id, s.n_atoms) for s in structures]
        for j, labels in zip(batch, label_or_name(host.label, structures, directions), strict=True):
            problem = (
                checks.labels_problem(labels, plan.teacher["conservative"]) if isinstance(labels, Labels) else None
            )
            outcome[fit[j]] = Failure("bad labels", problem, 1) if problem else labels
    samples = [
        shard.Sample(s, x, split) for (s, split), x in zip(entries, outcome, strict=True) if isinstance(x, Labels)
    ]
    failures = [(s, x) for (s, _), x in zip(entries, outcome, strict=True) if isinstance(x, Failure)]
    _publish(folder, chunk, plan, samples, failures)
    n_products = sum(0 if s.labels.hessian is None else len(s.labels.hessian.values) for s in samples)
    return Receipt(chunk, len(samples), len(failures), n_products)


Ask = Callable[[Sequence[Structure], Sequence[Directions | None]], list[Labels]]


def label_or_name(
    ask: Ask, structures: Sequence[Structure], directions: Sequence[Directions | None], attempts: int = 1
) -> list[Labels | Failure]:
    """Labels of a batch; where the teacher fails on it, halves of the batch, until the culprits are alone and named."""
    try:
        return list(ask(structures, directions))
    except TeacherError as error:
        if len(structures) > 1:
            middle = len(structures) // 2
            return [
                *label_or_name(ask, structures[:middle], directions[:middle]),
                *label_or_name(ask, structures[middle:], directions[middle:]),
            ]
        if isinstance(error, TeacherCrashed) and attempts < CRASH_ATTEMPTS:
            return label_or_name(ask, structures, directions, attempts + 1)
        return [Failure(_reason(error), str(error), attempts)]


def _reason(error: TeacherError) -> str:
    if isinstance(error, TeacherCrashed):
        return "teacher crashed"
    if isinstance(error, TeacherOutOfMemory):
        return "out of memory"
    return "teacher raised" if isinstance(error, TeacherException) else "teacher refused"


def _publish(
    folder: Path,
    chunk: int,
    plan: plans.Plan,
    samples: Sequence[shard.Sample],
    failures: Sequence[tuple[Structure, Failure]],
) -> None:
    """Quarantine first, then the chunk: a chunk that is there is wholly accounted for."""
    if failures:
        rows = [
            {
                "id": s.id,
                "reason": failure.reason,
                "text": failure.text,
                "attempts": failure.attempts,
                "n_atoms": s.n_atoms,
                "group": s.group,
                "info": dict(s.info),
            }
            for s, failure in failures
        ]
        publish(plans.quarantine_path(folder, chunk), json.dumps(rows, indent=1).encode())
    arrays = shard.to_arrays(samples, plan.settings.codec)
    products = [s.labels.hessian.values for s in samples if s.labels.hessian is not None]
    errors = np.concatenate([codec.relative_error(values, plan.settings.codec) for values in products] or [np.zeros(0)])
    attributes = {
        "plan": plan.digest,
        "codec_error_sum": float(errors.sum()),
        "codec_error_max": float(errors.max(initial=0.0)),
    }
    publish(plans.chunk_path(folder, chunk), image(arrays, attributes))
