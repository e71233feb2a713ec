"""Turns about the bonds of a molecule that can be turned about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from ..structure import Float, Structure
from ..support.checked import AtLeast, Between
from .child import child, is_sound
from .world import World

BONDED = 1.25  # times the sum of covalent radii
SINGLE = 0.9  # a shorter bond is a double or triple one


@dataclass(frozen=True)
class Torsions:
    """n: structures; step: degrees between two angles; sigma: of a rattle on top, A. First every bond alone, then all at once."""

    n: Annotated[int, AtLeast(1)] = 24
    step: Annotated[float, Between(1, 180)] = 30.0
    sigma: Annotated[float, Between(0, 1)] = 0.03


def torsions(start: Structure, amounts: Torsions, world: World) -> Iterator[Structure]:
    """Angles of single bonds in a ladder over all bonds, then random ones of all bonds together. Clashes are dropped, and counted.

    None comes of crystals and of molecules that have nothing to turn.
    """
    bonds = rotatable_bonds(start)
    if not bonds:
        return
    angles = np.arange(amounts.step, 360 - 1e-9, amounts.step)
    ladder = [(number, float(angle)) for angle in angles for number in range(len(bonds))]
    if len(ladder) > amounts.n:
        chosen = np.sort(world.rng.permutation(len(ladder))[: amounts.n])
        ladder = [ladder[k] for k in chosen]
    made, tried = 0, 0
    while made < amounts.n and tried < 4 * amounts.n:
        if tried < len(ladder):
            turned, facts = turn(start, *bonds[ladder[tried][0]], ladder[tried][1]), [ladder[tried][1]]
        else:
            facts = [float(x) for x in world.rng.choice([0.0, *angles], size=len(bonds))]
            turned = start.positions
            for (i, j, side), angle in zip(bonds, facts, strict=True):
                turned = turn(replace(start, positions=turned), i, j, side, angle)
        tried += 1
        moved = turned + world.rng.normal(scale=amounts.sigma, size=turned.shape)
        structure = child(start, "torsions", moved, amount=facts)
        if not is_sound(structure, world.nearest):
            world.dropped["torsions: atoms clash"] += 1
            continue
        made += 1
        yield structure


def rotatable_bonds(structure: Structure) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Bonds i-j in no ring that are not double, between atoms with other neighbours; and the smaller side, which is turned (N,)."""
    if structure.pbc.any() or structure.n_atoms < 4:
        return []
    near, ratios = bonded(structure), _ratios(structure)
    n_whole = fragments(near)[0]
    rotatable = []
    for i, j in np.argwhere(np.triu(near)):
        if near[i].sum() < 2 or near[j].sum() < 2 or ratios[i, j] < SINGLE:
            continue
        cut = near.copy()
        cut[i, j] = cut[j, i] = False
        n_fragments, fragment = fragments(cut)
        if n_fragments == n_whole:
            continue  # in a ring
        side = fragment == fragment[j]
        if side.sum() > (fragment == fragment[i]).sum():
            i, j, side = j, i, fragment == fragment[i]
        rotatable.append((int(i), int(j), side))
    return rotatable


def turn(structure: Structure, i: int, j: int, side: NDArray[np.bool_], degrees: float) -> Float:
    """Positions (N,3) with the atoms of `side` turned about the axis from i to j (Rodrigues)."""
    axis = structure.positions[j] - structure.positions[i]
    axis = axis / np.linalg.norm(axis)
    angle = np.radians(degrees)
    r = structure.positions[side] - structure.positions[j]
    along = np.outer(r @ axis, axis)
    positions = np.array(structure.positions, np.float64)
    positions[side] = structure.positions[j] + along + np.cos(angle) * (r - along) + np.sin(angle) * np.cross(axis, r)
    return positions


def bonded(structure: Structure) -> NDArray[np.bool_]:
    """Which atoms of a molecule are bonded to each other (N,N)."""
    return (_ratios(structure) < BONDED) & ~np.eye(structure.n_atoms, dtype=bool)


def _ratios(structure: Structure) -> Float:
    """Distances over the sums of covalent radii (N,N)."""
    radii = covalent_radii[structure.numbers]
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=2)
    ratios: Float = distances / (radii[:, None] + radii[None])
    return ratios


def fragments(bonded: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    """How many parts atoms with these bonds (N,N) are in, and the part of each (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = np.nonzero(bonded)
    n, fragment = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=bonded.shape), directed=False)
    return int(n), fragment
