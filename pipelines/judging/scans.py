"""Rigid scans of a molecule from the teacher's minimum: bonds stretched, angles bent, torsions turned."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.sampling.torsions import bonded, fragments, rotatable_bonds, turn
from hdistill.data.structure import Structure, geometry_of

from .distortions import too_close
from .minimum import minimum
from .subject import Subject

MOST_MOLECULES, MOST_OF_A_KIND = 2, 4
STRETCH = np.linspace(0.85, 1.3, 10)  # of the length
BEND = np.linspace(-20, 20, 9)  # degrees
TURN = np.arange(0.0, 360.0, 15.0)  # degrees
KCAL = units.kcal / units.mol


def scans(subject: Subject) -> dict[str, Any]:
    """curves: molecule, kind, atoms, at (A or degrees), teacher and student (kcal/mol above the minimum), mae; torsion_mae,
    bond_mae, angle_mae: means over their curves, kcal/mol. Points at which atoms are too close are left out."""
    teacher, student = subject.require_teacher(), subject.student()
    molecules = [atoms for atoms in subject.atoms(5) if not atoms.pbc.any() and len(atoms) > 1][:MOST_MOLECULES]
    if not molecules:
        raise InputError("Scans are of molecules, and there is none here.")
    curves: list[dict[str, Any]] = []
    with subject.bar(None, "curves", "scans") as bar:
        for atoms in molecules:
            at = minimum(atoms, teacher)
            for kind, name, values, geometries in of_molecule(at):
                made = curve(at, kind, name, values, geometries, teacher, student)
                curves += [made] if made["at"] else []
                bar.advance()
    if not curves:
        raise InputError("No bond of these molecules can be stretched, bent or turned without a ring or a clash.")
    means = {
        f"{kind}_mae": float(np.mean(own)) if (own := [c["mae"] for c in curves if c["kind"] == kind]) else None
        for kind in ("bond", "angle", "torsion")
    }
    return {"curves": curves, **means}


def curve(
    at: Atoms, kind: str, name: str, values: list[float], geometries: list[Any], teacher: Any, student: Any
) -> dict[str, Any]:
    """Energies along geometries above that of `at` by each, kcal/mol."""
    kept, lines = [], {"teacher": [], "student": []}  # type: ignore[var-annotated]
    zero = {who: _energy(at, at.positions, model) for who, model in (("teacher", teacher), ("student", student))}
    for value, positions in zip(values, geometries, strict=True):
        moved = at.copy()
        moved.positions = positions
        if too_close(moved):
            continue
        kept.append(float(value))
        for who, model in (("teacher", teacher), ("student", student)):
            lines[who].append((_energy(at, positions, model) - zero[who]) / KCAL)
    off = np.abs(np.array(lines["teacher"]) - np.array(lines["student"]))
    return {
        "molecule": at.get_chemical_formula(),
        "kind": kind,
        "atoms": name,
        "at": kept,
        **lines,
        "mae": float(off.mean()) if len(off) else None,
    }


def of_molecule(at: Atoms) -> list[tuple[str, str, list[float], list[NDArray[np.float64]]]]:
    """Scans of up to MOST_OF_A_KIND bonds, angles and torsions, each of other elements: kind, atoms, values, positions."""
    structure = geometry_of(at)
    near, bonds = bonded(structure), bonds_in_no_ring(structure)
    found = []
    seen: set[tuple[str, ...]] = set()
    for i, j, side in bonds:
        symbols = ("bond", *sorted((at.symbols[i], at.symbols[j])))
        if symbols in seen or sum(s[0] == "bond" for s in seen) == MOST_OF_A_KIND:
            continue
        seen.add(symbols)
        axis = at.positions[j] - at.positions[i]
        moved = [at.positions + np.outer(side, (s - 1) * axis) for s in STRETCH]
        found.append(("bond", _name(at, i, j), (STRETCH * np.linalg.norm(axis)).tolist(), moved))
    for i, j, side in bonds:
        k = next((int(k) for k in np.flatnonzero(near[i]) if k != j), None)
        if k is None:
            continue
        symbols = ("angle", at.symbols[k], at.symbols[i], at.symbols[j])
        axis = np.cross(at.positions[k] - at.positions[i], at.positions[j] - at.positions[i])
        if symbols in seen or sum(s[0] == "angle" for s in seen) == MOST_OF_A_KIND or np.linalg.norm(axis) < 1e-3:
            continue
        seen.add(symbols)
        bent = []
        for degrees in BEND:
            copy = at.copy()
            part = Atoms(at.numbers[side], at.positions[side])
            part.rotate(degrees, axis, center=at.positions[i])
            copy.positions[side] = part.positions
            bent.append(copy.positions)
        found.append(("angle", _name(at, k, i, j), (at.get_angle(k, i, j) + BEND).tolist(), bent))
    for i, j, side in rotatable_bonds(structure)[:MOST_OF_A_KIND]:
        found.append(("torsion", _name(at, i, j), TURN.tolist(), [turn(structure, i, j, side, d) for d in TURN]))
    return found


def bonds_in_no_ring(structure: Structure) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Bonds i-j whose breaking leaves two parts, and the part of j (N,), which is the smaller one."""
    near, found = bonded(structure), []
    for i, j in np.argwhere(near):
        cut = near.copy()
        cut[i, j] = cut[j, i] = False
        fragment = fragments(cut)[1]
        side = fragment == fragment[j]
        if not side[i] and 2 * side.sum() <= len(near):
            found.append((int(i), int(j), side))
    return found


def _energy(at: Atoms, positions: Any, calculator: Any) -> float:
    there = at.copy()
    there.positions = positions
    there.calc = calculator
    return float(there.get_potential_energy())


def _name(at: Atoms, *indices: int) -> str:
    return "-".join(f"{at.symbols[i]}{i}" for i in indices)
