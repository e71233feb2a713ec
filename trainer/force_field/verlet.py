"""Neighbour lists with a skin: made for cutoff + skin, used for as long as no pair that was left out can have come inside.

Verlet, Phys. Rev. 159, 98 (1967). Atoms moved from x to x' = x F + d, F the change of the cell since the list was made. A pair now
nearer than the cutoff was then nearer than (cutoff + 2 max|d|) / s, s the smallest singular value of F; the list is good while
that is at most cutoff + skin. So a barostat needs no new list for each step either. Pairs beyond the cutoff are taken out at each
use, and their order does not depend on when the list was made: what a student is given is the list of a new search, to the last bit,
and a run that is restarted goes on to the same numbers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdistill.data.structure import Structure

from ..inputs.neighbours import edges_of

Array = NDArray[np.float64]
KEPT = 16  # lists: images of a chain that share one calculator come in turns


@dataclass(frozen=True, eq=False)
class _List:
    """All pairs below cutoff + skin of a structure as it was: index (2,E), images (E,3) whole cells, shift (E,3) A for `cell`."""

    structure: Structure
    index: NDArray[np.int64]
    images: Array
    shift: Array


class VerletLists:
    """Neighbour lists of structures as they move; skin in A, 0 makes each anew. made counts the searches so far."""

    def __init__(self, cutoff: float, skin: float = 0.5):
        self.cutoff, self.skin = cutoff, skin
        self.made = 0
        self._kept: deque[_List] = deque(maxlen=KEPT)

    def of(self, structure: Structure) -> tuple[NDArray[np.int64], Array]:
        """edge_index (2,E) and vectors r_ij (E,3) A of all pairs nearer than the cutoff. Raises InputError as edges_of does."""
        entry = self._find(structure)
        same_cell = np.array_equal(structure.cell, entry.structure.cell)
        shift = entry.shift if same_cell else entry.images @ structure.cell
        centre, neighbor = entry.index
        positions = structure.positions
        vectors = positions.take(neighbor, axis=0) - positions.take(centre, axis=0) + shift
        near = np.flatnonzero(np.einsum("ij,ij->i", vectors, vectors) < self.cutoff**2)
        return entry.index.take(near, axis=1), vectors.take(near, axis=0)

    def _find(self, structure: Structure) -> _List:
        for place, entry in enumerate(self._kept):
            if self._is_good(entry, structure):
                if place:
                    del self._kept[place]
                    self._kept.appendleft(entry)
                return entry
        self._kept.appendleft(self._make(structure))
        return self._kept[0]

    def _is_good(self, entry: _List, now: Structure) -> bool:
        then = entry.structure
        if not (np.array_equal(now.numbers, then.numbers) and np.array_equal(now.pbc, then.pbc)):
            return False
        smallest, moved = 1.0, then.positions
        if not np.array_equal(now.cell, then.cell):
            if not then.pbc.all():  # F is not known
                return False
            strain = np.linalg.solve(np.asarray(then.cell, np.float64), np.asarray(now.cell, np.float64))
            smallest, moved = float(np.linalg.svd(strain, compute_uv=False).min()), then.positions @ strain
        away = now.positions - moved
        furthest = float(np.sqrt(np.einsum("ij,ij->i", away, away).max()))
        return self.cutoff + 2 * furthest <= smallest * (self.cutoff + self.skin)

    def _make(self, structure: Structure) -> _List:
        self.made += 1
        edges = edges_of(structure, self.cutoff + self.skin)
        cell = np.asarray(structure.cell, np.float64)
        images: Array = edges.shift
        if structure.pbc.all():
            images = np.asarray(np.round(edges.shift @ np.linalg.inv(cell)), np.float64)
        order = np.lexsort((*images.T, edges.index[1], edges.index[0]))
        index = np.ascontiguousarray(edges.index[:, order])
        return _List(structure, index, images[order], edges.shift[order])
