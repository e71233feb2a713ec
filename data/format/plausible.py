"""Whether a structure can be matter: checked before a teacher sees it, when a shard is opened, and by `labels verify`.

Atoms that are closer than any bond, or a cell that is smaller than an atom, make neighbour lists of billions of pairs out of a few
bytes. When a shard is opened, cells and densities are checked, all structures at once; single distances are left to `verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..structure import Structure

MIN_DISTANCE = 0.4  # A; H-H in H2 is 0.74
MAX_CELL_EDGE = 1e4  # A
MIN_VOLUME = 0.5  # A^3 an atom; diamond has 5.7
BOX = 3.0  # A
MAX_IN_BOX = 64  # atoms in a box of BOX^3; diamond has 5
# Half of the lattice points next to the origin: the others are their negatives.
_NEXT = np.array([v for v in product((-1, 0, 1), repeat=3) if v > (0, 0, 0)], np.float64)  # (13,3)


def structure_problem(structure: Structure) -> str | None:
    """Why this can be no structure, in words that follow its name, or None."""
    if structure.n_atoms == 0:
        return "it has no atoms"
    if not np.isfinite(structure.positions).all():
        return "a position is not finite"
    if not np.isfinite(structure.cell).all():
        return "the cell is not finite"
    extent = float(np.ptp(structure.positions, axis=0).max())
    if extent > MAX_CELL_EDGE:
        return f"its atoms are spread over {extent:.3g} A, more than {MAX_CELL_EDGE:.0f}"
    if structure.pbc.any():
        edges = np.linalg.norm(structure.cell, axis=1)
        if edges.max() > MAX_CELL_EDGE:
            return f"a cell edge is {edges.max():.0f} A, more than {MAX_CELL_EDGE:.0f}"
        periodic = structure.cell[structure.pbc]
        if np.linalg.matrix_rank(periodic, tol=1e-3) < len(periodic):
            return "it is periodic but its cell has no volume"
    n_atoms = np.array([structure.n_atoms])
    crowd = crowded(n_atoms, structure.positions, structure.cell[None], structure.pbc[None])
    if crowd is not None:
        return crowd[1]
    distance = shortest_distance(structure)
    if distance < MIN_DISTANCE:
        return f"two atoms are {distance:.3f} A apart, less than {MIN_DISTANCE}"
    return None


def shortest_distance(structure: Structure) -> float:
    """Shortest distance in A between two atoms or an atom and an image; infinite where all are over MIN_DISTANCE."""
    import vesin
    from ase.geometry import complete_cell

    cell = complete_cell(structure.cell) if structure.pbc.any() else np.zeros((3, 3))
    neighbors = vesin.NeighborList(cutoff=MIN_DISTANCE, full_list=False)
    (distances,) = neighbors.compute(structure.positions, cell, structure.pbc, quantities="d")
    return float(np.min(distances, initial=np.inf))


def crowded_shard(arrays: Mapping[str, Any], offsets: NDArray[np.int64]) -> tuple[int, str] | None:
    """`crowded` over the structures of a shard; positions are read only where one has more than MAX_IN_BOX atoms."""
    n_atoms = np.diff(offsets)
    positions = arrays["positions"][:] if n_atoms.max(initial=0) > MAX_IN_BOX else None
    return crowded(n_atoms, positions, arrays["cell"][:], arrays["pbc"][:].astype(bool))


def crowded(
    n_atoms: NDArray[np.int64],
    positions: NDArray[np.floating[Any]] | None,
    cell: NDArray[np.floating[Any]],
    pbc: NDArray[np.bool_],
) -> tuple[int, str] | None:
    """The first of several structures that no neighbour list should be made of, and why; or None.

    n_atoms (S,), positions (A,3) or None where no structure is large, cell (S,3,3), pbc (S,3). What is not finite is passed over.
    """
    with np.errstate(all="ignore"):
        return _crowded_cell(n_atoms, cell, pbc) or _crowded_box(n_atoms, positions, cell, pbc)


def _crowded_cell(
    n_atoms: NDArray[np.int64], cell: NDArray[np.floating[Any]], pbc: NDArray[np.bool_]
) -> tuple[int, str] | None:
    """Lattice points that are too near each other, or more atoms than the cell has room for."""
    rows = np.flatnonzero(pbc.any(axis=1))
    if len(rows) == 0:
        return None
    lattice = np.where(pbc[rows, :, None], cell[rows], 0.0)
    steps = np.einsum("vi,sij->svj", _NEXT, lattice)  # (S,13,3)
    used = ((_NEXT != 0) <= pbc[rows, None, :]).all(axis=2)
    distance = np.where(used, np.sqrt((steps**2).sum(axis=2)), np.inf).min(axis=1)
    if (near := distance < MIN_DISTANCE).any():
        k = int(np.argmax(near))
        return int(rows[k]), f"its cell repeats every {distance[k]:.3g} A, less than {MIN_DISTANCE}"
    whole = pbc[rows].all(axis=1)
    volume = np.where(whole, np.abs(np.linalg.det(lattice)) / n_atoms[rows], np.inf)
    if (small := volume < MIN_VOLUME).any():
        k = int(np.argmax(small))
        return int(rows[k]), f"its cell has {volume[k]:.3g} A^3 for each atom, less than {MIN_VOLUME}"
    return None


def _crowded_box(
    n_atoms: NDArray[np.int64],
    positions: NDArray[np.floating[Any]] | None,
    cell: NDArray[np.floating[Any]],
    pbc: NDArray[np.bool_],
) -> tuple[int, str] | None:
    """More atoms in some box than there is room for, in structures that have so many at all."""
    starts = np.cumsum(n_atoms) - n_atoms
    if positions is None:
        return None
    for row in np.flatnonzero(n_atoms > MAX_IN_BOX).tolist():
        own = positions[starts[row] : starts[row] + n_atoms[row]]
        if pbc[row].any():
            lattice = np.where(pbc[row][:, None], cell[row], 0.0)
            if not np.isfinite(lattice).all():
                continue
            own = own - np.floor(own @ np.linalg.pinv(lattice)) @ lattice
        if not np.isfinite(own).all():
            continue
        _, counts = np.unique(np.floor(own / BOX).astype(np.int64), axis=0, return_counts=True)
        if counts.max() > MAX_IN_BOX:
            return row, f"{counts.max()} of its atoms are in a box of {BOX:g} A, where {MAX_IN_BOX} have room"
    return None
