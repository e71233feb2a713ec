"""Units and layouts of other people's files; they are converted with these, here in `sources`, and nowhere else.

Inside hdistill: eV, A, eV/A, eV/A^3, and stress as a 3x3 matrix in ASE's sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # A, CODATA 2018
NANOMETRE = 10.0  # A


ENERGIES = {
    "ev": 1.0,
    "hartree": HARTREE,
    "kcal/mol": 0.04336410390059322,
    "kj/mol": 0.010364269574711573,
}  # eV, CODATA 2018
LENGTHS = {"a": 1.0, "angstrom": 1.0, "bohr": BOHR, "nm": NANOMETRE}  # A


def parse_units(text: str) -> tuple[float, float]:
    """'eV/A', 'hartree/bohr', 'kcal/mol/A', ... as one unit of energy in eV and one of length in A. Raises ValueError."""
    energy, _, length = text.strip().lower().replace("\u00e5", "a").rpartition("/")
    if energy not in ENERGIES or length not in LENGTHS:
        raise ValueError(
            f"'{text}' is no unit of energy over one of length; energies are eV, hartree, kcal/mol, kJ/mol, lengths A, bohr, nm, "
            "as in hartree/bohr"
        )
    return ENERGIES[energy], LENGTHS[length]


def stress_matrix(stress: Any) -> NDArray[np.float64]:
    """(3,3) eV/A^3 from ASE's Voigt order xx yy zz yz xz xy, from 9 numbers or from 3x3. Raises ValueError."""
    values = np.asarray(stress, np.float64)
    if values.shape == (6,):
        xx, yy, zz, yz, xz, xy = values
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if values.shape not in ((9,), (3, 3)):
        raise ValueError(f"a stress has 6, 9 or 3x3 numbers, not {values.shape}")
    return values.reshape(3, 3)
