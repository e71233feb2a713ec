"""The nearest minimum by any calculator, and how far two arrangements of the same atoms are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from hdistill.data.errors import InputError

FMAX = 2e-3  # eV/A; of cells, of the stress times the volume over the atoms
STEPS = 500
LONGEST = 0.1  # A, a step


def minimum(atoms: Atoms, calculator: Any, cell: bool = False, fmax: float = FMAX, steps: int = STEPS) -> Atoms:
    """A copy at the minimum that is downhill from here, with its calculator; cell: of fully periodic structures, too.

    Raises InputError where no minimum is reached within the steps, or atoms fall together on the way.
    """
    at = atoms.copy()
    at.calc = calculator
    moving = FrechetCellFilter(at) if cell and at.pbc.all() else at
    optimiser = BFGS(moving, logfile=None, maxstep=LONGEST)
    reached = False
    for at_minimum in optimiser.irun(fmax=fmax, steps=steps):
        reached = bool(at_minimum)
        if not np.isfinite(at.positions).all() or not np.isfinite(at.get_potential_energy()):
            raise InputError(f"{at.get_chemical_formula()} fell apart while it was relaxed.")
    if not reached:
        largest = float(np.linalg.norm(at.get_forces(), axis=1).max())
        raise InputError(
            f"{at.get_chemical_formula()} reached no minimum within {steps} steps: the largest force is still {largest:.3f} eV/A "
            f"({fmax} was wanted)."
        )
    return at


def rmsd(here: Atoms, there: Atoms) -> float:
    """Root mean square distance of atoms in A: of molecules without motion and turns of the whole, of crystals in fractional
    coordinates times the cell of `there`, nearest images, without the motion of the whole."""
    if not there.pbc.any():
        moved, fixed = here.copy(), there.copy()
        minimize_rotation_and_translation(fixed, moved)
        off = moved.positions - fixed.positions
    else:
        fractions = here.cell.scaled_positions(here.positions) - there.cell.scaled_positions(there.positions)
        fractions -= np.where(there.pbc, np.round(fractions), 0.0)
        off = fractions @ there.cell.array
        off -= off.mean(0)
    return float(np.sqrt((off**2).sum(1).mean()))
