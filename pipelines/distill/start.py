"""Start structures: files, or a SMILES; what is wrong with them is said before a teacher is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdistill.data.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

    from hdistill.data.structure import Structure

FEW_GROUPS = 10  # with fewer start structures than that, each replica and each drawn structure is a group of its own
NO_STRESS = ("torchani",)
DENSE = 2.0  # A^3 per atom: less is not a cell of atoms
ELEMENTS = {
    "H C N O": frozenset({1, 6, 7, 8}),
    "H B C N O F Si P S Cl Br I": frozenset({1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53}),
}


def read_start(given: Sequence[str | Atoms], teacher: str, pressures: Sequence[float] = ()) -> list[Atoms]:
    """The start structures of files, SMILES and Atoms, in order, with group, charge and spin in info. Raises InputError, one sentence."""
    structures: list[Structure] = []
    for item in given:
        if not isinstance(item, str):
            structures.append(_of_atoms(item))
        else:
            structures += _of_file(item) if _is_file(item) else _of_smiles(item)
    for structure in structures:
        _check(structure, teacher, pressures)
    groups = [s.group for s in structures]
    atoms = [_atoms(s, _named(s.group, i, groups)) for i, s in enumerate(structures)]
    if not atoms:
        raise InputError("No start structure was given; name files (my.cif, my.xyz) or a SMILES such as 'CCO'.")
    return atoms


def _is_file(text: str) -> bool:
    """What exists (a slice of it, FILE@0:10, too), and what has a file's ending; anything else is read as a SMILES."""
    file = text.rpartition("@")[0] if "@" in text else text
    if Path(text).exists() or (file and Path(file).exists()):
        return True
    return re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,7}", Path(file).suffix) is not None or "*" in text


def _of_file(text: str) -> list[Structure]:
    from hdistill.data import sources
    from hdistill.data.sources import SourceReport

    report = SourceReport()
    structures = list(sources.read(text, report=report))
    if report.skipped:
        reason, n = report.skipped.most_common(1)[0]
        raise InputError(f"{n} of the structures of {text} cannot be used: {reason} ({report.first_skipped[reason]}).")
    return structures


def _of_atoms(atoms: Atoms) -> Structure:
    from hdistill.data.sources import Keys, SourceReport
    from hdistill.data.sources.make import structure_of
    from hdistill.data.sources.record import Unusable, record_of

    try:
        return structure_of(record_of(atoms), Keys(), SourceReport(), "")
    except Unusable as error:
        raise InputError(f"{atoms.symbols} cannot be used: {error}.") from error


def _of_smiles(text: str) -> list[Structure]:
    from .smiles import structure_of_smiles

    return [structure_of_smiles(text)]


def _check(s: Structure, teacher: str, pressures: Sequence[float]) -> None:
    """Raise InputError for what this teacher cannot do or would do wrong."""
    import numpy as np
    from ase.data import chemical_symbols

    from hdistill.data.format.plausible import structure_problem
    from hdistill.labeler.teachers.registry import entry, ignores_charge

    known = entry(teacher)
    if (elements := ELEMENTS.get(known.elements)) and (unknown := sorted(set(s.numbers.tolist()) - elements)):
        names = ", ".join(chemical_symbols[z] for z in unknown)
        raise InputError(
            f"{s.group} has {names}, and {teacher} knows {known.elements}; choose a teacher that has been trained on it."
        )
    if problem := structure_problem(s):
        raise InputError(f"The start structure {s.group} cannot be used: {problem}.")
    if s.charge and ignores_charge(teacher):
        raise InputError(
            f"{s.group} has the charge {s.charge:+d}, which {teacher} ignores: it would label the neutral system; take a teacher that "
            "knows charges (uma-s-1p1 --task omol), or remove the charge from the file if the neutral system is meant."
        )
    if pressures and not s.pbc.all():
        raise InputError(
            f"--pressure was given and {s.group} is not periodic in all directions; leave it out, or give a cell."
        )
    if s.pbc.all():
        volume = abs(np.linalg.det(s.cell)) / s.n_atoms
        if volume < DENSE:
            raise InputError(f"The cell of {s.group} has {volume:.2f} A^3 for each atom; is its length unit right?")


def box_remarks(structures: Sequence[Atoms], pressures: Sequence[float], teacher: str) -> list[str]:
    """What should be said of start structures that may not be what was meant."""
    from hdistill.labeler.teachers.registry import entry

    remarks = []
    for atoms in structures:
        if not atoms.pbc.any() and (n := n_molecules(atoms)) > 1:
            remarks.append(
                f"{name_of(atoms)} is {n} molecules without a periodic box: it is taken as a cluster, which evaporates. Give a cell "
                "(Lattice=... in extended XYZ) if a liquid is meant."
            )
        if atoms.pbc.all() and entry(teacher).family in NO_STRESS:
            remarks.append(f"{teacher} gives no stress: the cell of {name_of(atoms)} stays as it is.")
    return list(dict.fromkeys(remarks))


def require_box(structures: Sequence[Atoms], liquid_atoms: int = 60) -> None:
    """Raise InputError for many molecules without a box: a liquid whose cell was lost, as a rule."""
    for atoms in structures:
        if not atoms.pbc.any() and len(atoms) >= liquid_atoms and (n := n_molecules(atoms)) >= 10:
            raise InputError(
                f"{name_of(atoms)} has {n} separate molecules and no periodic box, so that it would evaporate; state the cell in its "
                'file (Lattice="..." pbc="T T T" in extended XYZ), or give fewer molecules if a cluster is meant.'
            )


def n_molecules(atoms: Atoms) -> int:
    """Parts that no bond joins."""
    from ase.neighborlist import build_neighbor_list, natural_cutoffs
    from scipy.sparse.csgraph import connected_components

    neighbours = build_neighbor_list(atoms, cutoffs=natural_cutoffs(atoms, mult=1.2), self_interaction=False)
    n: int = connected_components(neighbours.get_connectivity_matrix(), directed=False)[0]
    return n


def name_of(atoms: Atoms) -> str:
    return str(atoms.info.get("group", atoms.symbols))


def _named(group: str, index: int, groups: Sequence[str]) -> str:
    """Start structures of one formula are told apart by their number."""
    return group if groups.count(group) == 1 else f"{group}-{index}"


def _atoms(s: Structure, group: str) -> Atoms:
    from ase import Atoms

    info: dict[str, Any] = {"group": group, "charge": s.charge, "spin": s.spin}
    return Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, info=info)
