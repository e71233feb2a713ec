"""Rigid scans of a molecule from the teacher's minimum: bonds stretched, angles bent, torsions turned."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from .distortions import too_close
from .minimum import minimum
from .subject import Subject

MOST_MOLECULES, MOST_OF_A_KIND = 2, 4
BONDED = 1.25  # of the covalent radii
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
                curves.append(curve(at, kind, name, values, geometries, teacher, student))
                bar.advance()
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
        "mae": float(off.mean()) if len(off) else 0.0,
    }


def of_molecule(at: Atoms) -> list[tuple[str, str, list[float], list[NDArray[np.float64]]]]:
    """Scans of up to MOST_OF_A_KIND bonds, angles and torsions, each of other elements: kind, atoms, values, positions."""
    from hdistill.data.sampling.torsions import rotatable_bonds, turn

    structure = Structure(at.numbers, at.positions)
    found = []
    seen: set[tuple[str, ...]] = set()
    for i, j, side in bonds_in_no_ring(at):
        symbols = ("bond", *sorted((at.symbols[i], at.symbols[j])))
        if symbols in seen or sum(s[0] == "bond" for s in seen) == MOST_OF_A_KIND:
            continue
        seen.add(symbols)
        axis = at.positions[j] - at.positions[i]
        moved = [at.positions + np.outer(side, (s - 1) * axis) for s in STRETCH]
        found.append(("bond", _name(at, i, j), (STRETCH * np.linalg.norm(axis)).tolist(), moved))
    for i, j, side in bonds_in_no_ring(at):
        k = next((k for k in neighbours(at)[i] if k != j), None)
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


def neighbours(at: Atoms) -> list[list[int]]:
    radii = covalent_radii[at.numbers]
    bonded = (at.get_all_distances() < BONDED * (radii[:, None] + radii[None])) & ~np.eye(len(at), dtype=bool)
    return [np.flatnonzero(row).tolist() for row in bonded]


def bonds_in_no_ring(at: Atoms) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Bonds i-j whose breaking leaves two parts, and the part of j (N,), which is the smaller one."""
    near = neighbours(at)
    found = []
    for i in range(len(at)):
        for j in near[i]:
            side, todo = {j}, [j]
            while todo:
                here = todo.pop()
                for other in near[here]:
                    if other not in side and {here, other} != {i, j}:
                        side.add(other)
                        todo.append(other)
            if i not in side and 2 * len(side) <= len(at):
                mask = np.zeros(len(at), bool)
                mask[list(side)] = True
                found.append((i, j, mask))
    return found


def _energy(at: Atoms, positions: Any, calculator: Any) -> float:
    there = at.copy()
    there.positions = positions
    there.calc = calculator
    return float(there.get_potential_energy())


def _name(at: Atoms, *indices: int) -> str:
    return "-".join(f"{at.symbols[i]}{i}" for i in indices)
