"""JSON of ase.vibrations.VibrationsData: atoms and Hessian (N,3,N,3) in eV/A^2, without energy and forces.

Parsed as plain JSON: no class that the file names is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...structure import Structure
from ...support.strict_json import loads
from .ase_cache import MOST_ATOMS, array_of
from .beside import record_of
from .contract import HessianReader, HessianRecord, Refused, Stated
from .minimum import OPTIONS, at_rest

MARK = b'"vibrationsdata"'  # the value of __ase_objtype__, which ASE writes last
LOOKED_AT = 256  # bytes at either end


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The one structure. Raises InputError: cut short, other numbers than its atoms want, a Hessian of some atoms alone."""
    try:
        value = loads(path.read_bytes())
        structure = _structure(value["atoms"])
        hessian = array_of(value["hessian"])
        indices = value.get("indices")
        chosen = np.arange(structure.n_atoms) if indices is None else array_of(indices)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not what ASE writes of VibrationsData, or is cut short ({error!r}).") from error
    n = structure.n_atoms
    if n > MOST_ATOMS:
        raise InputError(f"{path} is of {n} atoms; {MOST_ATOMS} are taken.")
    fixed = value["atoms"].get("constraints") and hessian.size != 9 * n * n
    if fixed or not np.array_equal(chosen, np.arange(n)):
        raise InputError(
            f"{path} has a Hessian of {round(np.sqrt(hessian.size / 9))} of its {n} atoms; that of all is wanted, in their order."
        )
    if hessian.size != 9 * n * n:
        raise InputError(f"{path} has a Hessian of {hessian.size} numbers; {9 * n * n} were wanted for its {n} atoms.")
    hessian = hessian.reshape(3 * n, 3 * n)
    arms = structure.positions if not structure.pbc.any() else np.zeros((n, 3))  # a crystal has no turns to look at
    results, said = at_rest(path, np.asarray(arms, np.float64), hessian, stated, "a file with forces")
    yield HessianRecord(f"{path.name}@0", record_of(structure, results, said), hessian)


def _structure(atoms: dict[str, Any]) -> Structure:
    cell = atoms.get("cell")
    if isinstance(cell, dict) and "array" in cell:
        cell = cell["array"]
    numbers: NDArray[np.int64] = array_of(atoms["numbers"]).astype(np.int64)
    positions = array_of(atoms["positions"])
    if numbers.ndim != 1 or positions.shape != (len(numbers), 3) or len(numbers) == 0:
        raise ValueError(f"{numbers.size} atomic numbers and positions of shape {positions.shape}")
    return Structure(
        numbers,
        positions,
        np.zeros((3, 3)) if cell is None else array_of(cell).reshape(3, 3),
        np.zeros(3, bool) + array_of(atoms.get("pbc", False)).astype(bool),
    )


def _recognises(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(LOOKED_AT)
        stream.seek(max(0, path.stat().st_size - LOOKED_AT))
        return (
            MARK in head or MARK in stream.read() or head.startswith(b'{"atoms": {"numbers"')
        )  # one that is cut short


READER = HessianReader("ASE's VibrationsData", _recognises, read, OPTIONS, length_is_known=True, order=4)
