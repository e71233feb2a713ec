"""XYZ and extended XYZ, one frame at a time, so that a bad frame is skipped and the file goes on.

The columns are read here and not by ASE, whose parser drops what it does not know without a word and costs twice the time;
ASE's reading is the second opinion that the tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..comment import BOOLS, Comment, parse_comment, to_float
from ..files import ase_format, frames_reader
from ..formula import symbols
from ..make import GROUP_KEYS
from ..reader import Reader
from ..record import Record, Unusable
from ..report import Keys

DEFAULT = "species:S:1:pos:R:3"
RESULTS = ("energy", "free_energy", "stress", "dipole", "magmom", "dielectric_tensor", "polarization")
MAX_ATOMS = 5_000_000
_SPECIES, _NUMBERS, _POSITIONS = (
    ("species", "symbols", "element"),
    ("Z", "numbers", "atomic_numbers"),
    ("pos", "positions"),
)
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, eq=False)
class Frame:
    """The lines of one frame. vectors: `VEC1 x y z` after the atoms, an old way to write the cell."""

    n_atoms: int
    comment: str
    rows: list[str]
    vectors: list[str]
    remarks: tuple[str, ...] = ()


class Columns(Mapping[str, Any]):
    """The columns of a frame by name, converted when they are asked for: most are never."""

    def __init__(self, rows: list[list[str]], layout: dict[str, tuple[str, int, int]]):
        self._rows, self._layout = rows, layout

    def __getitem__(self, name: str) -> NDArray[Any]:
        kind, start, width = self._layout[name]
        cells = [text for row in self._rows for text in row[start : start + width]]
        try:
            if kind == "R":
                values = _floats(cells)
            elif kind == "I":
                values = np.array([int(text) for text in cells])
            else:
                values = np.array(cells if kind == "S" else [BOOLS[text] for text in cells])
        except (ValueError, KeyError) as error:
            raise Unusable("cannot be parsed", f"column '{name}': {error}") from error
        return values if width == 1 else values.reshape(len(self._rows), width)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout)

    def __len__(self) -> int:
        return len(self._layout)


def records(path: Path, keys: Keys) -> Iterator[Callable[[], Record]]:
    """Every frame as a record, parsed when it is called. Raises InputError where a frame does not begin with its length."""
    text_keys = frozenset((*GROUP_KEYS, *((keys.group,) if keys.group else ())))
    for frame in frames(path):
        yield partial(record_of_frame, frame, text_keys)


def record_of_frame(frame: Frame, text_keys: frozenset[str] = frozenset()) -> Record:
    """One frame as a record. Raises Unusable."""
    if len(frame.rows) < frame.n_atoms:
        raise Unusable("cut short", f"it has fewer than the {frame.n_atoms} atoms that its first line says")
    comment = Comment({"comment": frame.comment}) if frame.vectors else parse_comment(frame.comment, text_keys)
    layout, width = _layout(comment.properties or DEFAULT)
    rows = [row.split() for row in frame.rows]
    widths = set(map(len, rows))
    if rows and min(widths) < width:
        raise Unusable("cannot be parsed", f"a line of an atom has {min(widths)} columns, not {width}")
    columns = Columns(rows, layout)
    remarks = [*frame.remarks, *comment.remarks]
    if rows and max(widths) > width:
        remarks.append("columns that no Properties names are left out")
    numbers, more = _numbers(columns)
    positions = columns[next((name for name in _POSITIONS if name in layout), "pos")]
    if positions.shape != (len(rows), 3) and rows:
        raise Unusable("no positions", f"its positions have the shape {positions.shape}")
    results = {key: comment.info.pop(key) for key in RESULTS if key in comment.info}
    cell, pbc = _cell_and_pbc(comment, frame.vectors)
    remarks += more
    return Record(numbers, positions, cell, pbc, comment.info, columns, results, comment.units, tuple(remarks))


def frames(path: Path) -> Iterator[Frame]:
    """The frames of a file. Raises InputError where one does not begin with its length."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rb") as stream:
        yield from _frames(path, stream)


def _frames(path: Path, stream: IO[bytes]) -> Iterator[Frame]:
    line_number = n_frames = 0
    pending = b""
    while line := pending or stream.readline():
        line_number += not pending
        pending = b""
        count = line.strip()
        if line_number == 1:
            count = count.removeprefix(BOM)
        if not count:
            continue
        if not count.isdigit() or int(count) > MAX_ATOMS:
            shown = line.strip()[:40].decode("utf-8", "replace")
            hint = (
                "; it is UTF-16: save it as UTF-8"
                if line_number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")
                else ""
            )
            raise InputError(
                f"{path}, line {line_number}: frame {n_frames} should begin with its number of atoms, "
                f"not with '{shown}'{hint}; is the count of the frame before it right? "
                f"'{path}@:{max(n_frames - 1, 0)}' takes the frames before that one."
            )
        n_atoms = int(count)
        body = list(islice(stream, n_atoms + 1))
        line_number += len(body)
        vectors = []
        while (pending := stream.readline()).lstrip().startswith(b"VEC"):
            vectors.append(pending)
            line_number += 1
        line_number += bool(pending)
        lines, remarks = _decoded(body)
        yield Frame(
            n_atoms, lines[0] if lines else "", lines[1:], [v.decode("ascii", "replace") for v in vectors], remarks
        )
        n_frames += 1


def _decoded(body: list[bytes]) -> tuple[list[str], tuple[str, ...]]:
    """Text in UTF-8, or in Latin-1 where it is not that, which every byte is."""
    block = b"".join(body)
    try:
        return block.decode("utf-8").split("\n")[: len(body)], ()
    except UnicodeDecodeError:
        return block.decode("latin-1").split("\n")[: len(body)], ("text is not UTF-8 and is read as Latin-1",)


def _floats(cells: list[str]) -> NDArray[np.float64]:
    if "_" not in "".join(cells):  # Python takes 1_0 for 10
        try:
            return np.array(list(map(float, cells)))
        except ValueError:
            pass
    return np.array([to_float(text) for text in cells])


@lru_cache(maxsize=256)
def _layout(properties: str) -> tuple[dict[str, tuple[str, int, int]], int]:
    """'species:S:1:pos:R:3' as name: (kind, first column, columns), and how many columns there are. Raises Unusable."""
    parts = properties.strip().split(":")
    layout: dict[str, tuple[str, int, int]] = {}
    start = 0
    for name, kind, count in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if kind not in ("S", "R", "I", "L") or not count.isdigit() or name in layout:
            break
        layout[name] = (kind, start, int(count))
        start += int(count)
    if 3 * len(layout) != len(parts):
        raise Unusable(
            "cannot be parsed", f"Properties is '{properties[:80]}', not name:kind:columns with kinds S, R, I, L"
        )
    if not any(name in layout for name in _POSITIONS):
        raise Unusable("no positions", f"Properties has no pos: {properties[:80]}")
    if not any(name in layout for name in (*_SPECIES, *_NUMBERS)):
        raise Unusable("no elements", f"Properties has neither species nor Z: {properties[:80]}")
    return layout, start


def _numbers(columns: Columns) -> tuple[NDArray[np.int64], list[str]]:
    """Atomic numbers, and remarks. Raises Unusable."""
    name = next((name for name in _NUMBERS if name in columns), None)
    if name is not None:
        return np.asarray(columns[name], np.int64), []
    species = columns[next(name for name in _SPECIES if name in columns)].tolist()
    known = _element_numbers()
    try:
        return np.array([known[symbol] for symbol in species], np.int64), []
    except KeyError:
        pass
    numbers = [_number_of(symbol) for symbol in species]
    heavy = {symbol for symbol in species if symbol in ("D", "T")}
    return np.array(numbers, np.int64), ["deuterium or tritium is read as hydrogen"] if heavy else []


def _number_of(symbol: str) -> int:
    if symbol in ("D", "T"):
        return 1
    number = _element_numbers().get(symbol.capitalize())
    if number is not None:
        return number
    if symbol.isdigit():
        raise Unusable(
            "unknown element", f"'{symbol}' in place of a symbol: an atom type, or an atomic number? Write symbols"
        )
    if symbol.lower().startswith(("gh", "bq", "@", "x", "du")):
        raise Unusable("unknown element", f"'{symbol}' is a ghost or dummy atom; leave it out")
    raise Unusable("unknown element", f"there is no element '{symbol}'")


@cache
def _element_numbers() -> dict[str, int]:
    return {symbol: number for number, symbol in enumerate(symbols()) if number}


def _cell_and_pbc(comment: Comment, vectors: list[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if vectors:
        return _of_vectors(vectors)
    cell = np.zeros((3, 3)) if comment.cell is None else comment.cell
    if comment.pbc is not None:
        return cell, np.array(comment.pbc)
    return cell, np.full(3, bool(cell.any()))  # a cell without a word on its directions is periodic in all


def _of_vectors(vectors: list[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    cell = np.zeros((3, 3))
    try:
        for number, line in enumerate(vectors):
            name, *values = line.split()
            if number > 2 or name != f"VEC{number + 1}":
                raise ValueError(f"'{name}' where VEC{number + 1} was wanted")
            cell[number] = [to_float(value) for value in values]
    except ValueError as error:
        raise Unusable("cannot be parsed", f"its cell: {error}") from error
    return cell, np.arange(3) < len(vectors)


READER = Reader(
    name="xyz",
    what="XYZ and extended XYZ, also compressed (.gz, .bz2, .xz)",
    recognises=lambda path: ase_format(path) in ("xyz", "extxyz"),
    read=frames_reader(records),
)
