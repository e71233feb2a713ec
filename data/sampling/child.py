"""What a move makes of a structure: the same matter moved, and where it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import NDArray

from ..structure import Float, Structure

NEAREST = 0.7  # of the sum of covalent radii: what two atoms may come to


def child(
    parent: Structure,
    move: str,
    positions: Float,
    cell: Float | None = None,
    numbers: NDArray[np.integer[Any]] | None = None,
    **facts: Any,
) -> Structure:
    """`parent` with other positions (N,3) and cell (3,3), of its group, charge and spin; `facts` go into its info."""
    origin = {"parent": parent.info.get("parent", parent.id), "move": move, **facts}
    kept = {key: value for key, value in parent.info.items() if key not in _OF_A_MOVE}
    return Structure(
        numbers=parent.numbers if numbers is None else numbers,
        positions=np.asarray(positions, np.float64),
        cell=np.asarray(parent.cell if cell is None else cell, np.float64),
        pbc=parent.pbc,
        charge=parent.charge,
        spin=parent.spin,
        group=parent.group or parent.id,
        info={**kept, **origin},
    )


_OF_A_MOVE = frozenset(("parent", "move", "seed", "temperature", "pressure", "step", "replica", "amount", "last"))


def nearest_ratios(structure: Structure) -> NDArray[np.float64]:
    """Of each atom (N,): the distance to another over the sum of their covalent radii, where that is smallest; inf where none is
    near. Noble gases count as all others."""
    radii = covalent_radii[structure.numbers]
    ratios = np.full(structure.n_atoms, np.inf)
    reach = 2.0 * float(radii.max()) * 1.25
    pbc = np.asarray(structure.pbc, bool)
    i, j, d = primitive_neighbor_list("ijd", pbc, structure.cell, structure.positions, reach)
    np.minimum.at(ratios, i, d / (radii[i] + radii[j]))
    return ratios


def is_sound(structure: Structure, nearest: float = NEAREST) -> bool:
    """Whether its numbers are finite and no two atoms are nearer than `nearest` of the sum of their covalent radii."""
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        return False
    periodic = structure.cell[structure.pbc]
    if len(periodic) and np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0)) < 1e-3:
        return False
    return bool(nearest_ratios(structure).min(initial=np.inf) >= nearest)
