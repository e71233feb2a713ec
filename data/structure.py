"""Structure, Directions, HessianProducts and Labels: the nouns that teachers and students share.

Units everywhere: eV, Angstrom, eV/A (forces), eV/A^2 (Hessian), eV/A^3 (stress, ASE's sign). Signs: see hessian.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
Kind = Literal["rows", "probes"]


@dataclass(frozen=True, eq=False)
class Structure:
    """One arrangement of atoms, with the reference (DFT) labels of its source where there are any.

    numbers (N,) atomic numbers; positions (N,3) A; cell (3,3) A, rows are lattice vectors, zeros where there is none;
    pbc (3,) bool; charge in e; spin is the multiplicity 2S+1; group is the molecule or material, the unit of splits;
    info is what the source said (JSON values); ref_energy eV, ref_forces (N,3) eV/A, ref_stress (3,3) eV/A^3.
    """

    numbers: NDArray[np.integer[Any]]
    positions: Float
    cell: Float = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, bool))
    charge: int = 0
    spin: int = 1
    group: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    ref_energy: float | None = None
    ref_forces: Float | None = None
    ref_stress: Float | None = None

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @cached_property
    def id(self) -> str:
        """32 hex digits: BLAKE2b-128 of numbers, positions, cell, pbc, charge and spin (labels and names do not count)."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.asarray(self.numbers, "<u1").tobytes())
        # + 0.0 turns -0.0 into 0.0: equal geometries must have equal ids.
        digest.update((np.asarray(self.positions, "<f8") + 0.0).tobytes())
        digest.update((np.asarray(self.cell, "<f8") + 0.0).tobytes())
        digest.update(np.asarray(self.pbc, "<u1").tobytes())
        digest.update(np.asarray([self.charge, self.spin], "<i4").tobytes())
        return digest.hexdigest()


def geometry_of(atoms: Any) -> Structure:
    """Numbers, positions, cell and pbc of an ASE Atoms, copied; charge and spin are not looked at (see sources.make for those)."""
    return Structure(atoms.numbers, atoms.positions.copy(), atoms.cell.array.copy(), atoms.pbc.copy())


@dataclass(frozen=True, eq=False)
class Directions:
    """The K vectors v whose products with the Hessian are wanted.

    kind "rows": coordinate (K,) int32, each 3*atom+axis, v is a unit vector. kind "probes": signs (K,N,3) int8 of +-1.
    """

    kind: Kind
    coordinate: NDArray[np.int32] | None = None
    signs: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        chosen = self.coordinate if self.kind == "rows" else self.signs
        return 0 if chosen is None else len(chosen)

    def vectors(self, n_atoms: int) -> NDArray[np.float64]:
        """The vectors themselves, (K,N,3)."""
        if self.signs is not None:
            return self.signs.astype(np.float64)
        assert self.coordinate is not None
        vectors = np.zeros((len(self.coordinate), 3 * n_atoms))
        vectors[np.arange(len(self.coordinate)), self.coordinate] = 1.0
        return vectors.reshape(-1, n_atoms, 3)


@dataclass(frozen=True, eq=False)
class HessianProducts:
    """values (K,N,3) eV/A^2: row k is v_k . H, the product of direction k with the Hessian.

    n_computed is how many of them the teacher was asked for, where the symmetry of a crystal gave the others.
    """

    directions: Directions
    values: Float
    n_computed: int | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """What a teacher says of one structure: energy eV, forces (N,3) eV/A, stress (3,3) eV/A^3 or None, products or None.

    If asked for: atom_energies (N,) eV, which add up to the energy, and node_features (N,D), which do not change when the
    structure is turned or moved; what they are is the teacher's affair.
    """

    energy: float
    forces: Float
    stress: Float | None = None
    hessian: HessianProducts | None = None
    atom_energies: NDArray[np.float64] | None = None
    node_features: Float | None = None
