"""CP2K's output of RUN_TYPE VIBRATIONAL_ANALYSIS: geometry, cell, energy, forces, and `VIB| Hessian in cartesian coordinates`.

That is +d2E/dR2 / sqrt(m_i m_j) times 10^6 in hartree/bohr^2 per electron mass, whatever its title says (vb_anal in CP2K's
src/motion/vibrational_analysis.F: -(F(+dx) - F(-dx)) / (2 dx) / sqrt(m_i m_j) * 1E6; so do TAMkin's and UniMoVib's readers take it), in
blocks of five columns; nothing is projected out of it. Energies and forces are in hartree and bohr.
"""

from __future__ import annotations

import re

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ...sources.units import BOHR
from .printed import Printed, first_of, last_of, numbers_in, reader_of

MARK = "VIB| Hessian in cartesian coordinates"
SCALE = 1e-6 * 1822.888486  # hartree/bohr^2/u: a u in electron masses, and what CP2K multiplies by
FLOAT = r"-?\d+\.\d+"
TO_BOHR = {"angstrom": 1 / BOHR, "bohr": 1.0}
GEOMETRY = re.compile(
    r"ATOMIC COORDINATES IN (\w+)\s*\n\s*\n.*\n\s*(?:\n)?((?:\s*\d+ +\d+ +[A-Za-z].*\n)+)", re.IGNORECASE
)
VECTOR = re.compile(
    rf"^ CELL\|\s+Vector ([abc]) \[(\w+)\]:?\s+({FLOAT})\s+({FLOAT})\s+({FLOAT})", re.IGNORECASE | re.MULTILINE
)
AT_REST = re.compile(
    rf"Minimum Structure - Energy and Forces:\s+VIB\|\s+Total energy:\s+({FLOAT})(.*)", re.IGNORECASE | re.DOTALL
)
FORCES = re.compile(rf"^ VIB\|\s+[A-Za-z]\w*\s+({FLOAT})\s+({FLOAT})\s+({FLOAT})\s*$", re.MULTILINE)
Array = NDArray[np.float64]


def printed(text: str) -> Printed:
    """Raises ValueError, IndexError, KeyError for what is not there."""
    at = first_of(text, MARK)
    before = text[:at]
    symbols, weighted = _matrix(text[at + len(MARK) :].split(" VIB|")[0])
    positions, masses = _geometry(before)
    if len(symbols) != len(masses):
        raise ValueError(f"a Hessian of {len(symbols)} of its {len(masses)} atoms, where all must be free to move")
    cell, pbc, said = _cell(before)
    still = AT_REST.search(before)
    forces = np.array(FORCES.findall(still[2]), np.float64) if still else None
    if forces is not None and len(forces) != len(masses):
        raise ValueError(f"forces of {len(forces)} of its {len(masses)} atoms")
    charge, spin = (
        re.findall(rf"^ DFT\| {word}\s+(-?\d+)", before, re.MULTILINE) for word in ("Charge", "Multiplicity")
    )
    return Printed(
        numbers=np.array([atomic_numbers[symbol] for symbol in symbols]),
        positions=positions,
        masses=masses,
        weighted=weighted * SCALE,
        frequencies=numbers_in(re.findall(r"VIB\|Frequency \(cm\^-1\)([-\d. ]+)", text)),
        energy=float(still[1]) if still else None,
        charge=int(last_of(charge) or 0),
        spin=int(last_of(spin) or 1),
        remarks=(
            "Hessian, positions and masses to the decimals that are printed",
            *(() if charge and spin else ("charge or multiplicity is not printed: taken as 0 and 1",)),
            *said,
        ),
        forces=forces,
        cell=cell,
        pbc=pbc,
    )


def _matrix(text: str) -> tuple[list[str], Array]:
    """Elements of the atoms, and the matrix: blocks of a line of column numbers and rows of a number, an element and numbers."""
    rows: dict[int, str] = {}
    entries: dict[tuple[int, int], float] = {}
    columns: list[int] = []
    for line in text.splitlines():
        words = line.split()
        if words and all(word.isdigit() for word in words):
            columns = [int(word) - 1 for word in words]
        elif len(words) > 2 and words[0].isdigit():
            row = int(words[0]) - 1
            rows[row] = words[1]
            values = re.findall(FLOAT, line)
            if len(values) == len(columns):
                entries |= {(row, column): float(value) for column, value in zip(columns, values, strict=True)}
    n = 1 + max(rows, default=-1)
    if len(entries) != n * n or n == 0 or n % 3:
        raise ValueError(f"its Hessian has {len(entries)} of {n * n} numbers")
    matrix = np.zeros((n, n))
    for place, value in entries.items():
        matrix[place] = value
    return [rows[row] for row in range(0, n, 3)], matrix


def _geometry(text: str) -> tuple[Array, Array]:
    """Positions in bohr and masses in u: the last five numbers of a row are x, y, z, a charge and the mass."""
    found = GEOMETRY.findall(text)
    if not found:
        raise ValueError("no 'ATOMIC COORDINATES IN', which PRINT_LEVEL MEDIUM prints")
    unit, table = found[-1]
    rows = np.array([[float(word) for word in line.split()[-5:]] for line in table.splitlines() if line.strip()])
    return rows[:, :3] * TO_BOHR[unit.lower()], rows[:, 4]


def _cell(text: str) -> tuple[Array, NDArray[np.bool_], tuple[str, ...]]:
    """Cell in bohr, where it repeats, and what is said of that; zeros where it does not."""
    found = {name: np.array(words, np.float64) * TO_BOHR[unit.lower()] for name, unit, *words in VECTOR.findall(text)}
    stated = re.findall(r"^ CELL\| Periodicity\s+(\w+)", text, re.MULTILINE) or re.findall(
        r"^ POISSON\| Periodicity\s+(\w+)", text, re.MULTILINE
    )
    directions = stated[-1].upper() if stated else "XYZ"
    pbc = np.array([axis in directions for axis in "XYZ"]) if directions != "NONE" else np.zeros(3, bool)
    if not pbc.any():
        return np.zeros((3, 3)), pbc, ()
    said = () if stated else ("no periodicity is printed: taken as XYZ, CELL's own",)
    return np.array([found[name] for name in "abc"]), pbc, said


READER = reader_of("output of CP2K", ("CP2K| version string",), printed)
