"""The whole life of one chunk: read, check, ask the teacher, check again, publish. Runs wherever an executor has workers; may run
twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from hdistill.data.format import shard
from hdistill.data.format.shard_file import image
from hdistill.data.probes import draw
from hdistill.data.structure import Directions, Labels, Structure
from hdistill.data.support.publish import publish

from ..planning import checks
from ..planning.plan import Plan, chunk_path, load_cached, quarantine_path, structures_of
from ..planning.symmetry import sparing
from ..process.batching import n_pairs, pack
from ..process.host import TeacherHost
from .bisection import Failure, label_with_bisection

Lend = Callable[[], AbstractContextManager[TeacherHost]]
Outcome = Labels | Failure


@dataclass(frozen=True)
class Receipt:
    """What a worker sends back: a few numbers, never arrays."""

    chunk: int
    n_labelled: int
    n_quarantined: int
    n_products: int


@dataclass(frozen=True)
class _Batch:
    """What the teacher is asked at once: places in the chunk, structures, directions and pairs of each."""

    places: list[int]
    structures: list[Structure]
    directions: list[Directions | None]
    n_pairs: list[int]


def label_chunk(folder: Path, chunk: int, lend: Lend) -> Receipt:
    """Label one chunk of the plan in `folder` and publish it; a chunk that is already there is left alone.

    lend: gives a teacher, which is kept only while it is asked. Raises OSError, LabelSetError (a damaged plan or spool),
    TeacherWillNotStart; whatever one structure does to the teacher is a row in the quarantine.
    """
    if chunk_path(folder, chunk).exists():  # Dask runs a task again when a worker dies; another labeler may be quicker
        return Receipt(chunk, 0, 0, 0)
    plan = load_cached(folder)
    entries = structures_of(plan, folder, chunk)
    structures = [structure for structure, _ in entries]
    outcomes: list[Outcome | None] = [_refusal(structure, plan) for structure in structures]
    batches = _batches(structures, [i for i, outcome in enumerate(outcomes) if outcome is None], plan)
    # Of forces without an energy, displacements give rows only where all are asked for.
    by_symmetry = plan.teacher["conservative"] or plan.teacher["hessian_method"] == "autograd"
    with lend() as teacher:
        label = plan.asking(teacher.label)
        ask = sparing(label) if by_symmetry else label
        for batch in batches:
            answers = label_with_bisection(ask, batch.structures, batch.directions, batch.n_pairs)
            for place, answer in zip(batch.places, answers, strict=True):
                outcomes[place] = answer
    outcomes = [_checked(s, x, plan) for s, x in zip(structures, outcomes, strict=True)]
    samples = [
        shard.Sample(s, x, split) for (s, split), x in zip(entries, outcomes, strict=True) if isinstance(x, Labels)
    ]
    failures = [(s, x) for s, x in zip(structures, outcomes, strict=True) if isinstance(x, Failure)]
    _publish(folder, chunk, plan, samples, failures)
    n_products = sum(0 if s.labels.hessian is None else len(s.labels.hessian.values) for s in samples)
    return Receipt(chunk, len(samples), len(failures), n_products)


def _refusal(structure: Structure, plan: Plan) -> Failure | None:
    problem = checks.structure_problem(structure, plan.teacher["elements"])
    return None if problem is None else Failure("bad structure", problem, 0)


def _batches(structures: Sequence[Structure], places: Sequence[int], plan: Plan) -> list[_Batch]:
    """The structures at some places of a chunk, packed as the plan says, each with its directions."""
    sizes = [n_pairs(structures[i]) for i in places]
    batches = []
    for members in pack(sizes, plan.batch_edges):
        chosen = [structures[places[j]] for j in members]
        directions = [draw(plan.hessian, plan.settings.seed, s.id, s.n_atoms) for s in chosen]
        batches.append(_Batch([places[j] for j in members], chosen, directions, [sizes[j] for j in members]))
    return batches


def _checked(structure: Structure, outcome: Outcome | None, plan: Plan) -> Outcome | None:
    if not isinstance(outcome, Labels):
        return outcome
    problem = checks.labels_problem(outcome, plan.teacher["conservative"], structure.n_atoms)
    return outcome if problem is None else Failure("bad labels", problem, 1)


def _publish(
    folder: Path,
    chunk: int,
    plan: Plan,
    samples: Sequence[shard.Sample],
    failures: Sequence[tuple[Structure, Failure]],
) -> None:
    """Quarantine first, under the hash of its contents, then the chunk, which states that hash: whichever attempt's chunk
    stands, its own quarantine stands with it."""
    sha256 = _publish_quarantine(folder, chunk, failures) if failures else ""
    arrays = shard.to_arrays(samples, plan.settings.codec)
    products = [s.labels.hessian for s in samples if s.labels.hessian is not None]
    errors = shard.codec_errors(samples, arrays)
    attributes = {
        "plan": plan.digest,
        "chunk": chunk,
        "quarantine": sha256,
        "n_computed": sum(len(h.values) if h.n_computed is None else h.n_computed for h in products),
        "codec_error_sum": float(errors.sum()),
        "codec_error_max": float(errors.max(initial=0.0)),
    }
    publish(chunk_path(folder, chunk), image(arrays, attributes))


def _publish_quarantine(folder: Path, chunk: int, failures: Sequence[tuple[Structure, Failure]]) -> str:
    """Write the rows of the structures that have no labels; returns the sha256 of the file."""
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
    data = json.dumps(rows, indent=1).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    publish(quarantine_path(folder, chunk, sha256), data, replace=True)  # what stands there may be damaged
    return sha256
