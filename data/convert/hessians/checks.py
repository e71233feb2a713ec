"""What must hold of an imported structure and its Hessian before it is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...structure import Structure

MIN_DISTANCE = 0.4  # A
MAX_ASYMMETRY, MAX_DRIFT = 0.01, 0.01  # of the Hessian's largest element, above FLOOR
FLOOR = 0.05  # eV/A^2: what grids of integration leave
USUAL_STIFFEST = (1.0, 500.0)  # eV/A^2: the largest diagonal element of molecules is 10 to 100, of rock salt 2


def structure_problem(structure: Structure) -> str | None:
    """Why an imported structure cannot be right, or None."""
    n = structure.n_atoms
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        return "a position is not finite"
    if n > 1:
        difference = structure.positions[:, None] - structure.positions[None]
        shortest = np.linalg.norm(difference, axis=2)[np.triu_indices(n, 1)].min()
        if shortest < MIN_DISTANCE:
            return f"two atoms are {shortest:.3f} A apart; is the unit of length right?"
    if structure.ref_energy is None:
        return "it has no energy"
    return "it has no forces of its atoms" if structure.ref_forces is None else None


def hessian_problem(matrix: NDArray[np.float64], structure: Structure) -> str | None:
    """Why this Hessian (3N,3N) in eV/A^2 must not be stored, or None."""
    if not np.isfinite(matrix).all():
        return "its Hessian is not finite"
    if (problem := asymmetry_problem(matrix)) is not None:
        return problem
    largest = float(np.abs(matrix).max())
    _, drift = defects(matrix)
    if drift * largest > FLOOR + MAX_DRIFT * largest:
        hint = "; is it mass-weighted?" if _is_mass_weighted(matrix, structure) else ""
        return f"its Hessian changes under translation, by {drift * largest:.3g} eV/A^2{hint}"
    return None


def asymmetry_problem(matrix: NDArray[np.float64]) -> str | None:
    """Why this Hessian (3N,3N) in eV/A^2 cannot be made symmetric by the mean with its transpose, or None."""
    largest = float(np.abs(matrix).max())
    asymmetry, _ = defects(matrix)
    if asymmetry * largest > FLOOR + MAX_ASYMMETRY * largest:
        return f"its Hessian is not symmetric, by {asymmetry * largest:.3g} eV/A^2"
    return None


def defects(matrix: NDArray[np.float64]) -> tuple[float, float]:
    """Asymmetry and change under translation, of the largest element."""
    largest = float(np.abs(matrix).max())
    if largest == 0:
        return 0.0, 0.0
    n = len(matrix) // 3
    drift = matrix.reshape(3 * n, n, 3).sum(axis=1)
    return float(np.abs(matrix - matrix.T).max()) / largest, float(np.abs(drift).max()) / largest


def _is_mass_weighted(matrix: NDArray[np.float64], structure: Structure) -> bool:
    """Whether multiplying by the square roots of the masses makes it blind to translations."""
    from ase.data import atomic_masses

    roots = np.repeat(np.sqrt(atomic_masses[structure.numbers]), 3)
    return defects(matrix * np.outer(roots, roots))[1] < MAX_DRIFT
