"""Rotations and screws of a crystal's space group, as what they do to atoms and to rows of its Hessian.

Operations are found with spglib (Togo, Shinohara and Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024)) and each is
verified here. Slabs and molecules are left alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.structure import Float, Structure

# How far an atom may lie from where an operation puts it. Third derivatives are some 100 eV/A^3, so that H is off by at most
# 1e-5 eV/A^2 of 30: less than what float32 leaves of a product. A file with 8 decimals is exact enough.
TOLERANCE = 1e-7  # A

Array = NDArray[np.float64]


class Operation(NamedTuple):
    """One operation of the space group: R (3,3) Cartesian, x -> R x + t; image (N,) holds the atom g(a) of each atom a."""

    turn: Array
    image: NDArray[np.int64]


def carry(row: Float, operation: Operation) -> Array:
    """A row (N,3), or forces, after the operation: what was on atom b is on g(b), turned."""
    carried = np.empty((len(row), 3))
    carried[operation.image] = row @ operation.turn.T
    return carried


def after(second: Operation, first: Operation) -> Operation:
    return Operation(second.turn @ first.turn, second.image[first.image])


def inverse(operation: Operation) -> Operation:
    return Operation(operation.turn.T, np.argsort(operation.image))


def operations(structure: Structure) -> list[Operation]:
    """The rotations and screws of a periodic structure's space group, if all that spglib finds hold to TOLERANCE; else [].

    Mirrors and inversions are left out: the energies of SevenNet-0 and of fairchem's models turn with a structure, but tell it
    from its mirror image, so that H of a perfect crystal has elements which a mirror forbids (2e-3 of 5 eV/A^2 in SrTiO3).
    Rotations alone nearly always lead to as few rows.

    Raises InputError where spglib is not installed.
    """
    cell = np.asarray(structure.cell, np.float64)
    fractional = np.asarray(np.linalg.solve(cell.T, np.asarray(structure.positions, np.float64).T).T, np.float64)
    place = _places(cell, fractional)
    length = float(np.linalg.norm(cell, axis=1).max())
    group = []
    for rotation, translation in _rotations_of_spglib(cell, fractional, structure.numbers):
        turn = cell.T @ rotation @ np.linalg.inv(cell.T)
        image = place(fractional @ rotation.T + translation)
        strained = float(np.abs(turn @ turn.T - np.eye(3)).max()) * length
        if image is None or strained > TOLERANCE or (structure.numbers[image] != structure.numbers).any():
            return []  # some without the others need not be a group
        if np.linalg.det(rotation) > 0:
            group.append(Operation(turn, image))
    return group


def _rotations_of_spglib(cell: Array, fractional: Array, numbers: NDArray[Any]) -> list[tuple[Array, Array]]:
    """Rotations (3,3) and translations (3,) of fractional coordinates, sorted; [] where spglib sees no crystal."""
    spglib = require_spglib()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how later versions will report a failure
        try:
            symmetry = spglib.get_symmetry((cell, fractional, numbers), symprec=TOLERANCE)
        except spglib.SpglibError:
            return []
    if symmetry is None:
        return []
    pairs = zip(symmetry["rotations"], symmetry["translations"], strict=True)
    return sorted(pairs, key=lambda pair: (pair[0].ravel().tolist(), np.round(pair[1], 6).tolist()))


def require_spglib() -> ModuleType:
    """spglib itself. Raises InputError where it is not installed: labels must not depend on what a machine has."""
    try:
        import spglib
    except ImportError as error:
        raise InputError(
            "Rows and full Hessians need spglib, which is not installed here; pip install -c constraints.txt '.[label]', "
            "or label with --hessian probes:4."
        ) from error
    module: ModuleType = spglib
    return module


def _places(cell: Array, fractional: Array) -> Callable[[Array], NDArray[np.int64] | None]:
    """A function of moved fractional coordinates (N,3): which atom is at each of them, None unless every place is one's own."""
    from scipy.spatial import cKDTree

    def wrap(points: Array) -> Array:
        points = points - np.floor(points)
        points[points >= 1] = 0  # of -1e-17
        return points

    tree = cKDTree(wrap(fractional), boxsize=np.ones(3))

    def place(moved: Array) -> NDArray[np.int64] | None:
        image = np.asarray(tree.query(wrap(moved))[1], np.int64)
        off = moved - fractional[image]
        distance = np.linalg.norm((off - np.round(off)) @ cell, axis=1)
        taken = np.bincount(image, minlength=len(fractional))
        return image if distance.max() <= TOLERANCE and (taken == 1).all() else None

    return place
