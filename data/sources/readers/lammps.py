"""LAMMPS dumps and data files, where they say which elements their atom types are: ASE makes H, He, Li of types 1, 2, 3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..files import ase_format, frames_reader, head
from ..reader import Reader
from ..record import Record, Unusable
from ..report import Keys
from ..units import UnitError, Units, stated_in
from .other_files import records_by_ase

NO_ELEMENTS = "atom types in place of elements"
METAL = "units of a LAMMPS file are not stated: taken as metal (eV, A)"


def records(path: Path, keys: Keys) -> Iterator[Record]:
    """The structures of a dump or data file; Unusable where nothing tells the elements. Raises InputError."""
    name, beginning = ase_format(path), head(path)
    problem = _problem(name, beginning)
    if problem is not None:
        raise Unusable(NO_ELEMENTS, problem)
    units, remarks = _units(name, beginning)
    for record in records_by_ase(path, name, {}, remarks):
        yield Record(**{**vars(record), "units": units})


def _problem(name: str, beginning: str) -> str | None:
    if name == "lammps-dump-binary":
        return "a binary dump has no elements; dump as text with the column `element` (dump_modify ... element C H O)"
    if name == "lammps-data":
        labelled = re.search(r"^\s*(Masses|Atom Type Labels)\b", beginning, re.MULTILINE)
        return None if labelled else "there is no section Masses from which elements could be told; add it"
    columns = re.search(r"^ITEM: ATOMS (.*)$", beginning, re.MULTILINE)
    if columns is not None and {"element", "mass"} & set(columns[1].split()):
        return None
    return "the dump has types and no elements; dump with the column `element` (dump_modify ... element C H O)"


def _units(name: str, beginning: str) -> tuple[Units, tuple[str, ...]]:
    """The units of forces where the dump states its style; positions are as they stand. Raises Unusable."""
    style = re.search(r"^ITEM: UNITS\s*\n\s*(\w+)", beginning, re.MULTILINE)
    style = style or re.search(r"\bunits\s*=\s*(\w+)", beginning.split("\n", 1)[0])
    if style is None:
        return {}, (METAL,)
    if style[1] == "metal":
        return {}, ()
    try:
        return stated_in({"units": style[1]}, f"LAMMPS's units {style[1]}"), ()
    except UnitError as error:
        raise Unusable(
            "unit is not known", f"LAMMPS's units {style[1]} are not read; use metal, real or electron"
        ) from error


READER = Reader(
    name="lammps",
    what="LAMMPS dumps and data files with elements",
    recognises=lambda path: ase_format(path).startswith("lammps"),
    read=frames_reader(records),
)
