"""Where the minima are: from a perturbed start, beside the teacher's; lattice, equation of state and elastic constants of crystals."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from hdistill.data.errors import InputError

from .elastic import elastic_constants
from .minimum import minimum, rmsd
from .phonons import primitive_of
from .subject import Subject, tried

MOST = 3
RATTLE = 0.1  # A
Array = NDArray[np.float64]
VOLUMES = np.linspace(0.94, 1.06, 7)


def relaxation(subject: Subject) -> dict[str, Any]:
    """structures: see `relaxed`, or why there is nothing; the means over them, None without a teacher: rmsd A, energy_above meV/atom;
    largest lattice_error %, bulk_modulus_error %, elastic_error GPa."""
    student, teacher = subject.student(), subject.teacher
    given = subject.atoms(MOST)
    if not student.conservative:
        raise InputError("The student predicts forces directly: they have no minimum of an energy.")
    rows = []
    with subject.bar(len(given), "structures", "relaxation") as bar:
        for atoms in given:
            rows.append(tried(relaxed, atoms, student, teacher))
            bar.advance()

    def all_of(key: str) -> list[float]:
        return [abs(row[key]) for row in rows if row.get(key) is not None]

    return {
        "structures": rows,
        "rmsd": float(np.mean(all_of("rmsd"))) if all_of("rmsd") else None,
        "energy_above": float(np.mean(all_of("energy_above"))) if all_of("energy_above") else None,
        "lattice_error": max(all_of("lattice_error"), default=None),
        "bulk_modulus_error": max(all_of("bulk_modulus_error"), default=None),
        "elastic_error": max(all_of("elastic_error"), default=None),
    }


def relaxed(atoms: Atoms, student: Any, teacher: Any | None) -> dict[str, Any]:
    """A minimum of the student from a start that is rattled by 0.1 A around the teacher's (its own, without a teacher).

    rmsd: A, of the two; energy_above: what the teacher's energy of the student's minimum is above its own minimum, meV/atom. Of
    crystals, of both: volume A^3/atom, lattice constants A, bulk modulus GPa (Birch-Murnaghan), elastic constants GPa; lattice_error
    and bulk_modulus_error in % of the teacher's.
    """
    periodic = bool(atoms.pbc.all())
    there = minimum(atoms, student if teacher is None else teacher, cell=periodic)
    start = there.copy()
    start.rattle(RATTLE, seed=0)
    here = minimum(start, student, cell=periodic)
    row: dict[str, Any] = {"formula": atoms.get_chemical_formula(), "n_atoms": len(atoms)}
    row |= {
        "rmsd": None,
        "energy_above": None,
        "lattice_error": None,
        "bulk_modulus_error": None,
        "elastic_error": None,
    }
    if teacher is not None:
        judged = here.copy()
        judged.calc = teacher
        above = judged.get_potential_energy() - there.get_potential_energy()
        row |= {"rmsd": rmsd(here, there), "energy_above": 1e3 * above / len(atoms)}
    if not periodic:
        return row
    row["student"] = of_crystal(there, student)
    if teacher is not None:
        row["teacher"] = of_crystal(there, teacher)
        own, its = row["student"], row["teacher"]
        lengths = np.array(own["lattice"]) / np.array(its["lattice"]) - 1
        row["lattice_error"] = 100 * float(lengths[np.abs(lengths).argmax()])
        row["bulk_modulus_error"] = 100 * (own["bulk_modulus"] / its["bulk_modulus"] - 1)
        row["elastic_error"] = float(np.abs(np.array(own["elastic"]) - np.array(its["elastic"])).max())
    return row


def of_crystal(start: Atoms, calculator: Any) -> dict[str, Any]:
    """Of the minimum that a calculator reaches from here, as a standard primitive cell."""
    at = minimum(primitive_of(start), calculator, cell=True)
    volumes, energies = [], []
    for share in VOLUMES:
        scaled = at.copy()
        scaled.set_cell(at.cell.array * share ** (1 / 3), scale_atoms=True)
        scaled = minimum(scaled, calculator)
        volumes.append(scaled.get_volume())
        energies.append(scaled.get_potential_energy())
    volume, modulus = birch_murnaghan(np.array(volumes), np.array(energies))
    return {
        "formula": at.get_chemical_formula(),
        "lattice": at.cell.lengths().tolist(),
        "angles": at.cell.angles().tolist(),
        "volume": volume / len(at),
        "volumes": (np.array(volumes) / len(at)).tolist(),
        "energies": (1e3 * (np.array(energies) - min(energies)) / len(at)).tolist(),
        "bulk_modulus": modulus / units.GPa,
        "elastic": elastic_constants(at, calculator).tolist(),
    }


def birch_murnaghan(volumes: Array, energies: Array) -> tuple[float, float]:
    """Volume A^3 and bulk modulus eV/A^3 at the minimum of the third-order equation of state (Birch, Phys. Rev. 71, 809, 1947).

    It is a cubic in V^(-2/3), so that a linear fit finds it, where ase.eos searches from a guess and may not arrive (energies near 0).
    Raises InputError where the fitted curve has no minimum between the volumes.
    """
    middle = volumes.mean()
    curve = np.polynomial.Polynomial.fit((volumes / middle) ** (-2 / 3), energies, 3)
    bends = curve.deriv(2)
    minima = [
        float(x.real) for x in np.asarray(curve.deriv().roots(), complex) if abs(x.imag) < 1e-9 and bends(x.real) > 0
    ]
    inside = [x for x in minima if volumes.min() <= middle * x**-1.5 <= volumes.max()]
    if not inside:
        raise InputError("Its energy has no minimum between the volumes that were tried.")
    x = inside[0]
    volume = middle * x**-1.5
    slope = -2 / 3 * x / volume  # dx/dV
    return float(volume), float(volume * bends(x) * slope**2)
