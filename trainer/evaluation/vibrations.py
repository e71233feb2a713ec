"""Harmonic frequencies from a Hessian, without what is not a vibration: translations, and rotations of molecules.

    H_mw = M^-1/2 H M^-1/2,   H_mw u = w^2 u,   frequency = w / (2 pi c)   in cm^-1, -|w| where w^2 < 0 (imaginary)

What is not a vibration is removed from the space before the rest is diagonalised, not sorted out of the result: a molecule of N atoms
has 3N - 6 frequencies (3N - 5 where it is linear), a crystal 3N - 3 at the Gamma point of its cell, at any geometry. Away from
a minimum rotations are not zero modes of H; removing them then is the usual convention (Miller, Handy, Adams, J. Chem. Phys. 72,
99, 1980, without the direction of the force).
"""

from __future__ import annotations

import numpy as np
from ase.data import atomic_masses
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.sources.units import TO_INVERSE_CM
from hdistill.data.structure import HessianProducts, Structure

Array = NDArray[np.float64]

ASYMMETRY = 0.02  # relative; beyond it a matrix is not a Hessian. The compact codec is 3e-3 off
LINEAR = 1e-4  # of the largest singular value: a direction in which no atom turns


def frequencies(structure: Structure, hessian: NDArray[np.floating]) -> Array:
    """Frequencies in cm^-1, ascending, imaginary ones negative; hessian (3N,N,3) eV/A^2, +d2E/dR2, row 3*atom + axis.

    Masses are ASE's, of the natural mixture of isotopes. A structure that is periodic in any direction keeps its rotations.
    Raises InputError for another shape, values that are not numbers, and a matrix that is not symmetric: forces that are no
    gradient (direct-force students and teachers) have no normal modes.
    """
    n = structure.n_atoms
    matrix = np.asarray(hessian, np.float64)
    if matrix.shape != (3 * n, n, 3):
        raise InputError(f"The Hessian of {n} atoms has the shape {(3 * n, n, 3)}; one of {matrix.shape} was given.")
    matrix = matrix.reshape(3 * n, 3 * n)
    if not np.isfinite(matrix).all():
        raise InputError(f"The Hessian of structure {structure.id} has values that are not finite numbers.")
    size = float(np.abs(matrix).max(initial=0.0))
    asymmetry = float(np.abs(matrix - matrix.T).max(initial=0.0))
    if asymmetry > ASYMMETRY * size:
        raise InputError(
            f"The Hessian of structure {structure.id} is not symmetric (by {asymmetry / size:.1%} of its largest element): forces "
            "that are not the gradient of an energy have no normal modes; use a conservative student or teacher."
        )
    weights = np.repeat(atomic_masses[structure.numbers] ** -0.5, 3)
    weighted = 0.5 * (matrix + matrix.T) * np.outer(weights, weights)
    inner = vibrational_space(structure)
    squares = np.linalg.eigvalsh(inner.T @ weighted @ inner)
    wavenumbers: Array = np.sign(squares) * np.sqrt(np.abs(squares)) * TO_INVERSE_CM
    return wavenumbers


def vibrational_space(structure: Structure) -> Array:
    """Orthonormal mass-weighted displacements (3N,M) that neither move the structure nor, where it is a molecule, turn it."""
    masses = atomic_masses[structure.numbers]
    root = np.sqrt(masses)[:, None, None]
    rigid = np.broadcast_to(np.eye(3), (len(masses), 3, 3))  # (N, axis of the atom, which motion)
    if not structure.pbc.any():
        arms = structure.positions - np.average(structure.positions, axis=0, weights=masses)
        turns = np.stack([np.cross(axis, arms) for axis in np.eye(3)], axis=2)
        rigid = np.concatenate([rigid, turns], axis=2)
    vectors, values, _ = np.linalg.svd((root * rigid).reshape(3 * len(masses), -1))
    rank = int((values > LINEAR * values.max(initial=0.0)).sum())
    return vectors[:, rank:]


def full_hessian(products: HessianProducts | None) -> Array:
    """The Hessian (3N,N,3) of a label set's rows, made with `--hessian full`. Raises InputError where rows are missing."""
    coordinate = None if products is None else products.directions.coordinate
    if products is None or coordinate is None:
        raise InputError("Frequencies need all rows of a Hessian; label with `--hessian full --codec exact`.")
    n_atoms = products.values.shape[1]
    hessian = np.full((3 * n_atoms, n_atoms, 3), np.nan)
    hessian[coordinate] = products.values
    n_lacking = 3 * n_atoms - len(set(coordinate.tolist()))
    if n_lacking:
        raise InputError(
            f"{n_lacking} of the {3 * n_atoms} rows of a Hessian are not in its label; label with `--hessian full --codec exact`."
        )
    return hessian


def frequency_error(predicted: Array, truth: Array) -> float:
    """Mean absolute difference in cm^-1, both sorted. Raises InputError where they are not of one structure."""
    if predicted.shape != truth.shape:
        raise InputError(
            f"{len(predicted)} frequencies cannot be compared with {len(truth)}; they belong to different structures."
        )
    return float(np.abs(np.sort(predicted) - np.sort(truth)).mean()) if len(predicted) else 0.0
