"""An SQLite database of ASE. Key-value pairs: split; the rest is in each row's data (ASE has names of its own for much)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..format.schema import SIGN, UNITS
from ..format.shard import Sample
from ..labelsets.label_set import LabelSet
from .export_extxyz import RESERVED

if TYPE_CHECKING:
    from ase import Atoms


def write(labels: LabelSet, split: str | None, blocks: Iterable[list[Sample]], path: Path) -> int:
    """Write the file; returns how many structures it has."""
    import ase.db

    n = 0
    database = ase.db.connect(str(path), type="db", append=False)
    for block in blocks:
        with database:  # one transaction
            for sample in block:
                database.write(_atoms(sample), key_value_pairs={"split": sample.split}, data=_data(sample))
        n += len(block)
    about = {"title": "hdistill label set", "sign": SIGN, "units": UNITS, "label_set": labels.digest}
    database.metadata = about | ({} if split is None else {"split": split})
    return n


def is_of(labels: LabelSet, split: str | None, blocks: Iterable[list[Sample]], path: Path) -> int | None:
    """How many structures a database has that says it was made of this set, whole; None of any other."""
    import ase.db

    try:
        database = ase.db.connect(str(path), type="db")
        about, n = database.metadata, len(database)
    except Exception:  # whatever lies there
        return None
    same = about.get("label_set") == labels.digest and about.get("split") == split
    return n if same and n == sum(map(len, blocks)) else None


def _atoms(sample: Sample) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    s, labels = sample.structure, sample.labels
    atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc)
    results: dict[str, Any] = {"energy": labels.energy, "forces": np.asarray(labels.forces, np.float64)}
    if labels.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(np.asarray(labels.stress, np.float64))
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _data(sample: Sample) -> dict[str, Any]:
    s, hessian = sample.structure, sample.labels.hessian
    data: dict[str, Any] = {key: value for key, value in s.info.items() if key not in RESERVED}
    data |= {"id": s.id, "group": s.group, "charge": s.charge, "spin": s.spin}
    for name, value in (("energy", s.ref_energy), ("forces", s.ref_forces), ("stress", s.ref_stress)):
        if value is not None:
            data[f"REF_{name}"] = value
    for name in ("atom_energies", "node_features"):
        if (signal := getattr(sample.labels, name)) is not None:
            data[name] = signal
    if hessian is not None:
        data["hessian_products"] = hessian.values
        if hessian.directions.coordinate is not None:
            data["hessian_rows"] = hessian.directions.coordinate
        else:
            data["hessian_probes"] = hessian.directions.signs
    return data
