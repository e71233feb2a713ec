"""phonopy's files: the Hessian of a whole supercell, from force constants or from forces of displaced supercells (symfc where all atoms
are displaced at random).

phonopy_params.yaml (also .xz) has all of it; phonopy_disp.yaml or phonopy.yaml goes with FORCE_SETS, FORCE_CONSTANTS or
force_constants.hdf5 beside it. The forces of the supercell itself are in none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...sources.record import Record
from ...sources.units import parse
from ...support.recursion import deep_recursion
from .contract import HessianReader, HessianRecord, Refused, Stated
from .minimum import OPTIONS, at_rest

NAMES = re.compile(r"^(phonopy.*\.ya?ml(\.xz)?|FORCE_SETS.*|FORCE_CONSTANTS.*|force_constants\.hdf5)$")
YAMLS = ("phonopy_disp.yaml", "phonopy.yaml", "phonopy_params.yaml")
MOST_ATOMS = 1000


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The supercell. Raises InputError: phonopy is not installed or cannot read it, no forces, other units than eV and A."""
    phonons, said = _loaded(path)
    cell = phonons.supercell
    n = len(cell)
    if n > MOST_ATOMS:
        raise InputError(f"{path} has a supercell of {n} atoms; its Hessian would be {9 * n * n} numbers.")
    hessian = np.asarray(phonons.force_constants).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    still = np.zeros((n, 3))  # a crystal has no turns to look at
    results, more = at_rest(path, still, hessian, stated, "a file with forces of the supercell")
    record = Record(
        numbers=np.asarray(cell.numbers, np.int64),
        positions=np.array(cell.positions, np.float64),
        cell=np.array(cell.cell, np.float64),
        pbc=np.ones(3, bool),
        results=results,
        units={
            name: parse(text, name, "phonopy's format")
            for name, text in (("length", "A"), ("energy", "eV"), ("forces", "eV/A"), ("hessian", "eV/A^2"))
        },
        remarks=(said, *more),
    )
    yield HessianRecord(f"{path.name}@0", record, hessian)


def _loaded(path: Path) -> tuple[Any, str]:
    """A Phonopy with force constants of all pairs, and where they are from."""
    phonopy = require_phonopy(f"{path} needs")
    yaml = path if ".yaml" in path.name or ".yml" in path.name else _yaml_beside(path)
    beside = {
        "force_sets_filename": yaml.with_name("FORCE_SETS"),
        "force_constants_filename": next(
            (f for f in (yaml.with_name("FORCE_CONSTANTS"), yaml.with_name("force_constants.hdf5")) if f.is_file()),
            None,
        ),
    }
    if path != yaml:
        kind = "force_sets_filename" if path.name.startswith("FORCE_SETS") else "force_constants_filename"
        beside = {kind: path}
    given: dict[str, Any] = {name: file for name, file in beside.items() if file is not None and file.is_file()}
    try:
        phonons: Any = phonopy.load(yaml, is_nac=False, produce_fc=False, is_compact_fc=False, log_level=0, **given)
        if phonons.force_constants is None:
            if phonons.forces is None or not len(phonons.forces):
                raise InputError(f"{path} has neither force constants nor forces; FORCE_SETS beside it has them.")
            produce_force_constants(phonons)
            said = f"its Hessian is made of {len(phonons.forces)} displaced supercells"
        else:
            said = "its Hessian is that of force constants"
        phonons.symmetrize_force_constants(show_drift=False)
    except InputError:
        raise
    except Exception as error:  # phonopy raises what its parsers raise
        raise InputError(f"{path} cannot be read by phonopy ({type(error).__name__}: {error}).") from error
    if phonons.calculator not in (None, "vasp"):
        raise InputError(
            f"{path} is in the units of {phonons.calculator}; eV and A are read here: convert it with phonopy."
        )
    n = len(phonons.supercell)
    if phonons.force_constants.shape[:2] != (n, n):
        raise InputError(f"{path} has force constants of primitive atoms alone; write all of them (phonopy --full-fc).")
    return phonons, f"{said}, which were made to add up to 0"


def require_phonopy(who: str) -> Any:
    """The package. Raises InputError: "<who> phonopy: pip install ..."."""
    try:
        import phonopy

        with deep_recursion():  # here, since whatever of phonopy imports it first would leave the limit raised
            import_module("symfc")
    except ImportError as error:
        raise InputError(f"{who} phonopy: pip install -c constraints.txt '.[report]'.") from error
    return phonopy


def produce_force_constants(phonons: Any) -> None:
    """Of a Phonopy that has forces, not yet made to add up to 0."""
    random = "displacements" in phonons.dataset  # of all atoms at once: fitted, with the crystal's symmetry
    with deep_recursion():
        phonons.produce_force_constants(show_drift=False, fc_calculator="symfc" if random else None)


def _yaml_beside(path: Path) -> Path:
    found = [path.with_name(name) for name in YAMLS if path.with_name(name).is_file()]
    if not found:
        raise InputError(f"{path} has no geometry: phonopy_disp.yaml or phonopy.yaml belongs beside it.")
    return found[0]


READER = HessianReader(
    "phonopy's files", lambda path: NAMES.match(path.name) is not None, read, OPTIONS, length_is_known=True, order=4
)
