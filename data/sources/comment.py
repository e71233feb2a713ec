"""The comment line of an extended XYZ frame: keys and values, the cell under any of its names, periodicity, stated units.

Text stays text: a value is a number only where it is written as one (`0012345`, `12_3` and `123e4567` are names), and what
names a structure is a number only where it is a plain whole one. Other programs' comments that are read: i-PI's
(CELL(abcABC) ... positions{angstrom} cell{angstrom}), CP2K's (i = 0, time = 0.000, E = -17.1).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..support.strict_json import loads
from .record import Unusable
from .units import UnitError, Units, parse, stated_in

CELL_KEYS = ("lattice", "cell", "unit_cell", "unitcell", "box", "cell_vectors", "lattice_vectors")
PBC_KEYS = ("pbc", "periodic", "periodicity")
MATRICES = ("stress", "virial")  # nine numbers of these are a matrix by columns, as the format says
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM = re.compile(
    rf"""({_QUOTED}|[^\s="'\[\]{{}},]+)\s*"""
    rf"""(?:=\s*({_QUOTED}|'(?:[^'\\]|\\.)*'|\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\{{[^{{}}]*\}}|[^\s]*))?"""
)
_INT = re.compile(r"[+-]?(?:0|[1-9]\d*)")
_FLOAT = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eEdD][+-]?\d+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_TEXT_KEY = re.compile(
    r"(?:^|_)(?:ids?|uids?|uuid|names?|group|labels?|tag|hash|key|smiles|inchi|formula)$", re.IGNORECASE
)
BOOLS = {
    "T": True,
    "F": False,
    "true": True,
    "false": False,
    "True": True,
    "False": False,
    "TRUE": True,
    "FALSE": False,
}
_IPI = re.compile(r"CELL[({](abcABC|H|GENH)[)}]:?\s*((?:[-+.\deE]+\s+){5,8}[-+.\deE]+)")
_IPI_QUANTITY = re.compile(r"([A-Za-z_]+)\{([^{}]*)\}")
_CP2K = re.compile(r"\s*i\s*=\s*\d+\s*,\s*time\s*=")
_CHARGE_SPIN = re.compile(r"\s*[+-]?\d{1,2}\s+\d{1,2}\s*")
MANY = 64  # values of a list that are looked at one by one


@dataclass
class Comment:
    """What a comment line says; Properties is None where it says nothing of the columns."""

    info: dict[str, Any] = field(default_factory=dict)
    properties: str | None = None
    cell: NDArray[np.float64] | None = None
    pbc: tuple[bool, bool, bool] | None = None
    units: Units = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def parse_comment(line: str, text_keys: frozenset[str] = frozenset()) -> Comment:
    """The comment line of a frame; text_keys: further keys whose values are names. Raises Unusable."""
    if "=" not in line:
        return _other_program(line.strip())
    comment = Comment()
    cells: dict[str, NDArray[np.float64]] = {}
    has_units = "unit" in line or "Unit" in line
    for match in _ITEM.finditer(line):
        key, text = match[1], match[2]
        key = _unquoted(key) if key[0] == '"' else key
        role = _role(key)
        value: Any = True if text is None else _unquoted(text) if text[:1] in "\"'[{" and len(text) > 1 else text
        if role == "properties":
            comment.properties = str(value)
            continue
        if isinstance(value, str) and not (has_units and "unit" in key.lower() and role != "cell"):
            value = _named(value) if role == "text" or key in text_keys else convert(value)
        if role == "cell":
            cell = _cell(key, value)
            if cell is not None:
                cells[key] = cell
                continue
        elif role == "pbc":
            comment.pbc = _pbc(value)
            continue
        elif key in MATRICES and isinstance(value, np.ndarray) and value.shape == (9,):
            value = value.reshape(3, 3, order="F")
        if key in comment.info and text is not None:
            comment.remarks += (f"'{key}' occurs twice in the comment line: the last is taken",)
        comment.info[key] = value
    if cells:
        comment.cell = _same(cells)
    if has_units:
        comment.units = _units(comment.info)
    if _CP2K.match(line):
        comment.units = {"energy": parse("hartree", "energy", "CP2K's comment line"), **comment.units}
        if comment.cell is None:
            comment.remarks += ("CP2K's comment line has no cell: taken as not periodic",)
    return comment


def convert(text: str) -> Any:
    """A value as it is written: int, float, bool, an array of numbers, a list of bools, JSON after `_JSON`, else text."""
    parts = text.replace(",", " ").split()
    if len(parts) == 1:
        part = parts[0]
        number = _number(part)
        return BOOLS.get(part, text) if number is None else number
    if not parts:
        return text
    if parts[0] == "_JSON":
        return _json(text)
    if len(parts) > MANY and "_" not in text:
        try:
            return np.array([float(part) for part in parts])
        except ValueError:
            return text
    numbers = [_number(part) for part in parts]
    if all(number is not None for number in numbers):
        return np.array(numbers)
    bools = [BOOLS.get(part) for part in parts]
    return text if None in bools else bools


def to_float(text: str) -> float:
    """A float of a column: Fortran's D for an exponent is one, an underscore is not. Raises ValueError."""
    if "_" in text:
        raise ValueError(f"'{text}' is not a number")
    try:
        return float(text)
    except ValueError:
        return float(text.replace("D", "E").replace("d", "e"))


@lru_cache(maxsize=4096)
def _role(key: str) -> str:
    low = key.lower()
    if low == "properties":
        return "properties"
    if low in CELL_KEYS:
        return "cell"
    if low in PBC_KEYS:
        return "pbc"
    return "text" if _TEXT_KEY.search(key) else ""


def _number(part: str) -> int | float | None:
    if _INT.fullmatch(part):
        return int(part) if len(part) < 19 else None  # a longer one is a name
    if _FLOAT.fullmatch(part):
        number = to_float(part)
        return number if math.isfinite(number) else None
    return float(part) if _NOT_FINITE.fullmatch(part) else None


def _named(text: str) -> str | int:
    """What names a structure: text, or the whole number that is written just so."""
    if text.startswith("_JSON"):
        value = _json(text)
        return value if isinstance(value, str) else text
    return int(text) if _INT.fullmatch(text) and str(int(text)) == text and len(text) < 19 else text


def _json(text: str) -> Any:
    try:
        value = loads(text.strip().removeprefix("_JSON"))
        array = np.array(value)
        return array if array.dtype.kind in "ifb" else value
    except ValueError:
        return text


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if "\\" in text else text[1:-1]


def _cell(key: str, value: Any) -> NDArray[np.float64] | None:
    """Rows of lattice vectors from nine numbers, a b c alpha beta gamma, or three edges; None for what is not a cell."""
    if isinstance(value, str) and "[" in value:
        value = convert(value.replace("[", " ").replace("]", " "))
    numbers = value.reshape(-1) if isinstance(value, np.ndarray) and value.dtype.kind in "if" else np.zeros(0)
    if numbers.size == 9:
        return numbers.astype(np.float64).reshape(3, 3)
    if key.lower() == "lattice" and numbers.size not in (3, 6):
        raise Unusable(
            "cannot be parsed", f"{key} has {numbers.size} numbers; it is nine, the lattice vectors one after the other"
        )
    if numbers.size == 3:
        return np.diag(numbers.astype(np.float64))
    return _of_lengths_and_angles(numbers, key) if numbers.size == 6 else None


def _of_lengths_and_angles(numbers: NDArray[Any], key: str) -> NDArray[np.float64]:
    from ase.geometry.cell import cellpar_to_cell

    lengths, angles = numbers[:3], numbers[3:]
    if not ((lengths > 0).all() and (angles > 1).all() and (angles < 179).all()):
        raise Unusable("cannot be parsed", f"{key} has six numbers that are not a b c and three angles in degrees")
    try:
        cell: NDArray[np.float64] = np.asarray(cellpar_to_cell(numbers), np.float64)
    except (AssertionError, ValueError) as error:
        raise Unusable("cannot be parsed", f"{key}: there is no cell with these angles") from error
    return cell


def _same(cells: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    (key, cell), *others = cells.items()
    for other_key, other in others:
        if not np.allclose(cell, other, rtol=1e-6, atol=1e-6):
            raise Unusable("two cells", f"{key} and {other_key} differ")
    return cell


def _pbc(value: Any) -> tuple[bool, bool, bool]:
    """From T, 'T T F', '1 1 0'. Raises Unusable."""
    items = value if isinstance(value, list) else np.asarray(value).reshape(-1).tolist()
    items = items * 3 if len(items) == 1 else items
    if len(items) != 3 or any(item not in (0, 1) for item in items):
        raise Unusable("cannot be parsed", f"pbc = {value!r}; three of T and F were wanted")
    return bool(items[0]), bool(items[1]), bool(items[2])


def _units(info: dict[str, Any]) -> Units:
    try:
        return stated_in(info, "comment line")
    except UnitError as error:
        raise Unusable("unit is not known", str(error)) from error


def _other_program(line: str) -> Comment:
    """A comment without any key: i-PI's, or free text."""
    ipi = _IPI.search(line)
    if ipi is None:
        remarks = ("a comment such as '0 1' may be charge and multiplicity: write charge=0 spin=1 to have them read",)
        return Comment({"comment": line} if line else {}, remarks=remarks if _CHARGE_SPIN.fullmatch(line) else ())
    quantities = dict(_IPI_QUANTITY.findall(line[ipi.end() :]))
    quantity = next((name for name in quantities if name != "cell"), "positions")
    if not quantity.startswith(("positions", "x_centroid")):
        raise Unusable("no positions", f"an i-PI file of {quantity}; give the one of positions")
    numbers = np.array([float(number) for number in ipi[2].split()])
    try:
        units = {
            "length": parse(quantities.get(quantity) or "bohr", "length", "i-PI's comment line"),
            "cell": parse(quantities.get("cell") or "bohr", "cell", "i-PI's comment line"),
        }
    except UnitError as error:
        raise Unusable("unit is not known", str(error)) from error
    if ipi[1] == "abcABC" and numbers.size == 6:
        cell = _of_lengths_and_angles(numbers, "CELL(abcABC)")
    elif ipi[1] != "abcABC" and numbers.size == 9:
        cell = numbers.reshape(3, 3).T  # i-PI's vectors are columns
    else:
        raise Unusable("cannot be parsed", f"CELL({ipi[1]}) has {numbers.size} numbers")
    return Comment({"comment": line}, cell=cell, pbc=(True, True, True), units=units)
