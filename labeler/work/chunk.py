"""The whole life of one chunk: read, check, ask the teacher, check again, publish. Runs on a Dask worker; may run twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.format import shard
from hdistill.data.format.shard_file import image
from hdistill.data.probes import draw
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.data.support.publish import publish

from ..planning import checks, plan as plans
from ..planning.symmetry import Ask, sparing
from ..process.batching import RADIUS, edges, pack
from ..process.host import TeacherHost
from ..process.parent import TeacherException, TeacherHung, TeacherOutOfMemory

# A crash may have been somebody else's doing (a kill, another's memory): a whole batch and a lone structure are asked twice
# before they are blamed, so that the labels of an innocent batch keep their bytes. What lies between is asked once.
ATTEMPTS = 2


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
    # Dask runs a task again when a worker dies; another labeler may be quicker.
    if plans.chunk_path(folder, chunk).exists():
        return Receipt(chunk, 0, 0, 0)
    plan = plans.load_cached(folder)
    entries = plans.structures_of(plan, folder, chunk)
    outcome: list[Labels | Failure | None] = [None] * len(entries)
    for i, (structure, _) in enumerate(entries):
        problem = checks.structure_problem(structure, plan.teacher["elements"])
        outcome[i] = Failure("bad structure", problem, 0) if problem else None
    fit = [i for i, failure in enumerate(outcome) if failure is None]
    sizes = [edges(entries[i][0]) for i in fit]
    # Of forces without an energy, displacements give rows only where all are asked for.
    by_symmetry = plan.teacher["conservative"] or plan.teacher["hessian_method"] == "autograd"
    ask = sparing(host.label) if by_symmetry else host.label
    for batch in pack(sizes, plan.batch_edges):
        structures = [entries[fit[j]][0] for j in batch]
        n_edges = [sizes[j] for j in batch]
        directions = [draw(plan.hessian, plan.settings.seed, s.id, s.n_atoms) for s in structures]
        for j, labels in zip(batch, label_or_name(ask, structures, directions, n_edges), strict=True):
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


def label_or_name(
    ask: Ask,
    structures: Sequence[Structure],
    directions: Sequence[Directions | None],
    n_edges: Sequence[int],
    attempts: int = ATTEMPTS,
) -> list[Labels | Failure]:
    """Labels of a batch; where the teacher fails on it, halves of the batch, until the culprits are alone and named.

    n_edges: pairs of each structure. attempts: how often this batch is given to a teacher that crashes.
    """
    for attempt in range(1, attempts + 1):
        try:
            return list(ask(structures, directions, sum(n_edges)))
        except TeacherError as error:
            failure = _failure(error, structures[0], n_edges[0], attempt)
            lone_out_of_memory = isinstance(error, TeacherOutOfMemory) and len(structures) == 1
            if not (isinstance(error, TeacherCrashed) or lone_out_of_memory):
                break
    if len(structures) == 1:
        return [failure]
    middle = len(structures) // 2
    halves = (slice(None, middle), slice(middle, None))
    return [
        outcome
        for half in halves
        for outcome in label_or_name(
            ask,
            structures[half],
            directions[half],
            n_edges[half],
            ATTEMPTS if len(structures[half]) == 1 else 1,
        )
    ]


def _failure(error: TeacherError, structure: Structure, n_edges: int, attempt: int) -> Failure:
    text = str(error)
    if isinstance(error, TeacherOutOfMemory) or "bad_alloc" in text:
        size = f"{structure.n_atoms} atoms with {n_edges} pairs within {RADIUS:g} A"
        return Failure("out of memory", f"It does not fit into memory: {size}. {text}", attempt)
    if isinstance(error, TeacherHung):
        return Failure("teacher hung", text, attempt)
    if isinstance(error, TeacherCrashed):
        return Failure("teacher crashed", text, attempt)
    return Failure("teacher raised" if isinstance(error, TeacherException) else "teacher refused", text, attempt)


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
    products = [s.labels.hessian for s in samples if s.labels.hessian is not None]
    errors = shard.codec_errors(samples, arrays)
    attributes = {
        "plan": plan.digest,
        "n_computed": sum(len(h.values) if h.n_computed is None else h.n_computed for h in products),
        "codec_error_sum": float(errors.sum()),
        "codec_error_max": float(errors.max(initial=0.0)),
    }
    publish(plans.chunk_path(folder, chunk), image(arrays, attributes))
