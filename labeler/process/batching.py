"""Packs of structures that a teacher takes at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from hdistill.data.structure import Structure

MOLECULAR_DENSITY = 0.1  # atoms per A^3
MAX_NEIGHBORS = 200  # of one atom; more is a mistake in the cell, which the checks will name
RADIUS = 5.0  # A; teachers have cutoffs of 5 to 6 A, and what they cost grows with the pairs inside
# Pairs in a batch. On a CPU a product of SevenNet-0 for four 5-atom perovskites at once (900 pairs) costs 0.8 of what one
# costs alone, for sixteen 1.1: the caches overflow. ANI-1x gains fivefold up to sixteen molecules of 12 atoms (2000 pairs).
BATCH_EDGES = {"cpu": 1500, "cuda": 100_000}


def default_edges(device: str) -> int:
    """How many pairs a batch may have where the user does not say."""
    return BATCH_EDGES["cpu" if device == "cpu" else "cuda"]


def n_pairs(structure: Structure) -> int:
    """Ordered pairs of atoms within RADIUS, images included, plus one for each atom."""
    import vesin

    neighbors = vesin.NeighborList(cutoff=RADIUS, full_list=True)
    (first,) = neighbors.compute(structure.positions, structure.cell, structure.pbc, quantities="i")
    return len(first) + structure.n_atoms


def about_n_pairs(structure: Structure) -> int:
    """The same from density alone: instant, and safe for structures that were not checked yet."""
    sphere = 4 / 3 * math.pi * RADIUS**3
    volume = abs(float(np.linalg.det(structure.cell))) if structure.pbc.all() else 0.0
    density = structure.n_atoms / volume if math.isfinite(volume) and volume > 1 else MOLECULAR_DENSITY
    inside = sphere * density if structure.pbc.all() else min(structure.n_atoms, sphere * density)
    return int(structure.n_atoms * (1 + min(inside, MAX_NEIGHBORS)))


def pack(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Indices of structures in batches whose sizes add up to at most `limit`; a larger structure is a batch of its own.

    Sorted by size first, so that the structures of a batch need about as many products each. A pure function of the sizes: what
    shares a batch must not depend on timing, or labels would not be the same byte for byte.
    """
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    starts = cut_greedily([sizes[i] for i in order], limit)
    return [order[start:stop] for start, stop in pairwise([*starts, len(order)])]


def cut_greedily(sizes: Iterable[int], limit: int, max_count: int | None = None) -> list[int]:
    """Where the pieces of a sequence begin, each as long as its sizes add up to at most `limit`, and of at most max_count members.

    A member that is larger than the limit is a piece of its own. Nothing of nothing.
    """
    starts: list[int] = []
    filled = count = 0
    for index, size in enumerate(sizes):
        if not starts or filled + size > limit or count == max_count:
            starts.append(index)
            filled = count = 0
        filled += size
        count += 1
    return starts
