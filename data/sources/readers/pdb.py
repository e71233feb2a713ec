"""PDB files that state the element of every atom and one place for it.

ASE guesses an element from an atom's name where the columns of the element are blank (CA is calcium, or the alpha carbon),
and keeps every alternate location. Neither is wanted: the file is refused with what to do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import ase_format, frames_reader
from ..formula import symbols
from ..reader import Reader
from ..record import Record, Unusable
from ..report import Keys
from .other_files import records_by_ase

_CHARGE = re.compile(r"(\d)([+-])|([+-])(\d)")


def records(path: Path, keys: Keys) -> Iterator[Record]:
    """The models of a file. Raises Unusable, where ASE would guess."""
    info = _checked(path)
    yield from records_by_ase(path, "proteindatabank", info)


def _checked(path: Path) -> dict[str, Any]:
    """The total of the formal charges, where there are any. Raises Unusable."""
    from ase.io.formats import open_with_compression

    places: dict[str, set[str]] = defaultdict(set)
    charge: int | None = None
    with open_with_compression(str(path), "rb") as stream:
        for raw in stream:
            line = raw.decode("latin-1").rstrip("\n")
            if line.startswith("ENDMDL"):
                break  # the other models are of the same atoms
            if not line.startswith(("ATOM  ", "HETATM")):
                continue
            _check_element(line)
            atom = line[12:16] + line[17:27]
            places[atom].add(line[16])
            if len(places[atom]) > 1:
                raise Unusable(
                    "alternate locations",
                    f"atom {line[12:16].strip()} of {line[17:27].strip()} has the locations "
                    f"{', '.join(sorted(places[atom])).strip()}; keep one (pdb_selaltloc of pdb-tools does it)",
                )
            formal = _CHARGE.fullmatch(line[78:80].strip())
            if formal is not None:
                sign = formal[2] or formal[3]
                charge = (charge or 0) + int(formal[1] or formal[4]) * (1 if sign == "+" else -1)
    return {} if charge is None else {"charge": charge}


def _check_element(line: str) -> None:
    symbol = line[76:78].strip().capitalize()
    if symbol in ("D", "T") or symbol in symbols()[1:]:
        return
    stated = f"'{symbol}'" if symbol else "blank"
    raise Unusable(
        "no element column",
        f"the element (columns 77 and 78) of atom {line[12:16].strip()} is {stated}; "
        "its name alone does not tell (CA is calcium or a carbon): add elements (pdb_element of pdb-tools does it)",
    )


READER = Reader(
    name="pdb",
    what="PDB",
    recognises=lambda path: ase_format(path) == "proteindatabank",
    read=frames_reader(records),
)
