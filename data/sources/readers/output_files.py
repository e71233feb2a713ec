"""Outputs of quantum chemistry programs and MDL files: geometries by ASE, the charge and multiplicity that ASE drops from the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..files import ase_format, frames_reader
from ..reader import Reader
from ..record import Record
from ..report import Keys
from .other_files import records_by_ase

_CHARGE, _SPIN = "charge", "multiplicity"
PATTERNS: dict[str, dict[str, re.Pattern[str]]] = {
    "gaussian-out": {
        _CHARGE: re.compile(r"^\s*Charge\s*=\s*(-?\d+)\s+Multiplicity\s*=\s*\d+"),
        _SPIN: re.compile(r"^\s*Charge\s*=\s*-?\d+\s+Multiplicity\s*=\s*(\d+)"),
    },
    "orca-output": {
        _CHARGE: re.compile(r"^\s*Total Charge\s+Charge\s+\.+\s*(-?\d+)"),
        _SPIN: re.compile(r"^\s*Multiplicity\s+Mult\s+\.+\s*(\d+)"),
    },
    "nwchem-out": {
        _CHARGE: re.compile(r"^\s*Charge\s*:\s*(-?\d+)"),
        _SPIN: re.compile(r"^\s*(?:Spin m|M)ultiplicity\s*:\s*(\d+)"),
    },
    "gamess-us-out": {
        _CHARGE: re.compile(r"^\s*CHARGE OF MOLECULE\s*=\s*(-?\d+)"),
        _SPIN: re.compile(r"^\s*(?:SPIN|STATE) MULTIPLICITY\s*=\s*(\d+)"),
    },
}
MDL = ("mol", "sdf")
_MDL_CHARGES = (None, 3, 2, 1, None, -1, -2, -3)  # the atom block's code for a charge; 4 is a doublet radical


def records(path: Path, keys: Keys) -> Iterator[Record]:
    """The structures of a file with the one charge and multiplicity that it states. Raises InputError where it states several."""
    name = ase_format(path)
    stated = _mdl_charge(path) if name in MDL else _stated(path, PATTERNS[name])
    missing = () if stated or name in MDL else ("the output states neither charge nor multiplicity",)
    yield from records_by_ase(path, name, stated, missing)


def _stated(path: Path, patterns: dict[str, re.Pattern[str]]) -> dict[str, Any]:
    values: dict[str, set[int]] = {key: set() for key in patterns}
    for line in _lines(path):
        for key, pattern in patterns.items():
            match = pattern.match(line)
            if match is not None:
                values[key].add(int(match[1]))
    for key, several in values.items():
        if len(several) > 1:
            raise InputError(
                f"{path} is of calculations with the {key} {' and '.join(map(str, sorted(several)))}; "
                "write each part to a file of its own, or as extended XYZ with charge= and spin=."
            )
    return {key: value for key, several in values.items() for value in several}


def _mdl_charge(path: Path) -> dict[str, Any]:
    """The formal charges of a V2000 file's first molecule, added up: those of `M  CHG` lines, else of its atom block."""
    lines = list(_lines(path))
    end = next((number for number, line in enumerate(lines) if line.startswith("M  END")), len(lines))
    by_line = [line.split()[3:] for line in lines[:end] if line.startswith("M  CHG")]
    if by_line:
        return {_CHARGE: sum(int(value) for values in by_line for value in values[1::2])}
    counts = lines[3][:3].strip() if len(lines) > 3 else ""
    atoms = lines[4 : 4 + int(counts)] if counts.isdigit() else []
    codes = [line[36:39].strip() for line in atoms]
    charges = [_MDL_CHARGES[int(code)] or 0 for code in codes if code.isdigit() and 0 < int(code) < len(_MDL_CHARGES)]
    return {_CHARGE: sum(charges)}


def _lines(path: Path) -> Iterator[str]:
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rb") as stream:
        for line in stream:
            yield line.decode("latin-1")


READER = Reader(
    name="output",
    what="outputs of Gaussian, ORCA, NWChem and GAMESS, MDL mol and sdf",
    recognises=lambda path: ase_format(path) in (*PATTERNS, *MDL),
    read=frames_reader(records),
)
