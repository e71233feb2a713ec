"""What a reader of Hessians is, and what it hands on: one structure with its labels, in the file's own units."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...sources.record import Record, Unusable


@dataclass(frozen=True, eq=False)
class HessianRecord:
    """One structure of a file. record: geometry, charge and spin, energy and forces in its results, units that the file states.

    hessian: 9 N^2 numbers in any layout of layout.py; None where the file has none. place: file@number.
    """

    place: str
    record: Record
    hessian: Any


@dataclass(frozen=True)
class Refused:
    """A structure that cannot be made, with its reason."""

    place: str
    why: Unusable


@dataclass(frozen=True)
class Stated:
    """What the user says of a file whose format leaves it out. geometry: the file that has it; energy: eV; at_minimum: the forces
    are 0, and so is the energy where none is stated; delta: A, by which atoms were moved."""

    geometry: Path | None = None
    energy: float | None = None
    at_minimum: bool = False
    delta: float | None = None

    @property
    def options(self) -> list[str]:
        given = (
            ("--geometry", self.geometry),
            ("--energy", self.energy),
            ("--at-minimum", self.at_minimum or None),
            ("--delta", self.delta),
        )
        return [option for option, value in given if value is not None]


@dataclass(frozen=True)
class HessianReader:
    """One format. recognises(path): the reader with the lowest `order` is asked first. read(path, stated): raises InputError.

    takes: the options of Stated that are of use to it; others are refused. length_is_known: whether the format has a unit of length,
    where the file states none. files: of formats that are a folder: all that is read of it; the path is that or one of them.
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[..., Iterator[HessianRecord | Refused]]
    takes: tuple[str, ...] = ()
    length_is_known: bool = False
    order: int = 50
    files: Callable[[Path], tuple[Path, ...]] | None = None


def reading(path: Path, stated: Stated = Stated()) -> tuple[HessianReader, Iterator[HessianRecord | Refused]]:
    """The reader of a file, and what it reads. Raises InputError for what is stated and not used."""
    reader = reader_of(path)
    useless = [option for option in stated.options if option not in reader.takes]
    if useless:
        takes = f"; of these it takes {', '.join(reader.takes)}" if reader.takes else ""
        raise InputError(f"{path} is read as {reader.name}, which has no use for {', '.join(useless)}{takes}.")
    return reader, reader.read(path, stated) if reader.takes else reader.read(path)


@cache
def readers() -> tuple[HessianReader, ...]:
    """All readers, in the order in which a file is shown to them."""
    package = importlib.import_module(__package__)
    modules = [importlib.import_module(f"{__package__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)]
    known = [module.READER for module in modules if hasattr(module, "READER")]
    return tuple(sorted(known, key=lambda reader: (reader.order, reader.name)))


def reader_of(path: Path) -> HessianReader:
    """The first reader that recognises the file; the last one, extended XYZ, takes every file. Raises InputError for a folder of nothing
    that is known."""
    if not path.is_dir():
        return next(reader for reader in readers() if reader.recognises(path))
    of_folders = [reader for reader in readers() if reader.files is not None]
    found = next((reader for reader in of_folders if reader.recognises(path)), None)
    if found is None:
        known = " or a ".join(reader.name for reader in of_folders)
        raise InputError(f"{path} is a folder without cache.eq.json: not a {known}; give one of those, or one file.")
    return found
