"""The file `hessian` of Turbomole and xTB: `$hessian`, in hartree/bohr^2, and nothing else: all 9 N^2 numbers, or blocks of its triangle.

Geometry: --geometry, else `coord` or the one .xyz beside it. Energy and forces: the last cycle of `gradient` beside it, where that is
of the same geometry. xTB's `vibspectrum` says which frequencies the Hessian has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.record import Record
from ...sources.units import BOHR, HARTREE, parse
from .contract import HessianReader, HessianRecord, Refused, Stated
from .minimum import OPTIONS, at_rest, forces_of_turns, require_stated_frequencies

Array = NDArray[np.float64]
SAME = 1e-4  # A


def read(path: Path, stated: Stated) -> Iterator[HessianRecord | Refused]:
    """The one structure. Raises InputError: no geometry, another number of atoms, other frequencies than vibspectrum says."""
    geometry = stated.geometry or _geometry_beside(path)
    atoms = _read_ase(geometry)
    try:
        hessian = matrix_of(_rows(path), atoms.positions)
    except ValueError as error:
        raise InputError(f"{path}: {error} of {geometry}.") from error
    in_ev = hessian * HARTREE / BOHR**2
    spectrum = path.with_name("vibspectrum")
    if spectrum.is_file():
        require_stated_frequencies(path, atoms.numbers, in_ev, _frequencies(spectrum), spectrum.name)
    gradient = path.with_name("gradient")
    said: tuple[str, ...] = (f"geometry is that of {geometry.name}",)
    if gradient.is_file() and not stated.at_minimum:
        results = _gradient(gradient, atoms)
        said += (f"energy and forces are those of {gradient.name}",)
    else:
        results, more = at_rest(path, atoms.positions, in_ev, stated, "gradient")
        said += more
    units = {
        name: parse(text, name, "converted by ASE")
        for name, text in (("length", "A"), ("energy", "eV"), ("forces", "eV/A"))
    }
    units["hessian"] = parse("hartree/bohr^2", "hessian", "Turbomole's format")
    record = Record(
        numbers=np.asarray(atoms.numbers, np.int64),
        positions=np.array(atoms.positions, np.float64),
        results=results,
        units=units,
        remarks=said,
    )
    yield HessianRecord(f"{path.name}@0", record, hessian)


def matrix_of(rows: list[list[str]], positions: Array) -> Array:
    """(3N,3N) of its numbers: all of them; with the number of row and line before each line's; or the 3x3 blocks of atom i with the
    atoms up to it. Raises ValueError.

    Whether the rows of a block are those of i or of j is told by rotations, along which no force appears near a minimum; translations
    are the same for both.
    """
    n_atoms = len(positions)
    n = 3 * n_atoms
    values = np.array([float(word.replace("D", "E")) for row in rows for word in row])
    if len(values) == n * n + 2 * len(rows):
        values = np.array([float(word.replace("D", "E")) for row in rows for word in row[2:]])
    if len(values) == n * n:
        return values.reshape(n, n)
    if len(values) == 9 * n_atoms * (n_atoms + 1) // 2:
        matrix = np.zeros((n_atoms, 3, n_atoms, 3))
        i, j = np.tril_indices(n_atoms)
        blocks = values.reshape(-1, 3, 3)
        matrix[i, :, j, :], matrix[j, :, i, :] = blocks, blocks.transpose(0, 2, 1)
        other = matrix.copy()
        other[i, :, j, :], other[j, :, i, :] = blocks.transpose(0, 2, 1), blocks
        candidates = [each.reshape(n, n) for each in (matrix, other)]
        return min(candidates, key=lambda each: forces_of_turns(positions, each))
    raise ValueError(f"{len(values)} numbers; {n * n} were wanted for the {n_atoms} atoms")


def _rows(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith(("$", "#", "level"))]


def _geometry_beside(path: Path) -> Path:
    if (coord := path.with_name("coord")).is_file():
        return coord
    found = sorted(path.parent.glob("*.xyz"))
    if len(found) != 1:
        what = "none is" if not found else f"{len(found)} .xyz files are"
        raise InputError(f"{path} has no geometry, and {what} beside it; name the file with --geometry.")
    return found[0]


def _read_ase(path: Path) -> Any:
    from ase.io import read as read_file

    try:
        return read_file(path, format="turbomole" if path.name == "coord" else None)
    except Exception as error:  # ASE raises what its many readers raise
        raise InputError(f"The geometry {path} cannot be read ({type(error).__name__}: {error}).") from error


def _gradient(path: Path, atoms: Any) -> dict[str, Any]:
    from ase.io import read as read_file

    try:
        last = read_file(path, format="turbomole-gradient", index=-1)
    except Exception as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {error}); is it complete?") from error
    off = np.abs(last.positions - atoms.positions).max() if len(last) == len(atoms) else float("inf")
    if off > SAME:
        raise InputError(
            f"{path} is of another geometry than the Hessian beside it, by {off:.3g} A; remove or rename it."
        )
    return {"energy": last.get_potential_energy(), "forces": last.get_forces()}


def _frequencies(path: Path) -> Array:
    """Wave numbers of xTB's vibspectrum: the first number with a decimal point of a line."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words and words[0].isdigit():
            found.append(next((float(word) for word in words[1:] if "." in word), 0.0))
    return np.array(found)


READER = HessianReader(
    "Hessian of xTB or Turbomole",
    lambda path: path.name == "hessian" or path.name.startswith("hessian_"),
    read,
    ("--geometry", *OPTIONS),
    length_is_known=True,
    order=20,
)
