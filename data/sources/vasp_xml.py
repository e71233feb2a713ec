"""What is in a vasprun.xml: atoms, cells, arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Array = NDArray[np.float64]


def kinds_of(node: Any) -> list[list[str]]:
    """Of each kind of atoms: how many, symbol, mass (u), valence, potential."""
    return [[(c.text or "").strip() for c in row] for row in node.findall("array[@name='atomtypes']/set/rc")]


def atoms_of(node: Any) -> tuple[list[str], list[float]]:
    """Symbol and mass (u) of each atom."""
    kinds = kinds_of(node)
    symbols = [kind[1] for kind in kinds for _ in range(int(kind[0]))]
    return symbols, [float(kind[2]) for kind in kinds for _ in range(int(kind[0]))]


def geometry_of(node: Any) -> tuple[Array, Array] | None:
    """Cell (3,3) in A and scaled positions (N,3)."""
    if node is None:
        return None
    cell, scaled = (
        rows_of(node.find("crystal/varray[@name='basis']"), None),
        rows_of(node.find("varray[@name='positions']"), None),
    )
    return None if cell is None or scaled is None else (cell, scaled)


def rows_of(node: Any, otherwise: Array | None) -> Array | None:
    """The numbers of a varray, a row a line; `otherwise` where there is none. Raises ValueError for what is no number."""
    return otherwise if node is None else np.array([[float(word) for word in (v.text or "").split()] for v in node])


def numbers_of(path: Path, symbols: list[str]) -> NDArray[np.int64]:
    """Atomic numbers. Raises InputError for symbols that are none of an element."""
    from ase.data import atomic_numbers

    unknown = sorted({symbol for symbol in symbols if symbol not in atomic_numbers})
    if unknown:
        raise InputError(f"{path} has atoms called {', '.join(unknown)}, which are not elements.")
    return np.array([atomic_numbers[symbol] for symbol in symbols])
