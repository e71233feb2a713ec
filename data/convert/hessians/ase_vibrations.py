"""The folder of ase.vibrations.Vibrations (and Infrared): all atoms of a structure moved, one at a time (ase_cache.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...sources.record import Unusable
from .ase_cache import files_of, folder_of, has_a_supercell, read_cache, step_of
from .beside import geometry_of, record_of, require_same_geometry, results_of
from .checks import asymmetry_problem
from .contract import HessianReader, HessianRecord, Refused, Stated

OPTIONS = ("--geometry", "--energy", "--delta")


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The one structure. Raises InputError: no geometry, that of something else, a displacement is missing, no --delta."""
    cache = read_cache(path)
    n = len(cache.still)
    structure, name = geometry_of(cache.folder, stated, (n,))
    step = step_of(cache.folder, stated)
    hessian = cache.rows(step).reshape(3 * n, 3 * n)
    place = f"{cache.folder.resolve().name}@0"
    if (problem := asymmetry_problem(hessian)) is not None:
        yield Refused(place, Unusable("bad labels", problem))
        return
    hessian = 0.5 * (hessian + hessian.T)
    said = require_same_geometry(cache.folder, name, structure, hessian, cache.still)
    results, more = results_of(cache.folder, structure, name, cache.still, stated)
    moved = f"its Hessian is made of {len(cache.moved)} displacements of {step:g} A"
    record = record_of(structure, results, (f"geometry is that of {name}", moved, *said, *more))
    yield HessianRecord(place, record, hessian)


READER = HessianReader(
    "folder of ASE's Vibrations",
    lambda path: folder_of(path) is not None and not has_a_supercell(path),
    read,
    OPTIONS,
    length_is_known=True,
    order=4,
    files=files_of,
)
