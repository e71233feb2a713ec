"""What a reader hands on: one structure as its file has it, in the file's own units and under its own keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .units import NONE, Units

if TYPE_CHECKING:
    from ase import Atoms


class Unusable(Exception):
    """A structure that cannot be made. reason is a short phrase to count by; text tells of this one."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Record:
    """One structure of a file.

    numbers (N,); positions (N,3); cell (3,3), rows are lattice vectors, zeros where there is none; pbc (3,). info: of the whole
    structure, arrays: of its atoms, results: of the calculation that the file is of. units: those that the file states.
    remarks: what the reader guessed or left out.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, bool))
    info: Mapping[Any, Any] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    units: Units = field(default_factory=lambda: NONE)
    remarks: tuple[str, ...] = ()


def record_of(
    atoms: Atoms, units: Units = NONE, info: Mapping[str, Any] | None = None, arrays: Mapping[str, Any] | None = None
) -> Record:
    """The record of an ASE Atoms; more info and arrays come on top of its own.

    Results are taken as stored: get_forces() would set the forces on constrained atoms to zero.
    """
    results = getattr(atoms.calc, "results", None)
    return Record(
        numbers=np.asarray(atoms.numbers, np.int64),
        positions=np.array(atoms.positions, np.float64),
        cell=np.array(atoms.cell.array, np.float64),
        pbc=np.array(atoms.pbc, bool),
        info={**atoms.info, **(info or {})},
        arrays={**atoms.arrays, **(arrays or {})},
        results=results if isinstance(results, Mapping) else {},
        units=units,
    )
