"""Lists of pymatgen's ComputedStructureEntry in JSON: Alexandria (Schmidt et al., Adv. Mater. 35, 2210788 (2023)) and one's own.

{"entries": [...]} or [...], one entry in memory at a time, by ijson. Energy in eV of the whole structure, without the entry's
corrections; forces in eV/A in the sites' properties or under `forces`; stress, under data, in kbar and counting compression as
positive, as VASP writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..files import Item, frames_reader, head
from ..pymatgen_json import charge_of, geometry_of, streamed
from ..reader import Reader
from ..record import Record
from ..report import Keys
from ..units import as_vasp

UNITS = as_vasp("pymatgen")
GROUPS = ("mat_id", "material_id", "mp_id", "entry_id")
VOIGT = "a stress of six numbers is left out: their order and sign are not stated"


def records(path: Path, keys: Keys) -> Iterator[Item]:
    """The entries in order. Raises InputError for what is no list of entries; Unusable where the file is cut short."""
    place = "item" if head(path, 64).lstrip().startswith("[") else "entries.item"
    for entry in streamed(path, lambda ijson, stream: ijson.items(stream, place, use_float=True), "entries"):
        yield partial(_record, entry)


def _record(entry: Mapping[str, Any]) -> Record:
    """Raises LookupError, TypeError, ValueError for an entry of another layout, which is counted."""
    structure = entry["structure"]
    numbers, positions, cell, pbc = geometry_of(structure)
    data = {
        **(entry.get("data") or {}),
        **{k: v for k, v in entry.items() if k not in ("structure", "data", "parameters")},
    }
    forces = data.get("forces")
    if forces is None:
        of_sites = [(site.get("properties") or {}).get("forces") for site in structure["sites"]]
        forces = None if any(row is None for row in of_sites) else of_sites
    results: dict[str, Any] = {
        "energy": entry.get("energy"),
        "forces": None if forces is None else np.array(forces, float),
    }
    stress = data.get("stress")
    is_matrix = stress is not None and np.shape(stress) == (3, 3)
    if is_matrix:
        results["stress"] = -np.array(stress, float)
    group = next((str(data[name]) for name in GROUPS if data.get(name)), None)
    kept = {
        key: value
        for key, value in data.items()
        if isinstance(value, str | int | float) and key not in ("energy", "@module")
    }
    return Record(
        numbers=numbers,
        positions=positions,
        cell=cell,
        pbc=pbc,
        info={**kept, **charge_of(structure), **({} if group is None else {"group": group})},
        results={key: value for key, value in results.items() if value is not None},
        units=UNITS,
        remarks=(VOIGT,) if stress is not None and not is_matrix else (),
    )


def _recognises(path: Path) -> bool:
    if not path.is_file() or ".json" not in path.name.lower():
        return False
    start = head(path, 8192).lstrip()
    return start.startswith(('{"entries"', "[")) and '"lattice"' in start and '"structure"' in start


READER = Reader(
    name="pymatgen",
    what="JSON of pymatgen's ComputedStructureEntry (Alexandria), also compressed",
    read=frames_reader(records),
    recognises=_recognises,
    order=25,
)
