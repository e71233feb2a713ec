"""Displacements that a temperature makes along the normal modes.

    H_mw = M^-1/2 H M^-1/2,   H_mw e_k = w_k^2 e_k,   u = M^-1/2 sum_k e_k q_k
    classical:  <q_k^2> = kT / w_k^2            quantum:  <q_k^2> = hbar / (2 w_k) coth(hbar w_k / 2 kT)

Soft and imaginary modes have |w^2|, and no mode less than `softest`: else structures fly apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray

from ..structure import Structure
from ..support.checked import Above, AtLeast
from .child import child
from .driver import hessian_by_forces
from .world import World

Array = NDArray[np.float64]
HBAR = units._hbar * units.J * units.s  # in eV and ASE's time, A sqrt(u/eV)
INVERSE_CM = units.invcm / HBAR  # w of 1 cm^-1


@dataclass(frozen=True)
class Modes:
    """n: structures of each temperature; above: times the temperature; softest: cm^-1, what a mode counts as at least."""

    n: Annotated[int, AtLeast(1)] = 6
    above: Annotated[float, Above(0)] = 1.0
    softest: Annotated[float, Above(0)] = 40.0
    quantum: bool = False


def modes(start: Structure, amounts: Modes, world: World) -> Iterator[Structure]:
    """The Hessian is the driver's, by differences of its forces at `start`, which should be near a minimum."""
    squares, vectors = normal_modes(start, hessian_by_forces(start, world.require_driver("modes")))
    for temperature in world.temperatures:
        for _ in range(amounts.n):
            shift = thermal(squares, vectors, amounts.above * temperature, world.rng, amounts.softest, amounts.quantum)
            yield child(start, "modes", start.positions + shift.reshape(-1, 3), temperature=amounts.above * temperature)


def normal_modes(structure: Structure, hessian: Array) -> tuple[Array, Array]:
    """w^2 (M,) in eV/(A^2 u), ascending, and displacements M^-1/2 e_k (M,3N), without motion of the whole and, of molecules, turns.

    hessian (3N,3N) in eV/A^2.
    """
    roots = np.repeat(atomic_masses[structure.numbers] ** 0.5, 3)
    inner = _inner_space(structure, roots)
    weighted = 0.5 * (hessian + hessian.T) / np.outer(roots, roots)
    squares, vectors = np.linalg.eigh(inner.T @ weighted @ inner)
    return squares, (inner @ vectors).T / roots


def thermal(
    squares: Array,
    vectors: Array,
    temperature: float,
    rng: np.random.Generator,
    softest: float = 40.0,
    quantum: bool = False,
) -> Array:
    """A displacement (3N,) in A at a temperature in K; softest in cm^-1."""
    w = np.sqrt(np.maximum(np.abs(squares), (softest * INVERSE_CM) ** 2))
    kt = units.kB * temperature
    variance = HBAR / (2 * w) / np.tanh(HBAR * w / (2 * kt)) if quantum else kt / w**2
    shift: Array = (np.sqrt(variance) * rng.normal(size=len(w))) @ vectors
    return shift


def _inner_space(structure: Structure, roots: Array) -> Array:
    """Orthonormal mass-weighted vectors (3N,M) that leave the whole where it is."""
    n = structure.n_atoms
    outer = [np.tile(axis, n) for axis in np.eye(3)]
    if not structure.pbc.any():
        centred = structure.positions - np.average(structure.positions, axis=0, weights=roots[::3] ** 2)
        outer += [np.cross(axis, centred).reshape(-1) for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd((np.array(outer) * roots).T, full_matrices=True)
    rank = int((sizes > 1e-6 * sizes.max()).sum())
    inner: Array = left[:, rank:]
    return inner
