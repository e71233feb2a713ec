"""Structures with Hessians from named arrays: one structure, or a stack of them along the first dimension, one at a time.

atomic_numbers (N,) or (n,N), positions (N,3) or (n,N,3), energy, forces or gradient, hessian (..,3N,3N), (..,N,3,N,3) or
(..,N,N,3,3), and charge and spin if there are; other names that are known are in NAMES. Arrays of h5py state their units in an
attribute `units`, each for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...sources.charge_spin import role_of
from ...sources.hdf5 import unit_text
from ...sources.record import Record, Unusable
from ...sources.units import UnitError, Units, combine, parse, stated_in, text_of
from .contract import HessianRecord, Refused

NAMES = {
    "numbers": ("atomic_numbers", "numbers", "z", "Z", "species", "nuclear_charges"),
    "positions": ("positions", "coordinates", "conformations", "pos", "R", "geometry"),
    "energy": ("energy", "energies", "E", "dft_total_energy", "total_energy"),
    "forces": ("forces", "force", "F"),
    "gradient": ("gradient", "gradients", "dft_total_gradient"),
    "hessian": ("hessian", "hessians", "H", "dft_total_hessian"),
    "cell": ("cell", "lattice"),
    "pbc": ("pbc",),
}
QUANTITIES = {
    "positions": "length",
    "cell": "cell",
    "energy": "energy",
    "forces": "forces",
    "gradient": "forces",
    "hessian": "hessian",
}
MAX_BYTES = 1 << 31  # of one structure's Hessian, or of one array of an npz file


def stack(file: Path, name: str, fields: Mapping[str, Any]) -> Iterator[HessianRecord | Refused]:
    """The structures of one group of arrays. Raises InputError."""
    known = {what: next((fields[key] for key in keys if key in fields), None) for what, keys in NAMES.items()}
    where = f"{file.name}:{name}" if name else file.name
    numbers, positions, hessians = (known[what] for what in ("numbers", "positions", "hessian"))
    if numbers is None or positions is None or hessians is None or len(positions.shape) not in (2, 3):
        shown = ", ".join(sorted(fields)[:12])
        raise InputError(f"{where} must have atomic_numbers, positions (N,3) or (n,N,3), and hessian; it has {shown}.")
    stacked = len(positions.shape) == 3
    n = positions.shape[0] if stacked else 1
    n_atoms = int(positions.shape[-2])
    if 8 * 9 * n_atoms * n_atoms > MAX_BYTES:
        raise InputError(f"{where}: a Hessian of {n_atoms} atoms is larger than {MAX_BYTES >> 30} GiB.")
    try:
        units = _units(known, fields)
    except UnitError as error:
        raise InputError(f"{where}: {error}.") from error
    electrons = {key: value for key, value in fields.items() if role_of(key)}
    for i in range(n):
        place = f"{where}@{i}"
        try:
            record, hessian = _one(known, electrons, i if stacked else None, n_atoms, name, units)
        except (TypeError, ValueError) as error:
            yield Refused(place, Unusable("bad structure", str(error)))
            continue
        yield HessianRecord(place, record, hessian)


def _one(
    known: Mapping[str, Any], electrons: Mapping[str, Any], i: int | None, n_atoms: int, name: str, units: Units
) -> tuple[Record, Any]:
    n = 0 if i is None else known["positions"].shape[0]
    row = {what: _row(value, i, n, what) for what, value in known.items() if value is not None}
    info = {key: _row(value, i, n, key) for key, value in electrons.items()}
    numbers = np.asarray(row["numbers"], np.int64)
    if numbers.shape != (n_atoms,) or not 1 <= numbers.min() <= numbers.max() <= 118:
        raise ValueError(f"{numbers.size} atomic numbers of 1 to 118 for {n_atoms} atoms were wanted")
    forces = row.get("forces")
    if forces is None and "gradient" in row:
        forces = -np.asarray(row["gradient"], np.float64)
    cell = np.asarray(row.get("cell", np.zeros((3, 3))), np.float64).reshape(3, 3)
    pbc = np.asarray(row.get("pbc", [cell.any()] * 3)).astype(bool).reshape(-1)
    if name and i is not None:
        info["group"] = name
    record = Record(
        numbers=numbers,
        positions=np.asarray(row["positions"], np.float64),
        cell=cell,
        pbc=np.array(pbc if pbc.size == 3 else np.repeat(pbc, 3)[:3]),
        info=info,
        results={"energy": row.get("energy"), "forces": forces},
        units=units,
    )
    return record, np.asarray(row["hessian"])


def _row(value: Any, i: int | None, n: int, what: str) -> Any:
    """The i-th of a stack, where the array is one; else all of it."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    per_structure = i is not None and len(shape) > 0 and shape[0] == n
    if what == "numbers":
        per_structure = i is not None and len(shape) == 2
    if what == "cell":
        per_structure = i is not None and len(shape) == 3
    return np.asarray(
        value[i] if per_structure else value if shape == () or isinstance(value, np.ndarray) else value[:]
    )


def _units(known: Mapping[str, Any], fields: Mapping[str, Any]) -> Units:
    """What each array's own attribute states, and what attributes or texts of the group do."""
    units = {}
    for what, quantity in QUANTITIES.items():
        text = unit_text(getattr(known[what], "attrs", {})) if known[what] is not None else None
        if text is not None:
            units[quantity] = parse(text, quantity, f"attribute of its {what}")
    texts = {key: text_of(value) if not hasattr(value, "attrs") else None for key, value in fields.items()}
    return combine(units, stated_in({key: text for key, text in texts.items() if text}, "attribute of the group"))
