"""What a --where expression may call by name of every structure; None where a structure has no such thing, and then it does not match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InputError
from ..structure import Structure
from .formula import elements, hill_formula

G_PER_CM3 = 1.66053906892  # of 1 u/A^3
SYMPREC = 0.01  # A, of the space group
AROUND = 6.0  # A, in which the nearest pair is looked for


def _volume(s: Structure) -> float | None:
    return abs(float(np.linalg.det(s.cell))) if s.pbc.all() else None


def _density(s: Structure) -> float | None:
    from ase.data import atomic_masses

    volume = _volume(s)
    return None if not volume else float(atomic_masses[s.numbers].sum()) / volume * G_PER_CM3


def _min_distance(s: Structure) -> float | None:
    from ase.neighborlist import primitive_neighbor_list

    d = primitive_neighbor_list("d", s.pbc, s.cell, s.positions, AROUND)
    return float(d.min()) if len(d) else None


def _max_force(s: Structure) -> float | None:
    return None if s.ref_forces is None else float(np.linalg.norm(s.ref_forces, axis=1).max(initial=0.0))


def _spacegroup(s: Structure) -> int | None:
    """The number in the International Tables; None of what is not periodic in all directions."""
    if not s.pbc.all():
        return None
    try:
        import spglib
    except ImportError as error:
        raise InputError("--where with 'spacegroup' needs spglib: pip install spglib.") from error
    fractional = np.linalg.solve(s.cell.T, s.positions.T).T
    try:
        found = spglib.get_symmetry_dataset((s.cell, fractional, s.numbers), symprec=SYMPREC)
    except spglib.SpglibError:
        return None
    return None if found is None else int(found.number)


NAMES: dict[str, Callable[[Structure], Any]] = {
    "n_atoms": lambda s: s.n_atoms,
    "elements": lambda s: elements(s.numbers.tolist()),
    "n_elements": lambda s: len(np.unique(s.numbers)),
    "formula": lambda s: hill_formula(s.numbers.tolist()),
    "group": lambda s: s.group,
    "charge": lambda s: s.charge,
    "spin": lambda s: s.spin,
    "n_periodic": lambda s: int(s.pbc.sum()),
    "volume": _volume,  # A^3
    "density": _density,  # g/cm^3
    "min_distance": _min_distance,  # A, of the nearest two atoms
    "max_force": _max_force,  # eV/A, of the source's own forces
    "spacegroup": _spacegroup,
}
LABELS: dict[str, Callable[[Structure], bool]] = {
    "energy": lambda s: s.ref_energy is not None,
    "forces": lambda s: s.ref_forces is not None,
    "stress": lambda s: s.ref_stress is not None,
}


def has(structure: Structure, name: str) -> bool:
    """Whether a structure has a key of its source, or energy, forces or stress of its own."""
    return name in structure.info or (name in LABELS and LABELS[name](structure))
