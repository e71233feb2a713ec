"""Shortest distances of a few structures of a source, against covalent radii: what shows a wrong unit of length at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..structure import Structure
from .formula import symbols

CUTOFF = 4.0  # A
MAX_ATOMS, MAX_PAIRS = 2000, 1e6  # of a structure that is looked at
MAX_EXTENT = 1e4  # A
FEW = 128  # atoms of which all pairs are measured at once
NOBLE = (2, 10, 18, 36, 54, 86)  # never bonded, so never a bond's length apart
FIRST, EVERY = (
    64,
    127,
)  # the first structures are looked at, then one of every so many: all of them would cost a fifth more


def is_looked_at(number: int) -> bool:
    """Whether the structure with this number, from 0, is one whose distances are measured."""
    return number < FIRST or number % EVERY == 0


def nearest_pair(structure: Structure) -> tuple[float, float, str] | None:
    """Distance in A, the same over the sum of covalent radii, and symbols, of the pair that is nearest by that ratio.

    None where no two atoms are within CUTOFF, and for what cannot be measured (no volume, not finite, too large).
    """
    from ase.data import covalent_radii

    if not _can_be_measured(structure):
        return None
    i, j, d = _open_pairs(structure) if not structure.pbc.any() and structure.n_atoms <= FEW else _pairs(structure)
    if len(d) == 0:
        return None
    ratios = d / (covalent_radii[structure.numbers[i]] + covalent_radii[structure.numbers[j]])
    k = int(ratios.argmin())
    pair = sorted((symbols()[structure.numbers[i[k]]], symbols()[structure.numbers[j[k]]]))
    return float(d[k]), float(ratios[k]), "-".join(pair)


def _open_pairs(structure: Structure) -> tuple[Any, Any, Any]:
    """Atoms i < j and distances d of all pairs within CUTOFF, without a cell."""
    i, j = np.triu_indices(structure.n_atoms, 1)
    d = np.linalg.norm(structure.positions[i] - structure.positions[j], axis=1)
    near = d < CUTOFF
    return i[near], j[near], d[near]


def _pairs(structure: Structure) -> tuple[Any, Any, Any]:
    """The same with periodic images. ASE's, as vesin imports torch, and nothing has been checked yet that is worth waiting for."""
    from ase.neighborlist import primitive_neighbor_list

    try:
        i, j, d = primitive_neighbor_list("ijd", structure.pbc, structure.cell, structure.positions, CUTOFF)
    except (np.linalg.LinAlgError, ValueError):  # a cell that cannot be completed
        i = j = d = np.zeros(0, int)
    return i, j, d


def is_noble(pair: str) -> bool:
    """Whether one of 'Ar-O' is a noble gas."""
    return bool({symbols()[number] for number in NOBLE} & set(pair.split("-")))


def _can_be_measured(structure: Structure) -> bool:
    s = structure
    if s.n_atoms > MAX_ATOMS or not (np.isfinite(s.positions).all() and np.isfinite(s.cell).all()):
        return False
    if float(np.ptp(s.positions, axis=0).max()) > MAX_EXTENT:
        return False
    if not s.pbc.any():
        return True
    periodic = s.cell[s.pbc]
    edges = np.linalg.norm(periodic, axis=1)
    if edges.min() < 0.5 or edges.max() > MAX_EXTENT:
        return False
    # of the parallelepiped, length or area that the periodic vectors span, with CUTOFF for what is missing
    volume = float(np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0))) * CUTOFF ** (3 - len(periodic))
    pairs = s.n_atoms**2 * (4 / 3 * np.pi * CUTOFF**3) / max(volume, 1e-9)
    return bool(volume > 0.5 and pairs < MAX_PAIRS)
