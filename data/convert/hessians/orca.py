"""ORCA's .hess: `$hessian` in blocks of five columns, hartree/bohr^2; `$atoms` with positions in bohr; its own frequencies.

Energy and gradient are those of the .engrad of the same name beside it, where there is one of the same geometry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.record import Record
from ...sources.units import BOHR, HARTREE, parse
from .contract import HessianReader, HessianRecord, Refused, Stated
from .minimum import OPTIONS, at_rest, require_stated_frequencies

Array = NDArray[np.float64]
SAME = 1e-4  # bohr: positions of two files of one geometry


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The one structure of the file. Raises InputError where it is cut short, or its Hessian has other frequencies than it states."""
    sections = _sections(path)
    if missing := [name for name in ("hessian", "atoms") if name not in sections]:
        raise InputError(f"{path} has no ${missing[0]}; is it complete, and ORCA's?")
    try:
        numbers, positions = _atoms(sections["atoms"])
        hessian = _matrix(sections["hessian"])
        frequencies = _numbered(sections.get("vibrational_frequencies", ["0"]))
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); is it complete?") from error
    if hessian.shape != (3 * len(numbers),) * 2:
        raise InputError(f"{path} has a Hessian of {len(hessian)} coordinates for {len(numbers)} atoms.")
    in_ev = hessian * HARTREE / BOHR**2
    require_stated_frequencies(path, numbers, in_ev, frequencies, "the file")
    beside = path.with_suffix(".engrad")
    if beside.is_file() and stated.options:
        raise InputError(f"{beside} has energy and forces: {', '.join(stated.options)} is not needed.")
    if beside.is_file():
        results = _engrad(beside, positions)
        said: tuple[str, ...] = (f"energy and forces are those of {beside.name}",)
    else:
        results, said = at_rest(path, positions * BOHR, in_ev, stated, beside.name)
        results = {"energy": results["energy"] / HARTREE, "forces": results["forces"]}
    units = {name: parse("au", name, "ORCA") for name in ("length", "energy", "forces", "hessian")}
    record = Record(numbers=numbers, positions=positions, results=results, units=units, remarks=said)
    yield HessianRecord(f"{path.name}@0", record, hessian)


def _sections(path: Path) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    name = None
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("$"):
            name = line[1:].strip()
            sections[name] = []
        elif name is not None and line.strip() and not line.startswith("#"):
            sections[name].append(line)
    return sections


def _atoms(lines: list[str]) -> tuple[NDArray[np.int64], Array]:
    n = int(lines[0])
    words = [line.split() for line in lines[1 : n + 1]]
    if len(words) < n:
        raise ValueError(f"{len(words)} of {n} atoms")
    numbers = np.array([atomic_numbers[word[0].capitalize()] for word in words])
    return numbers, np.array([[float(x) for x in word[2:5]] for word in words])


def _matrix(lines: list[str]) -> Array:
    """Blocks: a line of column numbers, then a row each with its number first."""
    n = int(lines[0])
    matrix = np.full((n, n), np.nan)
    rest = lines[1:]
    while rest:
        columns = [int(word) for word in rest[0].split()]
        for line in rest[1 : n + 1]:
            row, *values = line.split()
            matrix[int(row), columns] = [float(value) for value in values]
        rest = rest[n + 1 :]
    if np.isnan(matrix).any():
        raise ValueError(f"{int(np.isnan(matrix).sum())} of {n * n} numbers are missing")
    return matrix


def _numbered(lines: list[str]) -> Array:
    return np.array([float(line.split()[1]) for line in lines[1 : int(lines[0]) + 1]])


def _engrad(path: Path, positions: Array) -> dict[str, Any]:
    """Number of atoms, energy (hartree), gradient (hartree/bohr), numbers and positions (bohr), one after the other."""
    words = [
        line for line in path.read_text(encoding="latin-1").splitlines() if line.strip() and line.strip()[0] != "#"
    ]
    try:
        n, energy = int(words[0]), float(words[1])
        gradient = np.array([float(word) for word in words[2 : 2 + 3 * n]]).reshape(n, 3)
        there = np.array([[float(x) for x in line.split()[1:4]] for line in words[2 + 3 * n : 2 + 4 * n]])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} cannot be read ({error}); is it complete?") from error
    if there.shape != positions.shape or np.abs(there - positions).max() > SAME:
        off = np.abs(there - positions).max() if there.shape == positions.shape else float("inf")
        raise InputError(
            f"{path} is of another geometry than the Hessian beside it, by {off:.3g} bohr; remove or rename it."
        )
    return {"energy": energy, "forces": -gradient}


READER = HessianReader(
    "ORCA Hessian", lambda path: path.suffix == ".hess", read, OPTIONS, length_is_known=True, order=20
)
