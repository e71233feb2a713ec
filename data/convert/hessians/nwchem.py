"""NWChem's output of `task ... freq`: the first of its two mass-weighted Hessians, which has nothing projected out of it.

Hartree/bohr^2 per 1000 u, a lower triangle in blocks of ten columns; the table of atoms before it has positions in bohr and masses.
"""

from __future__ import annotations

import re

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from .printed import Printed, first_of, last_before, last_of, number, numbers_in, reader_of

MARK = "MASS-WEIGHTED NUCLEAR HESSIAN"
ENERGY = re.compile(r"Total (?:DFT|SCF) energy\s*=\s*(-?\d+\.\d+)")


def printed(text: str) -> Printed:
    """Raises ValueError, IndexError, KeyError for what is not there."""
    at = first_of(text, MARK)
    atoms = _atoms(text[last_before(text, "Atom information", at) : at])
    numbers = np.array([atomic_numbers[re.sub(r"[^A-Za-z].*", "", tag).capitalize()] for tag, _ in atoms])
    values = np.array([row for _, row in atoms])
    energies = ENERGY.findall(text, 0, at)
    charge, spin = (re.findall(rf"{word}\s*:\s*(-?\d+)", text[:at]) for word in ("Charge", "Spin multiplicity"))
    # The projected frequencies come last, after the second Hessian.
    lines = re.findall(r"P\.Frequency\s+([-\d. ]+)", text) or re.findall(r"Frequency\s+([-\d. ]+)", text)
    return Printed(
        numbers=numbers,
        positions=values[:, :3],
        masses=values[:, 3],
        weighted=_triangle(text[at:], 3 * len(numbers)) / 1000.0,
        frequencies=numbers_in(lines),
        energy=last_of(energies),
        charge=int(charge[-1]) if charge else 0,
        spin=int(spin[-1]) if spin else 1,
        remarks=(
            "Hessian to six digits, as it is printed",
            *(() if energies else ("no SCF or DFT energy in the output",)),
        ),
    )


def _atoms(text: str) -> list[tuple[str, list[float]]]:
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 6 and words[1].isdigit():
            rows.append((words[0], [number(word) for word in words[2:]]))
    if not rows:
        raise ValueError("no table of atoms")
    return rows


def _triangle(text: str, n: int) -> NDArray[np.float64]:
    matrix = np.full((n, n), np.nan)
    columns: list[int] = []
    for line in text.splitlines():
        words = line.split()
        if words and all(word.isdigit() for word in words):
            columns = [int(word) - 1 for word in words]
        elif columns and words and words[0].isdigit():
            row = int(words[0]) - 1
            for column, word in zip(columns, words[1:], strict=False):
                matrix[row, column] = matrix[column, row] = number(word)
        elif columns and columns[-1] == n - 1 and not np.isnan(matrix).any():
            break
    if np.isnan(matrix).any():
        raise ValueError("its Hessian is cut short")
    return matrix


READER = reader_of("output of NWChem", ("Northwest Computational Chemistry Package",), printed)
