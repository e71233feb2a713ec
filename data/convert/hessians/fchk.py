"""Formatted checkpoints of Gaussian and Q-Chem: `Cartesian Force Constants`, the lower triangle in hartree/bohr^2.

Geometry, charge, multiplicity, energy and gradient are those of the same file, in the same orientation, in atomic units.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...sources.record import Record
from ...sources.units import parse
from .contract import HessianReader, HessianRecord, Refused

_FIELD = re.compile(r"(.{40})   ([IR])(?:   N=\s*(\d+)|\s+(\S+))\s*$")
_PER_LINE = {"I": 6, "R": 5}
WANTED = {
    "Atomic numbers": "numbers",
    "Current cartesian coordinates": "positions",
    "Charge": "charge",
    "Multiplicity": "multiplicity",
    "Total Energy": "energy",
    "Cartesian Gradient": "gradient",
    "Cartesian Force Constants": "hessian",
}
SUFFIXES = (".fchk", ".fch", ".fck")


def read(path: Path) -> Iterator[HessianRecord | Refused]:
    """The one structure of a checkpoint. Raises InputError for a file that is cut short or lacks its geometry."""
    fields = _fields(path)
    missing = [name for name, key in WANTED.items() if key in ("numbers", "positions", "hessian") and key not in fields]
    if missing:
        raise InputError(f"{path} has no '{missing[0]}'; make it with formchk of a frequency calculation.")
    numbers = np.asarray(fields["numbers"], np.int64)
    n = 3 * len(numbers)
    triangle = np.asarray(fields["hessian"], np.float64)
    if len(triangle) != n * (n + 1) // 2 or len(fields["positions"]) != n:
        raise InputError(
            f"{path}: {len(triangle)} force constants for {len(numbers)} atoms; {n * (n + 1) // 2} were wanted."
        )
    hessian = np.zeros((n, n))
    hessian[np.tril_indices(n)] = triangle
    hessian += np.tril(hessian, -1).T
    gradient: NDArray[np.float64] | None = fields.get("gradient")
    forces = None if gradient is None or len(gradient) != n else -gradient.reshape(-1, 3)
    record = Record(
        numbers=numbers,
        positions=np.asarray(fields["positions"], np.float64).reshape(-1, 3),
        info={key: fields[key] for key in ("charge", "multiplicity") if key in fields},
        results={"energy": fields.get("energy"), "forces": forces},
        units={name: parse("au", name, "formatted checkpoint") for name in ("length", "energy", "forces", "hessian")},
    )
    yield HessianRecord(f"{path.name}@0", record, hessian)


def _fields(path: Path) -> dict[str, Any]:
    """The fields of WANTED: scalars, or arrays in a row."""
    fields: dict[str, Any] = {}
    with open(path, encoding="latin-1") as stream:
        for line in stream:
            match = _FIELD.match(line)
            if match is None:
                continue
            name, kind, count, scalar = match[1].strip(), match[2], match[3], match[4]
            key = WANTED.get(name)
            try:
                if key is not None and count is None:
                    fields[key] = int(scalar) if kind == "I" else float(scalar.replace("D", "E"))
                elif key is not None:
                    fields[key] = _array(stream, int(count), kind)
            except ValueError as error:
                raise InputError(f"{path}: '{name}' cannot be read ({error}); is the file complete?") from error
    return fields


def _array(stream: Iterator[str], count: int, kind: str) -> NDArray[np.float64]:
    n_lines = -(-count // _PER_LINE[kind])
    words = " ".join(islice(stream, n_lines)).replace("D", "E").split()
    if len(words) != count:
        raise ValueError(f"{len(words)} numbers, {count} were wanted")
    return np.array([float(word) for word in words])


READER = HessianReader(
    "formatted checkpoint", lambda path: path.suffix.lower() in SUFFIXES, read, length_is_known=True, order=20
)
