"""Crystals with an atom missing, or two that have changed places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..structure import Structure
from ..support.checked import AtLeast, Between
from .child import child
from .world import World


@dataclass(frozen=True)
class Vacancy:
    """n: structures; sigma: of a rattle on top, A."""

    n: Annotated[int, AtLeast(1)] = 4
    sigma: Annotated[float, Between(0, 1)] = 0.05


@dataclass(frozen=True)
class Swap:
    """n: structures; sigma: of a rattle on top, A."""

    n: Annotated[int, AtLeast(1)] = 4
    sigma: Annotated[float, Between(0, 1)] = 0.05


def vacancy(start: Structure, amounts: Vacancy, world: World) -> Iterator[Structure]:
    """A neutral atom is taken out. None comes of structures of fewer than three atoms."""
    for _ in range(amounts.n if start.n_atoms > 2 else 0):
        left = np.delete(np.arange(start.n_atoms), world.rng.integers(start.n_atoms))
        moved = start.positions[left] + world.rng.normal(scale=amounts.sigma, size=(len(left), 3))
        yield child(start, "vacancy", moved, numbers=start.numbers[left])


def swap(start: Structure, amounts: Swap, world: World) -> Iterator[Structure]:
    """Two atoms of different elements change places. None comes of structures of one element."""
    elements = np.unique(start.numbers)
    for _ in range(amounts.n if len(elements) > 1 else 0):
        numbers = start.numbers.copy()
        i = int(world.rng.integers(start.n_atoms))
        j = int(world.rng.choice(np.flatnonzero(start.numbers != start.numbers[i])))
        numbers[i], numbers[j] = start.numbers[j], start.numbers[i]
        moved = start.positions + world.rng.normal(scale=amounts.sigma, size=start.positions.shape)
        yield child(start, "swap", moved, numbers=numbers)
