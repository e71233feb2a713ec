"""A real, tiny teacher: a 12-6 Lennard-Jones pair potential, twice continuously differentiable at its cutoff.

    E = sum_pairs phi(r),   phi(r) = 4 eps [(sigma/r)^12 - (sigma/r)^6] s(r)

s(r) is 1 below r_on and falls to 0 at r_cut as 1 - 10 x^3 + 15 x^4 - 6 x^5, x = (r - r_on)/(r_cut - r_on). The same eps and
sigma for every element. It needs no download, no torch and milliseconds to start, so tests, tutorials and benchmarks of
everything around a teacher run on it. With u = d/r of a pair and w = v_j - v_i, its part of the product H v is

    phi'' (u.w) u + phi'/r (w - (u.w) u)   on j, and minus that on i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Directions, HessianProducts, Labels, Structure

from .about import describe
from .contract import TeacherRequest, check_elements, check_no_task, check_signals
from .geometry import in_standard_cell
from .light import import_vesin_without_torch

EPSILON = 0.0104  # eV, argon
SIGMA = 3.4  # A, argon
R_ON, R_CUT = 5.0, 6.5  # A
ELEMENTS = tuple(range(1, 119))

Array = NDArray[np.float64]


class Pairs(NamedTuple):
    """Each pair of a structure once: atoms i, j (E,), unit vectors u (E,3) from i to j, distances r (E,) A."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    u: Array
    r: Array


class LennardJones:
    def __init__(self, request: TeacherRequest):
        import_vesin_without_torch()
        check_no_task(request)
        request = check_signals(request, atom_energies=True, node_features=False)
        self.dtype = np.dtype(request.dtype)
        self.atom_energies = request.atom_energies
        self.info = replace(describe(request, ELEMENTS, ["numpy"], hessian_method="analytic"), device="cpu")

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, ELEMENTS, self.info.name)
        return [self._label_one(s, d) for s, d in zip(structures, directions, strict=True)]

    def _label_one(self, structure: Structure, wanted: Directions | None) -> Labels:
        pairs = _pairs(structure)
        phi, slope, curvature = pair_energy(pairs.r)
        n = structure.n_atoms
        forces = -_on_atoms(slope[:, None] * pairs.u, pairs, n)
        stress = None
        if structure.pbc.all():
            virial = np.einsum("e,ea,eb->ab", slope * pairs.r, pairs.u, pairs.u)
            stress = (virial / abs(np.linalg.det(structure.cell))).astype(self.dtype)
        hessian = None
        if wanted is not None:
            products = [_product(v, pairs, slope, curvature, n) for v in wanted.vectors(n)]
            hessian = HessianProducts(wanted, np.stack(products).astype(self.dtype))
        per_atom = None
        if self.atom_energies:  # half of a pair is each atom's
            per_atom = (np.bincount(pairs.i, phi, n) + np.bincount(pairs.j, phi, n)) / 2
        return Labels(float(phi.sum()), forces.astype(self.dtype), stress, hessian, per_atom)


def pair_energy(r: Array) -> tuple[Array, Array, Array]:
    """phi (eV), phi' (eV/A) and phi'' (eV/A^2) at distances r (E,) A; exactly zero from R_CUT on."""
    s6 = (SIGMA / r) ** 6
    f = 4 * EPSILON * (s6 * s6 - s6)
    df = 4 * EPSILON * (6 * s6 - 12 * s6 * s6) / r
    d2f = 4 * EPSILON * (156 * s6 * s6 - 42 * s6) / r**2
    width = R_CUT - R_ON
    x = np.clip((r - R_ON) / width, 0.0, 1.0)
    s = 1 + x**3 * (-10 + x * (15 - 6 * x))
    ds = -30 * x**2 * (1 - x) ** 2 / width
    d2s = -60 * x * (1 - x) * (1 - 2 * x) / width**2
    return f * s, df * s + f * ds, d2f * s + 2 * df * ds + f * d2s


def _product(v: Array, pairs: Pairs, slope: Array, curvature: Array, n: int) -> Array:
    w = v[pairs.j] - v[pairs.i]
    along = (pairs.u * w).sum(axis=1, keepdims=True) * pairs.u
    return _on_atoms(curvature[:, None] * along + (slope / pairs.r)[:, None] * (w - along), pairs, n)


def _on_atoms(values: Array, pairs: Pairs, n: int) -> Array:
    """Sum of pair vectors (E,3) on atoms (n,3): plus on j, minus on i."""
    total = np.zeros((n, 3))
    np.add.at(total, pairs.j, values)
    np.subtract.at(total, pairs.i, values)
    return total


def _pairs(structure: Structure) -> Pairs:
    import vesin

    neighbors = vesin.NeighborList(cutoff=R_CUT, full_list=False)
    s = in_standard_cell(structure, R_CUT)
    i, j, d = neighbors.compute(s.positions, s.cell, s.pbc, quantities="ijD")
    r = np.linalg.norm(d, axis=1)
    return Pairs(i.astype(np.int64), j.astype(np.int64), d / r[:, None], r)


load = LennardJones
