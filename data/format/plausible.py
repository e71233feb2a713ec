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

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Problem = tuple[int, str]  # which structure, and what is wrong with it

MIN_DISTANCE = 0.4  # A; H-H in H2 is 0.74
MAX_CELL_EDGE = 1e4  # A
MIN_VOLUME = 0.5  # A^3 an atom; diamond has 5.7
MIN_SINGULAR = 1e-3  # A, of a cell's periodic rows
MAX_PAIRED = 128  # atoms, whose pairs are all looked at
PAIRS_AT_ONCE = 1 << 18
BOX = 3.0  # A
MAX_IN_BOX = 64  # atoms in a box of BOX^3; diamond has 5
# Half of the lattice points next to the origin: the others are their negatives.
_NEXT = np.array([v for v in product((-1, 0, 1), repeat=3) if v > (0, 0, 0)], np.float64)  # (13,3)


def structure_problem(structure: Structure) -> str | None:
    """Why this can be no structure, in words that follow its name, or None."""
    if structure.n_atoms == 0:
        return "it has no atoms"
    s = structure
    problem = first_problem(np.array([s.n_atoms]), s.positions, s.cell[None], s.pbc[None])
    return None if problem is None else problem[1]


def first_problem(n_atoms: Ints, positions: Floats, cell: Floats, pbc: Bools) -> Problem | None:
    """The first of several structures that can be none, and why; or None. What is wrong with most of them is found first.

    n_atoms (S,), 1 or more each; positions (A,3), one structure after the other; cell (S,3,3); pbc (S,3).
    """
    if len(n_atoms) == 0:
        return None
    with np.errstate(all="ignore"):
        return (
            _not_finite(n_atoms, positions, cell)
            or _too_large(n_atoms, positions, cell, pbc)
            or crowded(n_atoms, positions, cell, pbc)
            or _too_close(n_atoms, positions, cell, pbc)
        )


def _not_finite(n_atoms: Ints, positions: Floats, cell: Floats) -> Problem | None:
    starts = np.cumsum(n_atoms) - n_atoms
    finite: Bools = np.isfinite(positions.sum(axis=1))
    lost = np.flatnonzero(np.logical_not(np.logical_and.reduceat(finite, starts)))
    if len(lost):
        return int(lost[0]), "a position is not finite"
    lost = np.flatnonzero(np.logical_not(np.isfinite(cell).all(axis=(1, 2))))
    return (int(lost[0]), "the cell is not finite") if len(lost) else None


def _too_large(n_atoms: Ints, positions: Floats, cell: Floats, pbc: Bools) -> Problem | None:
    starts = np.cumsum(n_atoms) - n_atoms
    extent = (np.maximum.reduceat(positions, starts) - np.minimum.reduceat(positions, starts)).max(axis=1)
    if (wide := extent > MAX_CELL_EDGE).any():
        k = int(np.argmax(wide))
        return k, f"its atoms are spread over {extent[k]:.3g} A, more than {MAX_CELL_EDGE:.0f}"
    rows = np.flatnonzero(pbc.any(axis=1))
    if len(rows) == 0:
        return None
    edge = np.linalg.norm(cell[rows], axis=2).max(axis=1)
    if (wide := edge > MAX_CELL_EDGE).any():
        k = int(np.argmax(wide))
        return int(rows[k]), f"a cell edge is {edge[k]:.0f} A, more than {MAX_CELL_EDGE:.0f}"
    rank = (np.linalg.svd(_lattice(cell[rows], pbc[rows]), compute_uv=False) > MIN_SINGULAR).sum(axis=1)
    if (flat := rank < pbc[rows].sum(axis=1)).any():
        return int(rows[np.argmax(flat)]), "it is periodic but its cell has no volume"
    return None


def _too_close(n_atoms: Ints, positions: Floats, cell: Floats, pbc: Bools) -> Problem | None:
    """Two atoms, or an atom and an image, that are too near each other. Structures of one size are done together.

    The nearest image is that of rounded fractional coordinates wherever it is nearer than half of the cell's smallest height;
    where that may not be so, and for many atoms, a neighbour list is made.
    """
    starts = np.cumsum(n_atoms) - n_atoms
    lattice = _lattice(cell, pbc)
    periodic: Bools = np.asarray(pbc.any(axis=1))
    inverse = np.zeros_like(lattice)
    inverse[periodic] = np.linalg.pinv(lattice[periodic])
    height: Floats = np.asarray(1 / np.linalg.norm(inverse, axis=1).max(axis=1))  # infinite where nothing is periodic
    alone: Bools = np.logical_or(height < 2 * MIN_DISTANCE, n_atoms > MAX_PAIRED)
    for n in np.unique(n_atoms[~alone & (n_atoms > 1)]).tolist():
        i, j = np.triu_indices(n, 1)
        rows = np.flatnonzero(~alone & (n_atoms == n))
        at_once = max(1, PAIRS_AT_ONCE // len(i))
        for block in (rows[k : k + at_once] for k in range(0, len(rows), at_once)):
            own = positions[starts[block][:, None] + np.arange(n)]
            apart = own[:, i] - own[:, j]
            if periodic[block].any():
                apart = apart - np.rint(apart @ inverse[block]) @ lattice[block]
            nearest = np.sqrt((apart**2).sum(axis=2).min(axis=1))
            if nearest.min() < MIN_DISTANCE:
                k = int(np.argmax(nearest < MIN_DISTANCE))
                return _pair(int(block[k]), float(nearest[k]))
    for row in np.flatnonzero(alone).tolist():
        own = positions[starts[row] : starts[row] + n_atoms[row]]
        distance = _shortest_distance(own, cell[row], pbc[row])
        if distance < MIN_DISTANCE:
            return _pair(row, distance)
    return None


def _pair(row: int, distance: float) -> Problem:
    return row, f"two atoms are {distance:.3f} A apart, less than {MIN_DISTANCE}"


def _shortest_distance(positions: Floats, cell: Floats, pbc: Bools) -> float:
    """Shortest distance in A between two atoms or an atom and an image; infinite where all are over MIN_DISTANCE."""
    import vesin
    from ase.geometry import complete_cell

    whole = complete_cell(cell) if pbc.any() else np.zeros((3, 3))
    neighbors = vesin.NeighborList(cutoff=MIN_DISTANCE, full_list=False)
    (distances,) = neighbors.compute(positions, whole, pbc, quantities="d")
    return float(np.min(distances, initial=np.inf))


def _lattice(cell: Floats, pbc: Bools) -> Floats:
    """Cells with zeros in the rows that are not periodic."""
    return np.where(pbc[:, :, None], cell, 0.0)


def crowded_shard(arrays: Mapping[str, Any], offsets: Ints) -> Problem | None:
    """`crowded` over the structures of a shard; positions are read only where one has more than MAX_IN_BOX atoms."""
    n_atoms = np.diff(offsets)
    positions = arrays["positions"][:] if n_atoms.max(initial=0) > MAX_IN_BOX else None
    return crowded(n_atoms, positions, arrays["cell"][:], arrays["pbc"][:].astype(bool))


def crowded(
    n_atoms: Ints,
    positions: Floats | None,
    cell: Floats,
    pbc: Bools,
) -> Problem | None:
    """The first of several structures that no neighbour list should be made of, and why; or None.

    n_atoms (S,), positions (A,3) or None where no structure is large, cell (S,3,3), pbc (S,3). What is not finite is passed over.
    """
    with np.errstate(all="ignore"):
        return _crowded_cell(n_atoms, cell, pbc) or _crowded_box(n_atoms, positions, cell, pbc)


def _crowded_cell(n_atoms: Ints, cell: Floats, pbc: Bools) -> Problem | None:
    """Lattice points that are too near each other, or more atoms than the cell has room for."""
    rows = np.flatnonzero(pbc.any(axis=1))
    if len(rows) == 0:
        return None
    lattice = _lattice(cell[rows], pbc[rows])
    steps = np.einsum("vi,sij->svj", _NEXT, lattice)  # (S,13,3)
    used = ((_NEXT != 0) <= pbc[rows, None, :]).all(axis=2)
    distance = np.where(used, np.sqrt((steps**2).sum(axis=2)), np.inf).min(axis=1)
    if (near := distance < MIN_DISTANCE).any():
        k = int(np.argmax(near))
        return int(rows[k]), f"an atom and its image are {distance[k]:.3g} A apart, less than {MIN_DISTANCE}"
    whole = pbc[rows].all(axis=1)
    # Not by LAPACK, which would reserve 32 MB for it.
    a, b, c = lattice[:, 0], lattice[:, 1], lattice[:, 2]
    volume = np.where(whole, np.abs((np.cross(a, b) * c).sum(axis=1)) / n_atoms[rows], np.inf)
    if (small := volume < MIN_VOLUME).any():
        k = int(np.argmax(small))
        return int(rows[k]), f"its cell has {volume[k]:.3g} A^3 for each atom, less than {MIN_VOLUME}"
    return None


def _crowded_box(
    n_atoms: Ints,
    positions: Floats | None,
    cell: Floats,
    pbc: Bools,
) -> Problem | None:
    """More atoms in some box than there is room for, in structures that have so many at all."""
    starts = np.cumsum(n_atoms) - n_atoms
    if positions is None:
        return None
    for row in np.flatnonzero(n_atoms > MAX_IN_BOX).tolist():
        own = positions[starts[row] : starts[row] + n_atoms[row]]
        if pbc[row].any():
            lattice = _lattice(cell[row : row + 1], pbc[row : row + 1])[0]
            if not np.isfinite(lattice).all():
                continue
            own = own - np.floor(own @ np.linalg.pinv(lattice)) @ lattice
        if not np.isfinite(own).all():
            continue
        _, counts = np.unique(np.floor(own / BOX).astype(np.int64), axis=0, return_counts=True)
        if counts.max() > MAX_IN_BOX:
            return row, f"{counts.max()} of its atoms are in a box of {BOX:g} A, where {MAX_IN_BOX} have room"
    return None
