"""Gaussian displacements of all atoms; those that come too near to another are drawn again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from ..structure import Structure
from ..support.checked import Above, AtLeast
from .child import child, nearest_ratios
from .world import World

REDRAWS = 20


@dataclass(frozen=True)
class Rattle:
    """n: structures; sigma: standard deviation of each coordinate, A."""

    n: Annotated[int, AtLeast(1)] = 8
    sigma: Annotated[float, Above(0)] = 0.05


def rattle(start: Structure, amounts: Rattle, world: World) -> Iterator[Structure]:
    """The centre stays where it was. Two atoms keep `world.nearest` of their covalent radii, or what they had at the start."""
    limit = np.minimum(world.nearest, 0.95 * nearest_ratios(start))
    for _ in range(amounts.n):
        shift = world.rng.normal(scale=amounts.sigma, size=start.positions.shape)
        for redraw in range(REDRAWS):
            moved = start.positions + shift - shift.mean(axis=0)
            near = nearest_ratios(replace(start, positions=moved)) < limit
            if not near.any():
                break
            shift[near] = world.rng.normal(scale=amounts.sigma / (1 + redraw / 4), size=(int(near.sum()), 3))
        yield child(start, "rattle", moved, amount=amounts.sigma)
