"""A pymatgen Structure as its JSON has it, and long JSON entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .files import one_line
from .record import Unusable

Array = NDArray[Any]
T = TypeVar("T")


def streamed(path: Path, entries_of: Callable[[Any, BinaryIO], Iterator[T]], what: str) -> Iterator[T]:
    """What entries_of(ijson, stream) gives of a file, compressed or not. Raises InputError where ijson is missing; Unusable where the
    file is cut short or damaged, with how many there were."""
    from ase.io.formats import open_with_compression

    try:
        import ijson
    except ImportError as error:
        raise InputError(f"{path} needs the package ijson: type `pip install ijson`.") from error
    n = 0
    with open_with_compression(str(path), "rb") as stream:
        try:
            for entry in entries_of(ijson, stream):
                yield entry
                n += 1
        except (ijson.JSONError, EOFError) as error:  # EOFError: of a compressed file
            raise Unusable("cut short", f"it ends or is damaged after {n} {what} ({one_line(error)})") from error


def geometry_of(structure: Mapping[str, Any]) -> tuple[Array, Array, Array, Array]:
    """Atomic numbers (N,), positions (N,3) and cell (3,3) in A, pbc (3,). Raises Unusable for partly occupied sites; LookupError,
    TypeError, ValueError for another layout."""
    from ase.data import atomic_numbers

    lattice, sites = structure["lattice"], structure["sites"]
    cell = np.array(lattice["matrix"], float)
    symbols = []
    for site in sites:
        (species,) = site["species"]
        if species.get("occu", 1) != 1:
            raise Unusable("partly occupied sites", f"{species['element']} is there to {species['occu']}")
        symbols.append(species["element"])
    positions = np.array([site["abc"] for site in sites], float) @ cell
    numbers = np.array([atomic_numbers[symbol] for symbol in symbols])
    return numbers, positions, cell, np.array(lattice.get("pbc", [True] * 3), bool)


def charge_of(structure: Mapping[str, Any]) -> dict[str, Any]:
    """The charge that the structure states, if any."""
    charge = structure.get("charge")
    return {} if charge is None else {"charge": charge}
