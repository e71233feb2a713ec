"""The folder of ase.phonons.Phonons: the atoms of one cell of a supercell moved (ase_cache.py); the Hessian of the whole supercell.

Where the cell of the moved atoms is shifted by a lattice vector T, so are the forces: H(k a, l b) = C(a, T_l - T_k, b). Which cell of the
supercell is where is told by its geometry; in how many cells the atoms were repeated along which vector is not in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.record import Unusable
from ...structure import Structure
from .ase_cache import files_of, has_a_supercell, read_cache, step_of
from .ase_vibrations import OPTIONS
from .beside import geometry_of, record_of, results_of
from .checks import asymmetry_problem
from .contract import HessianReader, HessianRecord, Refused, Stated

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
SAME = 1e-3  # A: positions in two cells of one crystal


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The supercell. Raises InputError: no geometry, not one that is repeated, a displacement is missing, no --delta."""
    cache = read_cache(path)
    n, n_all = cache.n_moved, len(cache.still)
    cell, name = geometry_of(cache.folder, stated, (n_all, n))
    if not cell.pbc.any():
        raise InputError(
            f"{cache.folder} has {n_all} atoms of which {n} were moved, and {name} is no crystal: all atoms must be moved."
        )
    where = places(cell, n) if cell.n_atoms == n_all else None
    if where is None:
        raise InputError(
            f"{name} is not the supercell of {n_all} atoms of {cache.folder}, cell after cell of the {n} atoms that were moved; write it "
            "with ASE and give it with --geometry: (atoms * (l, m, n)).write('supercell.xyz')."
        )
    step = step_of(cache.folder, stated)
    hessian = whole(cache.rows(step), where)
    place = f"{cache.folder.resolve().name}@0"
    if (problem := asymmetry_problem(hessian)) is not None:
        yield Refused(place, Unusable("bad labels", f"{problem}; is {name} its geometry?"))
        return
    results, more = results_of(cache.folder, cell, name, cache.still, stated)
    moved = f"its Hessian is made of {len(cache.moved)} displacements of {step:g} A of the {n} atoms of one cell"
    record = record_of(cell, results, (f"geometry is that of {name}", moved, *more))
    yield HessianRecord(place, record, 0.5 * (hessian + hessian.T))


def places(cell: Structure, n: int) -> Indices | None:
    """(K,K): the cell that lies from the first as cell l does from cell k, of the K cells of n atoms; None where they are no lattice."""
    if cell.n_atoms % n:
        return None
    n_cells = cell.n_atoms // n
    positions = cell.positions.reshape(n_cells, n, 3)
    if (cell.numbers.reshape(n_cells, n) != cell.numbers[:n]).any() or abs(np.linalg.det(cell.cell)) < 1e-6:
        return None
    scaled = (
        (positions - positions[0]) @ np.linalg.inv(cell.cell) * n_cells
    )  # whole numbers, as the translations are a group of K
    whole_ones = np.rint(scaled)
    if np.abs((scaled - whole_ones) / n_cells @ cell.cell).max() > SAME or (whole_ones != whole_ones[:, :1]).any():
        return None
    steps = whole_ones[:, 0].astype(np.int64)
    number = {tuple(step % n_cells): k for k, step in enumerate(steps)}
    if len(number) != n_cells:
        return None
    found = [[number.get(tuple((there - here) % n_cells), -1) for there in steps] for here in steps]
    table = np.array(found)
    return None if (table < 0).any() else table


def whole(rows: Array, where: Indices) -> Array:
    """(3N,3N) of all atoms, of the rows (n,3,N,3) of those of one cell: `where` as `places` gives it."""
    n, n_cells = len(rows), len(where)
    by_cell = rows.reshape(n, 3, n_cells, n, 3)
    moved = moved_cell(rows)
    from_it = where[moved]  # cell c lies from the moved one as cell from_it[c] does from the first
    back = np.argsort(from_it)
    hessian = np.stack([by_cell[:, :, back[where[k]]] for k in range(n_cells)])
    return hessian.reshape(3 * n * n_cells, 3 * n * n_cells)


def moved_cell(rows: Array) -> int:
    """In which cell atoms were moved, the first or the one in the middle (center_refcell): where the atoms themselves resist most."""
    n = len(rows)
    by_cell = rows.reshape(n, 3, -1, n, 3)
    own = by_cell[range(n), :, :, range(n)]  # (n,3,K,3): of each atom upon itself in each cell
    return int((own**2).sum(axis=(0, 1, 3)).argmax())


READER = HessianReader(
    "folder of ASE's Phonons", has_a_supercell, read, OPTIONS, length_is_known=True, order=4, files=files_of
)
