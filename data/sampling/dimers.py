"""Pairs of atoms along their distance, so that close contacts are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Annotated

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from ..sources.charge_spin import lowest_spin
from ..structure import Structure
from ..support.checked import Above, AtLeast
from .child import child
from .world import World


@dataclass(frozen=True)
class Dimers:
    """n: distances of each pair of elements; nearest: of the sum of covalent radii; farthest: A."""

    n: Annotated[int, AtLeast(2)] = 15
    nearest: Annotated[float, Above(0)] = 0.7
    farthest: Annotated[float, Above(0)] = 5.0


def dimers(start: Structure, amounts: Dimers, world: World) -> Iterator[Structure]:
    """Neutral pairs of the elements of `start`, of the lowest spin, alone in space; distances are denser where they are short."""
    for first, second in combinations_with_replacement(sorted(set(start.numbers.tolist())), 2):
        contact = float(covalent_radii[first] + covalent_radii[second])
        ladder = np.geomspace(amounts.nearest * contact, max(amounts.farthest, 1.5 * contact), amounts.n)
        for distance in ladder:
            pair = child(
                start,
                "dimers",
                np.array([(0.0, 0.0, 0.0), (0.0, 0.0, float(distance))]),
                np.zeros((3, 3)),
                np.array([first, second]),
                amount=f"{chemical_symbols[first]}-{chemical_symbols[second]}",
            )
            yield Structure(
                pair.numbers,
                pair.positions,
                pair.cell,
                np.zeros(3, bool),
                0,
                lowest_spin(pair.numbers, 0),
                pair.group,
                pair.info,
            )
