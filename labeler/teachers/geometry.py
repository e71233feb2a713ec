"""One geometry for all packages: a whole cell, atoms in it or about the origin. Energy, forces and stress stay what they are.

Packages differ in what they make of a slab whose third vector is zero, short or on another row, of a left-handed cell, of atoms
far away: some refuse, some give numbers of another structure, and float32 coordinates of 3000 A have lost the last digits.
Here lattice vectors that are not periodic are replaced by perpendicular ones so long that no image is within reach, and then
may be called periodic; atoms are moved by lattice vectors or all together; a left-handed cell becomes the right-handed one of the same
lattice. All in float64.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Structure

MARGIN = 1.0  # A between the reach of a teacher and the nearest image that is none


def in_standard_cell(structure: Structure, reach: float) -> Structure:
    """The same atoms, in the same order, for a teacher whose neighbours are within `reach` A.

    Of a molecule: about the origin, pbc False, in a box that nobody needs. Else: pbc True in all directions, atoms in the cell.
    """
    positions = np.asarray(structure.positions, np.float64)
    pbc = np.asarray(structure.pbc, bool)
    if not pbc.any():
        positions = positions - positions.mean(axis=0)
        return replace(structure, positions=positions, cell=np.diag(np.ptp(positions, axis=0) + reach + MARGIN))
    cell = np.array(structure.cell, np.float64)
    if not pbc.all():
        normals = _perpendicular_to(cell[pbc])
        along = positions @ normals.T
        lengths = np.ptp(along, axis=0) + reach + MARGIN
        positions = positions + (lengths / 2 - (along.max(axis=0) + along.min(axis=0)) / 2) @ normals
        cell[~pbc] = lengths[:, None] * normals
    if np.linalg.det(cell) < 0:
        cell = -cell  # the same lattice
    turns = np.floor(np.linalg.solve(cell.T, positions.T).T)
    return replace(structure, positions=positions - turns @ cell, cell=cell, pbc=np.ones(3, bool))


def _perpendicular_to(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (3-M,3) perpendicular to M vectors (M,3) and to one another."""
    q, _ = np.linalg.qr(vectors.T, mode="complete")
    normals: NDArray[np.float64] = q[:, len(vectors) :].T
    return normals
