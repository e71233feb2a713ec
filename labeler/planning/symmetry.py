"""Rows of the Hessian of a perfect crystal that follow from others: the teacher is asked for a few, the rest are rebuilt.

An operation g of the space group turns directions by R (Cartesian, a rotation) and moves atom a to the place of atom g(a).
Energies do not change under it, so

    H_{g(a),g(b)} = R H_{ab} R^T.

With h(a,y) the row of the unit displacement y of atom a, h(a,y)_b = y^T H_{ab}, this reads

    h(g(a), R y)_{g(b)} = R h(a,y)_b :

one computed row of atom a gives, by the operations that fix a, the rows of a along every R y, and by the others the rows of all
equivalent atoms. Of cubic SrTiO3 that leaves 4 rows of 15: one of Sr, one of Ti, two of O. The symmetry of H itself is not
used, so the same holds for direct-force teachers, whose rows are of -dF/dR.

What is computed stays as the teacher gave it; a rebuilt row is a mean over all operations that lead to it, so it is off by what
the teacher breaks of the symmetry: in float32 its rounding, and more where a model works on a grid of directions (fairchem's
`ff_type: grid`, whose forces turn to about 1e-3). A teacher may break yet more of it: a neighbour limit cuts a shell, a calculator
has magnetic moments. So one more row is asked, a witness, and compared with what the others make of it.

Operations come from space_group.py. Slabs and molecules are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Directions, Float, HessianProducts, Labels, Structure

from .space_group import Array, Operation, after, carry, inverse, operations

IN_SPAN = 1e-8  # what may be left of a unit direction outside of a span that holds it
WELL_WITHIN = 0.1  # of a unit direction: what the span of rebuilt rows must hold of it; below, noise would be amplified
# What a teacher may break of the symmetry before all rows are asked of it: of its largest element, and in eV/A for forces.
MAX_BROKEN = 2e-3
FORCE_FLOOR = 2e-3

Ask = Callable[
    [Sequence[Structure], Sequence[Directions | None], int], list[Labels]
]  # a batch, and how many pairs it has


class Term(NamedTuple):
    """A part of a rebuilt row: `weight` times the asked row number `asked`, carried over by `operation`."""

    weight: float
    asked: int
    operation: Operation


@dataclass(frozen=True)
class Reduction:
    """What to ask instead of all wanted rows, the witness last. rows[k] is the number of an asked row, or terms that sum to row k."""

    asked: Directions
    wanted: Directions
    rows: list[int | list[Term]]
    witness: list[Term]
    group: list[Operation]

    def rebuild(self, values: Float) -> Float:
        """All wanted rows (K,N,3) from the asked ones (k,N,3), in their dtype."""
        rebuilt = np.empty((len(self.rows), *values.shape[1:]), values.dtype)
        for k, row in enumerate(self.rows):
            rebuilt[k] = values[row] if isinstance(row, int) else _sum(row, values)
        return rebuilt

    def is_kept_by(self, labels: Labels) -> bool:
        """Whether the forces have the symmetry of the structure, and the witness is what the other rows make of it."""
        assert labels.hessian is not None
        forces = np.asarray(labels.forces, np.float64)
        if forces.shape != (len(self.group[0].image), 3) or not np.isfinite(forces).all():
            return False
        allowed = FORCE_FLOOR + MAX_BROKEN * float(np.abs(forces).max())
        if any(np.abs(carry(forces, g) - forces).max() > allowed for g in self.group):
            return False
        values = np.asarray(labels.hessian.values, np.float64)
        return float(np.abs(values[-1] - _sum(self.witness, values)).max()) <= MAX_BROKEN * float(np.abs(values).max())


def sparing(ask: Ask) -> Ask:
    """`ask`, but with fewer rows where a structure is symmetric. Probes, molecules and distorted crystals pass unchanged.

    A teacher that breaks the symmetry of a structure (a neighbour limit that cuts a shell, say) is asked for all rows of it.
    """

    def label(structures: Sequence[Structure], directions: Sequence[Directions | None], n_pairs: int) -> list[Labels]:
        reductions = [_reduce_if_possible(s, d) for s, d in zip(structures, directions, strict=True)]
        asked = [d if r is None else r.asked for d, r in zip(directions, reductions, strict=True)]
        answers = list(ask(structures, asked, n_pairs))
        again = []
        for i, reduction in enumerate(reductions):
            if reduction is not None and reduction.is_kept_by(answers[i]):
                answers[i] = _rebuilt(answers[i], reduction)
            elif reduction is not None:
                again.append(i)
        if again:
            whole = ask([structures[i] for i in again], [directions[i] for i in again], n_pairs)
            for i, labels in zip(again, whole, strict=True):
                answers[i] = labels
        return answers

    return label


def _reduce_if_possible(structure: Structure, directions: Directions | None) -> Reduction | None:
    """None, so that all rows are asked, where the arithmetic of symmetry fails on a structure: a cell that is nearly flat, say."""
    try:
        return reduce(structure, directions)
    except (ArithmeticError, LookupError, ValueError):  # of which numpy's LinAlgError is one
        return None


def _rebuilt(labels: Labels, reduction: Reduction) -> Labels:
    assert labels.hessian is not None
    values = reduction.rebuild(labels.hessian.values)
    return replace(labels, hessian=HessianProducts(reduction.wanted, values, len(reduction.asked)))


def reduce(structure: Structure, directions: Directions | None) -> Reduction | None:
    """The fewest of the wanted rows from which symmetry makes all of them, and a witness; None where that is all of them.

    Atoms are taken orbit by orbit. Within one, every wanted row is carried to the orbit's first atom, where it has a
    direction; rows are asked, the one that adds most to the span first, until the span holds all directions.
    """
    if directions is None or directions.coordinate is None or not structure.pbc.all() or len(directions) < 2:
        return None
    group = operations(structure)
    if len(group) < 2:
        return None
    wanted = directions.coordinate
    first = np.min([g.image for g in group], axis=0)  # the least atom of each atom's orbit
    asked: list[int] = []
    rows: list[int | list[Term]] = [-1] * len(wanted)
    for atom in sorted(set(first[wanted // 3].tolist())):
        of_orbit = np.flatnonzero(first[wanted // 3] == atom)
        _reduce_orbit(atom, of_orbit, wanted, group, asked, rows)
    rebuilt = [k for k, row in enumerate(rows) if not isinstance(row, int)]
    if len(rebuilt) < 2:
        return None
    k = rebuilt[int(structure.id[:8], 16) % len(rebuilt)]  # any: over many structures all kinds of rows are compared
    witness, rows[k] = rows[k], len(asked)
    assert isinstance(witness, list)
    asked.append(int(wanted[k]))
    return Reduction(Directions("rows", coordinate=np.array(asked, np.int32)), directions, rows, witness, group)


def _reduce_orbit(
    atom: int,
    of_orbit: NDArray[np.int64],
    wanted: NDArray[np.int32],
    group: list[Operation],
    asked: list[int],
    rows: list[int | list[Term]],
) -> None:
    """Decide for the wanted rows `of_orbit` of one orbit: appends to asked, fills in rows."""
    fixing = [g for g in group if g.image[atom] == atom]
    turns = np.stack([g.turn for g in fixing])
    home = {int(a): next(g for g in group if g.image[a] == atom) for a in {int(wanted[k]) // 3 for k in of_orbit}}
    local = {int(k): home[int(wanted[k]) // 3].turn[:, int(wanted[k]) % 3] for k in of_orbit}  # R y, y a unit vector
    spans = {k: turns @ y for k, y in local.items()}  # (operations, 3)
    chosen: list[int] = []
    covered = np.zeros((3, 3))  # projector on what the chosen rows span
    while missing := [k for k, y in local.items() if k not in chosen and np.linalg.norm(y - covered @ y) > IN_SPAN]:
        # The first of those that add most: a pure function of the structure and of what is wanted.
        best = max(missing, key=lambda k: (_rank([spans[c] for c in [*chosen, k]]), -k))
        chosen.append(best)
        covered = _projector([spans[c] for c in chosen])
    numbers = {k: len(asked) + i for i, k in enumerate(chosen)}
    asked.extend(int(wanted[k]) for k in chosen)
    images = np.concatenate([spans[c] for c in chosen])
    to_weights = np.linalg.pinv(images.T, rcond=WELL_WITHIN)  # least weights: what noise there is, is averaged
    sources = [(numbers[c], after(g, home[int(wanted[c]) // 3])) for c in chosen for g in fixing]
    for k, y in local.items():
        if k in numbers:
            rows[k] = numbers[k]
            continue
        back = inverse(home[int(wanted[k]) // 3])
        rows[k] = [
            Term(float(weight), number, after(back, carried))
            for weight, (number, carried) in zip(to_weights @ y, sources, strict=True)
            if abs(weight) > 1e-12
        ]


def _projector(spans: list[Array]) -> Array:
    """The projector (3,3) on what unit directions span, without what they hold only weakly."""
    _, strength, axes = np.linalg.svd(np.concatenate(spans), full_matrices=False)
    kept = axes[strength > WELL_WITHIN * strength[0]]
    projector: Array = kept.T @ kept
    return projector


def _rank(spans: list[Array]) -> int:
    return round(float(np.trace(_projector(spans))))


def _sum(terms: list[Term], values: Float) -> Array:
    total = np.zeros(values.shape[1:])
    for term in terms:
        total += term.weight * carry(values[term.asked], term.operation)
    return total
