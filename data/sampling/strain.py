"""Cells that are pressed, pulled and sheared along their periodic directions; atoms move with the cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..structure import Structure
from ..support.checked import Between
from .child import child
from .world import World


@dataclass(frozen=True)
class Strain:
    """n: structures; volume: relative, drawn from -volume to +volume; shape: of every other component of the strain, drawn
    likewise; sigma: of a rattle on top, A."""

    n: Annotated[int, Between(1, 1_000_000)] = 8
    volume: Annotated[float, Between(0, 0.5)] = 0.06
    shape: Annotated[float, Between(0, 0.3)] = 0.03
    sigma: Annotated[float, Between(0, 1)] = 0.02


def strain(start: Structure, amounts: Strain, world: World) -> Iterator[Structure]:
    """cell' = cell (1 + e), positions' = positions (1 + e), e symmetric (3,3) and within the span of the periodic vectors.

    Molecules have nothing to strain: none comes of them.
    """
    periodic = np.asarray(start.cell, np.float64)[start.pbc]
    if not len(periodic):
        return
    _, _, axes = np.linalg.svd(periodic, full_matrices=False)
    span = axes.T @ axes  # (3,3), the projector
    for _ in range(amounts.n):
        shape = np.diag(world.rng.uniform(-1, 1, size=3)) + _symmetric(world.rng.uniform(-1, 1, size=3))
        shape -= np.trace(span @ shape) / np.trace(span) * span
        size = (1 + world.rng.uniform(-amounts.volume, amounts.volume)) ** (1 / len(periodic)) - 1
        change = np.eye(3) + span @ (amounts.shape * shape) @ span + size * span
        moved = start.positions @ change + world.rng.normal(scale=amounts.sigma, size=start.positions.shape)
        yield child(start, "strain", moved, start.cell @ change, amount=round(float(size), 6))


def _symmetric(off_diagonal: np.ndarray) -> np.ndarray:
    xy, xz, yz = off_diagonal
    return np.array([[0, xy, xz], [xy, 0, yz], [xz, yz, 0]])
