"""Errors where structures are distorted: rattled by more and more, strained."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from hdistill.data.sampling.child import is_sound
from hdistill.data.structure import geometry_of

from .subject import Subject

MOST = 3
RATTLES = (0.05, 0.1, 0.2, 0.3)  # A, of each coordinate
STRAINS = (-0.05, -0.02, 0.02, 0.05)  # of each length
CLOSEST = 0.6  # of the covalent radii: nearer than this is not a test of anything


def distortions(subject: Subject) -> dict[str, Any]:
    """Of the first structures, by amount: force MAE (meV/A) beside the rms of the teacher's forces, error of the energy that the
    distortion costs (meV/atom); amounts at which atoms come too close are left out and counted."""
    teacher, student = subject.require_teacher(), subject.student()
    given = subject.atoms(MOST)
    rows, close = [], 0
    undistorted = [(_asked(atoms, teacher)[0], _asked(atoms, student)[0]) for atoms in given]
    kinds = [("rattle", a) for a in RATTLES] + [("strain", a) for a in STRAINS]
    with subject.bar(len(kinds), "amounts", "distortions") as bar:
        for kind, amount in kinds:
            off, size, energy = [], [], []
            for number, atoms in enumerate(given):
                if kind == "strain" and not atoms.pbc.any():
                    continue
                there = distorted(atoms, kind, amount, number)
                if too_close(there):
                    close += 1
                    continue
                e0, own0 = undistorted[number]
                (e, f), (own, mine) = _asked(there, teacher), _asked(there, student)
                off.append(np.abs(mine - f).ravel())
                size.append((f**2).ravel())
                energy.append(abs((own - own0) - (e - e0)) / len(atoms))
            if off:
                rows.append(
                    {
                        "kind": kind,
                        "amount": amount,
                        "n_structures": len(off),
                        "force_mae": 1e3 * float(np.concatenate(off).mean()),
                        "force_rms": 1e3 * float(np.sqrt(np.concatenate(size).mean())),
                        "energy_error": 1e3 * float(np.mean(energy)),
                    }
                )
            bar.advance()
    return {"rows": rows, "n_too_close": close, "formulas": [atoms.get_chemical_formula() for atoms in given]}


def distorted(atoms: Atoms, kind: str, amount: float, seed: int) -> Atoms:
    there = atoms.copy()
    if kind == "rattle":
        there.rattle(amount, seed=seed)
    else:
        there.set_cell(atoms.cell.array * (1 + amount), scale_atoms=True)
    return there


def too_close(atoms: Atoms) -> bool:
    return not is_sound(geometry_of(atoms), CLOSEST)


def _asked(atoms: Atoms, calculator: Any) -> tuple[float, Any]:
    at = atoms.copy()
    at.calc = calculator
    return at.get_potential_energy(), at.get_forces()
