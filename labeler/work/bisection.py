"""Asking a teacher for a batch so that one structure never harms another: halves of halves, until the culprits are named.

Everything that asks a teacher for labels of structures it has not seen goes through here: chunks, audits, dry runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hdistill.data.errors import TeacherCrashed, TeacherError
from hdistill.data.structure import Directions, Labels, Structure

from ..planning.symmetry import Ask
from ..process.batching import RADIUS
from ..process.parent import TeacherBadLabels, TeacherException, TeacherHung, TeacherOutOfMemory

# A crash may have been somebody else's doing (a kill, another's memory): a whole batch and a lone structure are asked twice
# before they are blamed, so that the labels of an innocent batch keep their bytes. What lies between is asked once.
ATTEMPTS = 2


@dataclass(frozen=True)
class Failure:
    """Why one structure has no labels: a reason code, words, and how often the teacher was asked."""

    reason: str
    text: str
    attempts: int


def label_with_bisection(
    ask: Ask,
    structures: Sequence[Structure],
    directions: Sequence[Directions | None],
    n_pairs: Sequence[int],
    attempts: int = ATTEMPTS,
) -> list[Labels | Failure]:
    """Labels of a batch; where the teacher fails on it, halves of the batch, until the culprits are alone and named.

    n_pairs: pairs of each structure. attempts: how often this batch is given to a teacher that crashes.
    """
    for attempt in range(1, attempts + 1):
        try:
            return list(ask(structures, directions, sum(n_pairs)))
        except TeacherError as error:
            failure = _failure(error, structures[0], n_pairs[0], attempt)
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
        for outcome in label_with_bisection(
            ask,
            structures[half],
            directions[half],
            n_pairs[half],
            ATTEMPTS if len(structures[half]) == 1 else 1,
        )
    ]


def _failure(error: TeacherError, structure: Structure, n_pairs: int, attempt: int) -> Failure:
    text = str(error)
    if isinstance(error, TeacherOutOfMemory) or "bad_alloc" in text:
        size = f"{structure.n_atoms} atoms with {n_pairs} pairs within {RADIUS:g} A"
        return Failure("out of memory", f"It does not fit into memory: {size}. {text}", attempt)
    if isinstance(error, TeacherHung):
        return Failure("teacher hung", text, attempt)
    if isinstance(error, TeacherCrashed):
        return Failure("teacher crashed", text, attempt)
    if isinstance(error, TeacherBadLabels):
        return Failure("bad labels", text, attempt)
    return Failure("teacher raised" if isinstance(error, TeacherException) else "teacher refused", text, attempt)
