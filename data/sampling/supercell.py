"""A cell repeated until its edges are long enough, within a number of atoms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..structure import Structure
from ..support.checked import Above, AtLeast
from .child import child
from .world import World


@dataclass(frozen=True)
class Supercell:
    """edge: the shortest height of the cell that is wanted, A; max_atoms: more are never made."""

    edge: Annotated[float, Above(0)] = 9.0
    max_atoms: Annotated[int, AtLeast(1)] = 100


def supercell(start: Structure, amounts: Supercell, world: World) -> Iterator[Structure]:
    """The one with the longest shortest height up to `edge`, of those the one with the fewest atoms; none where `start` is that.

    Unpaired electrons of the copies are parallel; charges add up. Repeats that keep zone-boundary modes (an even number of cells)
    follow from the length that is asked.
    """
    repeats = best_repeats(start, amounts)
    if repeats == (1, 1, 1):
        return
    shifts = np.array([[a, b, c] for a, b, c in product(*map(range, repeats))]) @ start.cell
    positions = (start.positions[None] + shifts[:, None]).reshape(-1, 3)
    n = len(shifts)
    larger = child(
        start,
        "supercell",
        positions,
        start.cell * np.array(repeats)[:, None],
        np.tile(start.numbers, n),
        amount=list(repeats),
    )
    yield Structure(
        larger.numbers,
        larger.positions,
        larger.cell,
        larger.pbc,
        n * start.charge,
        n * (start.spin - 1) + 1,
        larger.group,
        larger.info,
    )


def best_repeats(start: Structure, amounts: Supercell) -> tuple[int, int, int]:
    """How often each vector is repeated; one that is not periodic, once."""
    heights = _heights(start)
    most = [
        max(1, int(np.ceil(amounts.edge / h))) if periodic else 1
        for h, periodic in zip(heights, start.pbc, strict=True)
    ]
    choices = [
        r for r in product(*(range(1, m + 1) for m in most)) if start.n_atoms * int(np.prod(r)) <= amounts.max_atoms
    ] or [(1, 1, 1)]

    def merit(repeats: tuple[int, ...]) -> tuple[float, int]:
        edges = [r * h for r, h, periodic in zip(repeats, heights, start.pbc, strict=True) if periodic]
        return (round(min([amounts.edge, *edges]), 6), -int(np.prod(repeats)))

    a, b, c = max(choices, key=merit)
    return a, b, c


def _heights(structure: Structure) -> NDArray[np.float64]:
    """Distances between the faces of the cell (3,), inf where it is not periodic."""
    heights = np.full(3, np.inf)
    periodic = np.flatnonzero(structure.pbc)
    vectors = np.asarray(structure.cell, np.float64)[periodic]
    if len(periodic):
        heights[periodic] = 1 / np.linalg.norm(np.linalg.pinv(vectors), axis=0)
    return heights
