"""The geometry of a Hessian that has none: the file of --geometry, or the only one beside it; and whether the two belong together."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...sources import SourceReport, read as read_structures
from ...sources.record import Record
from ...sources.units import parse
from ...structure import Structure
from .contract import Stated
from .minimum import MOST_FORCE, SOME_FORCE, forces_of_turns

Array = NDArray[np.float64]
IS_GEOMETRY = re.compile(r"(\.(xyz|extxyz|traj|cif|vasp|pdb|gen)|^(POSCAR|CONTCAR)([._-].*)?)$", re.IGNORECASE)
UNITS = {
    name: parse(text, name, "ASE")
    for name, text in (("length", "A"), ("energy", "eV"), ("forces", "eV/A"), ("hessian", "eV/A^2"))
}
SAME_FORCES = 0.01  # eV/A: of one calculator at one geometry, as text files round them


def geometry_of(path: Path, stated: Stated, n_atoms: tuple[int, ...]) -> tuple[Structure, str]:
    """The last structure of the file, and its name. n_atoms: the numbers that it may have. Raises InputError: none, many, another one."""
    file = stated.geometry or _only_one_beside(path)
    last = deque(read_structures(str(file), report=SourceReport()), maxlen=1)
    if not last:
        raise InputError(f"{file} has no structure; the geometry of {path} was wanted.")
    if last[0].n_atoms not in n_atoms:
        wanted = " or ".join(str(n) for n in dict.fromkeys(n_atoms))
        raise InputError(
            f"{file} is of {last[0].n_atoms} atoms, and {path} of {wanted}; name its geometry with --geometry."
        )
    return last[0], file.name


def _only_one_beside(path: Path) -> Path:
    """Beside the folder of a cache. Files that begin as the folder are the modes that ASE writes."""
    folder = path.resolve().parent
    own = re.compile(rf"^{re.escape(path.resolve().name)}\.")
    found = sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and IS_GEOMETRY.search(file.name) and not own.match(file.name)
    )
    if len(found) != 1:
        what = "no file of a structure is" if not found else f"{len(found)} files of structures are"
        raise InputError(f"{path} has no geometry, and {what} beside it; name the file with --geometry.")
    return found[0]


def results_of(
    path: Path, structure: Structure, name: str, forces: Array, stated: Stated
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Energy (eV) and forces (eV/A), and what is said of them. forces: those that the Hessian's own files have.

    The energy is that of the geometry's file where its forces are the same, so that both are of one calculation. Raises InputError.
    """
    energy, there = structure.ref_energy, structure.ref_forces
    off = 0.0 if there is None else float(np.abs(there - forces).max())
    if off > MOST_FORCE:
        raise InputError(
            f"{name} has other forces than {path}, by {off:.2g} eV/A: it is of another geometry or another calculator; name the geometry "
            "that the Hessian is of, with --geometry."
        )
    if energy is not None and there is not None and off <= SAME_FORCES:
        if stated.energy is not None:
            raise InputError(f"{name} has the energy, and the forces of {path}: --energy is not needed.")
        return {"energy": energy, "forces": forces}, (f"energy is that of {name}",)
    said: tuple[str, ...] = ()
    if off > SAME_FORCES:  # atoms that are written after a run have the results of its last displacement
        said += (f"{name} has other forces, by {off:.2g} eV/A: they and its energy are not taken",)
    if stated.energy is None:
        said += ("no energy is stated: taken as 0 eV (--energy)",)
    return {"energy": stated.energy or 0.0, "forces": forces}, said


def require_same_geometry(
    path: Path, name: str, structure: Structure, hessian: Array, forces: Array
) -> tuple[str, ...]:
    """Raise InputError where a molecule's Hessian (3N,3N) in eV/A^2 is not of this geometry; else what should be said.

    Turning geometry and forces together changes nothing: |H (e x R) + e x F| is 0, per radian. Crystals cannot be turned.
    """
    if structure.pbc.any() or structure.n_atoms == 1:
        return ()
    off = forces_of_turns(np.asarray(structure.positions, np.float64), hessian, forces)
    if off > MOST_FORCE:
        raise InputError(
            f"{path} is not of the geometry of {name}: turning that leaves forces of {off:.2g} eV/A; name the right one with --geometry."
        )
    return (f"turning its geometry leaves forces of {off:.2g} eV/A",) if off > SOME_FORCE else ()


def record_of(structure: Structure, results: dict[str, Any], remarks: tuple[str, ...]) -> Record:
    """Of a geometry and its results, in A and eV."""
    return Record(
        numbers=np.asarray(structure.numbers, np.int64),
        positions=np.asarray(structure.positions, np.float64),
        cell=np.asarray(structure.cell, np.float64),
        pbc=structure.pbc,
        info={"charge": structure.charge, "spin": structure.spin}
        if (structure.charge, structure.spin) != (0, 1)
        else {},
        results=results,
        units=UNITS,
        remarks=remarks,
    )
