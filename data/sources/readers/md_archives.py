"""Trajectories of molecules as numpy archives: MD17 and MD22 (Chmiela et al., Sci. Adv. 9, eadf0873 (2023); sGDML's layout: z, R, E, F,
r_unit, e_unit) and revised MD17 (Christensen and von Lilienfeld, Mach. Learn. Sci. Technol. 1, 045018 (2020): nuclear_charges, coords,
energies, forces). kcal/mol and Angstrom, as their papers say, where a file states nothing. Frames are read one after the other from
the archive; pickled objects are never opened."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, nearest
from ...structure import Structure
from ..files import Item, check_file, frames_reader
from ..reader import Located, Reader, SubsetRow
from ..record import Record
from ..registry import reader_of
from ..report import Keys, SourceReport
from ..units import Units, parse, parse_energy_over_length

SITE = "https://www.sgdml.org"
PAPER = "Chmiela et al., Sci. Adv. 9, eadf0873 (2023)"
MD22 = {  # frames, atoms
    "Ac-Ala3-NHMe": (85109, 42),
    "DHA": (69753, 56),
    "stachyose": (27272, 87),
    "AT-AT": (20001, 60),
    "AT-AT-CG-CG": (10153, 118),
    "buckyball-catcher": (6102, 148),
    "double-walled-nanotube": (5032, 370),
}
LAYOUTS = (("z", "R", "E", "F"), ("nuclear_charges", "coords", "energies", "forces"))
UNSTATED = "kcal/mol and Angstrom, as MD17 and MD22 are in, since the file states no units"
UNITS_OF = {"ang": "A", "angstrom": "A", "a": "A", "bohr": "bohr"}  # r_unit of sGDML


def records(path: Path, keys: Keys) -> Iterator[Item]:
    """The frames of an archive. Raises InputError for one of another layout, damaged, or with pickled objects."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _frames(path, archive)
    except EOFError as error:
        raise InputError(f"{path}: {error}; fetch the file again.") from error
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path} cannot be read as an archive of plain numbers ({error}).") from error


def _frames(path: Path, archive: zipfile.ZipFile) -> Iterator[Item]:
    names = {entry.removesuffix(".npy") for entry in archive.namelist()}
    layout = next((layout for layout in LAYOUTS if set(layout) <= names), None)
    if layout is None:
        raise InputError(
            f"{path} holds {', '.join(sorted(names)[:8]) or 'nothing'}; an archive of structures has "
            f"{' or '.join(', '.join(layout) for layout in LAYOUTS)}."
        )
    numbers = np.concatenate([np.atleast_1d(row) for row in _rows(archive, layout[0])]).astype(np.int64)
    units, remarks = _units(archive, names)
    theory = {"theory": str(_whole(archive, "theory"))} if "theory" in names else {}
    streams = [_rows(archive, name) for name in layout[1:]]
    for positions, energy, forces in zip(*streams, strict=True):
        if positions.shape != (len(numbers), 3) or forces.shape != positions.shape or np.size(energy) != 1:
            raise InputError(
                f"{path}: a frame has {positions.shape} positions and {forces.shape} forces for {len(numbers)} atoms."
            )
        yield Record(
            numbers=numbers,
            positions=np.asarray(positions, np.float64),
            info={"group": path.stem, **theory},
            results={"energy": float(np.ravel(energy)[0]), "forces": np.asarray(forces, np.float64)},
            units=units,
            remarks=remarks,
        )


def _units(archive: zipfile.ZipFile, names: set[str]) -> tuple[Units, tuple[str, ...]]:
    """Those that the file states, or those of the data sets. Raises UnitError."""
    where = "the archive" if "e_unit" in names else "the data set"
    length = str(_whole(archive, "r_unit")) if "r_unit" in names else "A"
    energy = str(_whole(archive, "e_unit")) if "e_unit" in names else "kcal/mol"
    length = UNITS_OF.get(length.lower(), length)
    units = {"length": parse(length, "length", where), **parse_energy_over_length(f"{energy}/{length}", where)}
    return units, () if "e_unit" in names else (UNSTATED,)


def _whole(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(f"{name}.npy") as stream:
        value = np.lib.format.read_array(stream, allow_pickle=False).ravel()[0]
    return value.decode() if isinstance(value, bytes) else value


def _rows(archive: zipfile.ZipFile, name: str) -> Iterator[Any]:
    """The rows of an array, one at a time. Raises ValueError for pickled objects, EOFError where the array is cut short."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
        if dtype.hasobject or is_fortran or dtype.kind not in "iuf" or not shape:
            raise ValueError(f"{name} is not a plain array of numbers, row by row")
        row = shape[1:]
        n_bytes = dtype.itemsize * int(np.prod(row, dtype=np.int64))
        for number in range(shape[0]):
            data = stream.read(n_bytes)
            if len(data) != n_bytes:
                raise EOFError(f"{name} is cut short in row {number} of {shape[0]}")
            yield np.frombuffer(data, dtype).reshape(row)


def locate(name: str, data: Path | None) -> Located:
    """The file of md22:NAME: the one that was named, or that in the folder that was. Raises InputError."""
    if name not in MD22:
        raise InputError(f"MD22 has no molecule '{name}'; there are {', '.join(MD22)}.{nearest(name, MD22)}")
    if data is None or not data.expanduser().exists():
        what = "needs --data with" if data is None else f"found no {data}; give"
        raise InputError(
            f"md22:{name} {what} the path of its npz or xyz file, or of the folder that has it, from {SITE}."
        )
    path = data.expanduser()
    if path.is_dir():
        found = sorted(
            p for p in path.iterdir() if p.suffix in (".npz", ".xyz") and _plain(p.stem).endswith(_plain(name))
        )
        if not found:
            raise InputError(f"The folder {path} has no file of md22:{name} (wanted: md22_{name}.npz), from {SITE}.")
        path = found[0]
    check_file(path)
    return Located(READER, (path,), name=name)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


_of_archive = frames_reader(records)


def read(path: Path | None, located: Located, keys: Keys, report: SourceReport) -> Iterator[Structure]:
    """The frames of an archive, or, of md22:NAME, of an XYZ file of the same numbers in the same units."""
    assert path is not None
    if path.suffix == ".npz":
        yield from _of_archive(path, located, keys, report)
        return
    report.remark(UNSTATED, path.name)
    units = {"length": parse("A", "length", "the data set"), **parse_energy_over_length("kcal/mol/A", "the data set")}
    yield from reader_of(path).read(path, located, replace(keys, units={**units, **keys.units}), report)


READER = Reader(
    name="md22",
    what="numpy archives of MD17, revised MD17 and MD22 (.npz)",
    read=read,
    recognises=lambda path: path.is_file() and path.suffix.lower() == ".npz",
    locate=locate,
    rows=tuple(
        SubsetRow(f"md22:{name}", f"dynamics of {n_atoms} atoms, PBE+MBD", True, n, citation=PAPER)
        for name, (n, n_atoms) in MD22.items()
    ),
    order=30,
)
