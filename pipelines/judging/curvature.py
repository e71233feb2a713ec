"""Vibrations of molecules and phonons of crystals, beside the teacher's where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.structure import geometry_of

from . import phonons as ph
from .minimum import minimum
from .subject import Subject, tried

Array = NDArray[np.float64]
MOLECULES, CRYSTALS = 5, 2
IMAGINARY = -10.0  # cm^-1


def curvature(subject: Subject) -> dict[str, Any]:
    """molecules: see `vibrations`; crystals: see `crystal`, or why there is nothing; and the means over them: frequency_mae cm^-1
    (each model at its own minimum), phonon_mae THz, n_imaginary of the student's own minima."""
    given = subject.atoms(MOLECULES)
    molecules = [atoms for atoms in given if not atoms.pbc.any()]
    crystals = [atoms for atoms in given if atoms.pbc.all()][:CRYSTALS]
    if not molecules and not crystals:
        raise InputError("Slabs and wires have neither vibrations of a molecule nor phonons of a crystal here.")
    student, teacher = subject.student(), subject.teacher
    if not student.conservative:
        raise InputError("The student predicts forces directly: they have no curvature that is symmetric.")
    rows: list[dict[str, Any]] = []
    with subject.bar(len(molecules) + len(crystals), "structures", "curvature") as bar:
        for atoms in molecules:
            rows.append(tried(vibrations, atoms, student, teacher))
            bar.advance()
        found: list[dict[str, Any]] = []
        for atoms in crystals:
            found.append(tried(crystal, atoms, student, teacher))
            bar.advance()
    maes = [row["own_mae"] for row in rows if row.get("own_mae") is not None]
    apart = [each["frequency_mae"] for each in found if each.get("frequency_mae") is not None]
    return {
        "molecules": rows,
        "crystals": found,
        "frequency_mae": float(np.mean(maes)) if maes else None,
        "phonon_mae": float(np.mean(apart)) if apart else None,
        "n_imaginary": sum(row.get("n_imaginary", 0) for row in rows),
    }


def vibrations(atoms: Atoms, student: Any, teacher: Any | None) -> dict[str, Any]:
    """Harmonic frequencies in cm^-1 without rigid motions, at the teacher's minimum by both, and at the minimum of each.

    same_mae, own_mae: mean absolute differences of sorted frequencies; n_imaginary: of the student at its own minimum; heat: vibrational
    heat capacity at 300 K, J/K/mol.
    """
    from hdistill.trainer.evaluation.vibrations import frequency_error

    start = atoms if teacher is None else minimum(atoms, teacher)
    here = minimum(start, student)
    own = _frequencies(here, student)
    row: dict[str, Any] = {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "student": own.tolist(),
        "n_imaginary": int((own < IMAGINARY).sum()),
        "heat_capacity": heat_capacity(own),
        "same_mae": None,
        "own_mae": None,
    }
    if teacher is not None:
        its, same = _frequencies(start, teacher), _frequencies(start, student)
        row |= {
            "teacher": its.tolist(),
            "student_at_the_teachers_minimum": same.tolist(),
            "same_mae": frequency_error(same, its),
            "own_mae": frequency_error(own, its),
            "heat_capacity_of_teacher": heat_capacity(its),
        }
    return row


def crystal(atoms: Atoms, student: Any, teacher: Any | None) -> dict[str, Any]:
    """Phonons at the minimum of the teacher (of the student, where there is no teacher), the same displacements for both."""
    at = ph.primitive_of(minimum(atoms, student if teacher is None else teacher, cell=True))
    displaced = ph.displaced(at)
    row: dict[str, Any] = {
        "formula": at.get_chemical_formula(),
        "n_atoms": len(displaced.supercell),
        "n_displacements": len(displaced.supercells_with_displacements),
        "frequency_mae": None,
    }
    made = ph.with_forces(displaced, student)
    row |= {"student": ph.figures(made), "sum_rule": ph.sum_rule(made)}
    if teacher is not None:
        row["teacher"] = ph.figures(ph.with_forces(displaced, teacher))
        row |= ph.difference(row["student"], row["teacher"])
    return row


def against_dft(subject: Subject) -> dict[str, Any]:
    """Student, teacher where there is one, and the measured forces of --phonopy: phonons of the same supercell and displacements."""
    if subject.phonopy is None:
        raise InputError(
            "It needs forces of displaced supercells; give phonopy_params.yaml or its folder with --phonopy."
        )
    return beside_forces(subject.phonopy, subject.student(), subject.teacher)


def beside_forces(path: Path, student: Any, teacher: Any | None) -> dict[str, Any]:
    measured = ph.measured_phonons(path)
    row: dict[str, Any] = {
        "formula": Atoms(measured.primitive.symbols).get_chemical_formula(),
        "n_atoms": len(measured.supercell),
        "n_displacements": len(measured.supercells_with_displacements),
        "dft": ph.figures(measured),
    }
    models = {"student": student} | ({"teacher": teacher} if teacher is not None else {})
    for name, model in models.items():
        row[name] = ph.figures(ph.with_forces(measured, model))
        row[f"{name}_off"] = ph.difference(row[name], row["dft"])
    row["frequency_mae"] = row["student_off"]["frequency_mae"]
    return row


def heat_capacity(frequencies: Array, temperature: float = 300.0) -> float:
    """Of harmonic vibrations (cm^-1), J/K/mol: sum of R x^2 e^x / (e^x - 1)^2, x = h nu / kT; imaginary ones count nothing."""
    x = frequencies[frequencies > 1.0] * units.invcm / (units.kB * temperature)
    return float((x**2 * np.exp(-x) / (1 - np.exp(-x)) ** 2).sum() * units.kB / units.J * units.mol)


def _frequencies(atoms: Atoms, calculator: Any) -> Array:
    from hdistill.trainer.evaluation.vibrations import frequencies

    return frequencies(geometry_of(atoms), calculator.get_hessian(atoms))
