"""Hessian products by forward differences of forces: displaced copies share batches with the structure itself.

v . H = -(F(R + h v) - F(R)) / h, wrong by h/2 times the third derivative along v and by the rounding of the forces over h. It asks
a teacher for energies and forces alone, so it also serves those without second derivatives. What is had so is a column of the
Hessian; it is a row only where the forces are the gradient of an energy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hdistill.data.errors import TeacherError
from hdistill.data.hessian import products_by_differences
from hdistill.data.structure import Directions, HessianProducts, Labels, Structure

from ..process.batching import cut_greedily, n_pairs

if TYPE_CHECKING:  # a benchmark runs this beside a teacher, which has no msgspec
    from hdistill.data.labelsets.agreement import Tolerance

METHOD = "forward differences"  # hessian_method of such labels
STEP = 1e-3  # A
CENTRAL_STEP = 2e-3  # A, of what forward differences are judged by where nothing better is to be had
MAX_ERROR = 0.01  # relative to differentiation, above which `auto` does not take differences
REFUSED = 0.05  # above which they are no labels, whatever was asked for
N_TIMED = 3
FLOOR = 1e-2  # eV/A^2

Label = Callable[[Sequence[Structure], Sequence[Directions | None], int], list[Labels]]


def by_differences(label: Label, batch_edges: int, step: float = STEP) -> Label:
    """A `label` that gives products by asking another for forces of displaced copies, about batch_edges pairs at once."""

    def ask(structures: Sequence[Structure], directions: Sequence[Directions | None], _: int) -> list[Labels]:
        copies: list[Structure] = []
        sizes: list[int] = []
        for structure, wanted in zip(structures, directions, strict=True):
            copies += [structure, *_displaced(structure, wanted, step)]
            sizes += [n_pairs(structure)] * (len(copies) - len(sizes))
        bounds = [*cut_greedily(sizes, batch_edges, len(copies)), len(copies)]
        answers: list[Labels] = []
        for start, end in pairwise(bounds):
            answers += label(copies[start:end], [None] * (end - start), sum(sizes[start:end]))
        rest = iter(answers)
        return [
            _joined(next(rest), [next(rest) for _ in range(len(wanted or ()))], wanted, step) for wanted in directions
        ]

    return ask


def _displaced(structure: Structure, wanted: Directions | None, step: float) -> list[Structure]:
    if wanted is None:
        return []
    vectors = wanted.vectors(structure.n_atoms)
    return [replace(structure, positions=structure.positions + step * vector) for vector in vectors]


def _joined(here: Labels, ahead: Sequence[Labels], wanted: Directions | None, step: float) -> Labels:
    if wanted is None:
        return here
    forces = np.stack([np.asarray(labels.forces, np.float64) for labels in ahead])
    values = -(forces - np.asarray(here.forces, np.float64)) / step
    return replace(here, hessian=HessianProducts(wanted, values.astype(np.asarray(here.forces).dtype)))


def compared(label: Label, structure: Structure, wanted: Directions, batch_edges: int, exact: bool) -> dict[str, Any]:
    """How far differences are from the teacher's own products, or (exact=False) from central differences, and the seconds of both.

    Seconds are the best of N_TIMED turns, taken in turn; None for what was not asked. Raises TeacherError.
    """
    differences = by_differences(label, batch_edges)
    size = n_pairs(structure)
    own: list[float] = []
    theirs: list[float] = []
    for _ in range(N_TIMED if exact else 1):
        began = time.perf_counter()
        (forward,) = differences([structure], [wanted], size)
        theirs.append(time.perf_counter() - began)
        if exact:
            began = time.perf_counter()
            (truth,) = label([structure], [wanted], size)
            own.append(time.perf_counter() - began)
    assert forward.hessian is not None
    if exact:
        assert truth.hessian is not None
        products = np.asarray(truth.hessian.values, np.float64)
    else:
        products = products_by_differences(
            lambda positions: np.asarray(
                label([replace(structure, positions=positions)], [None], size)[0].forces, np.float64
            ),
            structure.positions,
            wanted.vectors(structure.n_atoms),
            CENTRAL_STEP,
        )
    error = np.linalg.norm(forward.hessian.values - products) / max(float(np.linalg.norm(products)), FLOOR)
    return {
        "forward_difference_error": float(error),
        "forward_difference_seconds": min(theirs),
        "own_product_seconds": min(own, default=None),
    }


def chosen(figures: dict[str, Any], asked: str, name: str) -> tuple[bool, str]:
    """Whether products are made by differences, and the line that says so and why. Raises TeacherError where they are too wrong."""
    error, seconds, own = (figures[f"{key}"] for key in _KEYS)
    if asked == "difference":
        if not error <= REFUSED:
            raise TeacherError(
                f"Forward differences of {name}'s forces at {STEP:g} A are {error:.1%} from central ones (at most {REFUSED:.0%}): its "
                "forces are too rough or rounded too coarsely. Use --products autograd, or --dtype float64."
            )
        return True, f"Hessian products by forward differences, as asked: {error:.2%} from central ones."
    ratio = f"{error:.2%} from the teacher's own and {own / seconds:.2f} times as fast"
    if error <= MAX_ERROR and seconds < own:
        return True, f"Hessian products by forward differences: {ratio}."
    why = f"more than {MAX_ERROR:.0%} off" if not error <= MAX_ERROR else "not faster"
    return False, f"Hessian products by the teacher's own second derivatives: forward differences are {why} ({ratio})."


_KEYS = ("forward_difference_error", "forward_difference_seconds", "own_product_seconds")


def without_figures(preflight: dict[str, Any]) -> dict[str, Any]:
    """The pre-flight figures as a manifest has them: seconds are of the plan alone, the method is the teacher's hessian_method."""
    return {key: value for key, value in preflight.items() if key not in _KEYS}


def widened(allowed: Tolerance, hessian_method: str, dtype: str) -> Tolerance:
    """What two labels may differ by where products are differences of float32 forces, whose rounding depends on the batch."""
    if hessian_method != METHOD or dtype == "float64":
        return allowed
    return replace(allowed, products=allowed.products + MAX_ERROR)


def require_gradient(conservative: bool, name: str) -> None:
    """Raise TeacherError where displaced forces would be columns of a Hessian that is not symmetric."""
    if not conservative:
        raise TeacherError(
            f"The forces of {name} are not the gradient of its energy, so differences of them are columns of the Hessian, not rows. "
            "Use --products autograd."
        )
