"""Elastic constants of a crystal at its minimum: stress by strain, atoms relaxed in each strained cell.

C_ij = d sigma_i / d eps_j   (Voigt, engineering shear strains: eps_4 = 2 eps_yz), GPa, positive for what resists
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from .minimum import minimum

Array = NDArray[np.float64]
STRAIN = 5e-3
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def elastic_constants(atoms: Atoms, calculator: Any) -> Array:
    """(6,6) in GPa, made symmetric; atoms: a fully periodic structure at its minimum. Central differences of +-STRAIN."""
    columns = []
    for i, j in VOIGT:
        sides = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5 * sign * STRAIN
            strain[j, i] += 0.5 * sign * STRAIN
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            sides.append(minimum(strained, calculator).get_stress(voigt=True))
        columns.append((sides[0] - sides[1]) / (2 * STRAIN))
    constants = np.array(columns) / units.GPa
    symmetric: Array = 0.5 * (constants + constants.T)
    return symmetric
