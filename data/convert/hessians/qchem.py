"""Q-Chem's output of `jobtype freq`: the mass-weighted Hessian before rotations are projected out of it, hartree/bohr^2/u.

It is printed with six decimals (`vibman_print 4`); a formatted checkpoint (.fchk) of the same run has all digits.
"""

from __future__ import annotations

import re

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ...sources.units import BOHR
from .printed import Printed, first_of, last_before, last_of, numbers_in, reader_of

MARK = "Mass-Weighted Hessian Matrix:"
FLOATS = re.compile(r"^\s*(?:-?\d+\.\d+\s*)+$")


def printed(text: str) -> Printed:
    """Raises ValueError, IndexError, KeyError for what is not there."""
    at = first_of(text, MARK, " (vibman_print 4 prints it)")
    end = text.find("Translations and Rotations Projected", at)
    rows = [line.split() for line in text[last_before(text, "Standard Nuclear Orientation", at) : at].splitlines()]
    atoms = [row for row in rows if len(row) == 5 and row[0].isdigit() and row[1].isalpha()]
    numbers = np.array([atomic_numbers[row[1].capitalize()] for row in atoms])
    masses = [float(word) for word in re.findall(r"Element \w+\s+Has Mass\s+(\d+\.\d+)", text[at:])]
    if len(masses) < len(numbers):
        raise ValueError("no masses of all atoms")
    states = re.findall(r"\$molecule\s+(-?\d+)\s+(\d+)", text[:at])
    if not states:
        raise ValueError("no charge and multiplicity ($molecule)")
    energies = re.findall(r"Total energy in the final basis set\s*=\s*(-?\d+\.\d+)", text[:at])
    waves = re.findall(r"Frequency:\s+([-\d. ]+)", text)
    return Printed(
        numbers=numbers,
        positions=np.array([[float(word) for word in row[2:]] for row in atoms]) / BOHR,
        masses=np.array(masses[: len(numbers)]),
        weighted=_blocks(text[at : end if end > 0 else None], 3 * len(numbers)),
        frequencies=numbers_in(waves),
        energy=last_of(energies),
        charge=int(states[-1][0]),
        spin=int(states[-1][1]),
        remarks=(
            "Hessian to six decimals, as it is printed; the .fchk of the run has all",
            "energy is that of the SCF",
        ),
    )


def _blocks(text: str, n: int) -> NDArray[np.float64]:
    """n rows of up to six columns, block after block."""
    rows = [[float(word) for word in line.split()] for line in text.splitlines() if FLOATS.match(line)]
    blocks = [rows[first : first + n] for first in range(0, len(rows), n)]
    matrix: NDArray[np.float64] = np.concatenate([np.array(block) for block in blocks if len(block) == n], axis=1)
    if matrix.shape != (n, n):
        raise ValueError("its Hessian is cut short")
    return matrix


READER = reader_of("output of Q-Chem", ("Q-Chem, Inc", "Welcome to Q-Chem", "Q-Chem begins"), printed)
