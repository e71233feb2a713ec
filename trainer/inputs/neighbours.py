"""Neighbour lists: all ordered pairs of atoms and periodic images closer than a cutoff, by vesin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure
from hdistill.data.support.recent import Recent

CACHE_BYTES = 1 << 29


@dataclass(frozen=True, eq=False)
class Edges:
    """index (2,E): [0] centre i, [1] neighbour j; shift (E,3) A: r_ij = r_j - r_i + shift. Both directions are listed."""

    index: NDArray[np.int64]
    shift: NDArray[np.float64]

    @property
    def n_bytes(self) -> int:
        return self.index.nbytes + self.shift.nbytes

    @property
    def n_pairs(self) -> int:
        """How many edges there are: ordered pairs of atoms and images."""
        return int(self.index.shape[1])

    def lengths(self, positions: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """|r_ij| (E,) A of atoms at these positions (N,3)."""
        centre, neighbor = self.index
        lengths: NDArray[np.float64] = np.linalg.norm(positions[neighbor] - positions[centre] + self.shift, axis=1)
        return lengths


class EdgeCache:
    """Neighbour lists made once and kept, up to a number of bytes: 40 for an edge."""

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self.kept: Recent[tuple[str, float], Edges] = Recent(lambda edges: edges.n_bytes, max_bytes)

    def of(self, structure: Structure, cutoff: float) -> Edges:
        """The edges of a structure, as edges_of makes them."""
        return self.kept.get((structure.id, cutoff), lambda: edges_of(structure, cutoff))


def edges_of(structure: Structure, cutoff: float) -> Edges:
    """The edges of one structure, its own images included where the cell is small; sorted by centre.

    Raises InputError where there are no atoms, positions are not finite or a periodic direction has no lattice vector.
    """
    import vesin

    if structure.n_atoms == 0:
        raise InputError("A structure has no atoms; at least one was wanted.")
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        raise InputError(f"Structure {structure.id} has positions or a cell that are not finite numbers.")
    periodic = structure.cell[structure.pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise InputError(f"Structure {structure.id} is periodic but its cell has no volume; give it a cell or no pbc.")
    search = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    i, j, images = search.compute(structure.positions, structure.cell, structure.pbc, quantities="ijS")
    shift = images @ np.asarray(structure.cell, np.float64) if len(periodic) else np.zeros((len(i), 3))
    return Edges(np.array((i, j), np.int64), shift)


def nearest_pairs(structures: Iterable[Structure], cutoff: float, edges: EdgeCache) -> NDArray[np.float64]:
    """The shortest distance (A) of atoms of each two elements, (119,119) by atomic numbers; infinite where none is below cutoff."""
    shortest = np.full((119, 119), np.inf)
    for structure in structures:
        pairs = edges.of(structure, cutoff)
        centre, neighbor = structure.numbers[pairs.index]
        np.minimum.at(shortest, (centre, neighbor), pairs.lengths(structure.positions))
    return shortest
