"""What drives dynamics and relaxation: any function of several structures. Models are not in here, only what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..structure import Float, Structure

STEP = 0.01  # A, of central differences of forces


@dataclass(frozen=True, eq=False)
class Driven:
    """Energy in eV, forces (N,3) in eV/A, stress (3,3) in eV/A^3 where there is one, and how unfamiliar each atom's surroundings
    are (N,), where the driver knows: above 1, unlike what it was trained on."""

    energy: float
    forces: Float
    stress: Float | None = None
    unfamiliar: Float | None = None


Driver = Callable[[Sequence[Structure]], Sequence[Driven]]


def hessian_by_forces(structure: Structure, driver: Driver, at_once: int = 64) -> NDArray[np.float64]:
    """The Hessian +d2E/dR2 (3N,3N) in eV/A^2 by central differences of a driver's forces, made symmetric; 6N calls in batches."""
    from dataclasses import replace

    n = 3 * structure.n_atoms
    moved = []
    for coordinate in range(n):
        for sign in (1, -1):
            positions = np.array(structure.positions, np.float64)
            positions.reshape(-1)[coordinate] += sign * STEP
            moved.append(replace(structure, positions=positions))
    forces: list[NDArray[np.float64]] = []
    for first in range(0, len(moved), at_once):
        forces += [np.asarray(each.forces, np.float64).reshape(-1) for each in driver(moved[first : first + at_once])]
    rows = np.array([-(plus - minus) / (2 * STEP) for plus, minus in zip(forces[::2], forces[1::2], strict=True)])
    hessian: NDArray[np.float64] = 0.5 * (rows + rows.T)
    return hessian
