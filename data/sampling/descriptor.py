"""A cheap description of each atom's surroundings, for choosing structures that differ.

Neighbours of each element are expanded in radial Gaussians and real harmonics up to l = 2, and squares are summed over m: the
diagonal of the smooth power spectrum of Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115 (2013). It does not change when a
structure is turned, moved, or its atoms are listed in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import NDArray

from ..structure import Structure

CUTOFF = 5.0  # A
CENTRES = np.array([0.8, 1.6, 2.4, 3.2, 4.0])  # A
WIDTH = 0.6  # A
N_ANGULAR = 3  # l = 0, 1, 2

Features = NDArray[np.float32]


def surroundings(structure: Structure, elements: Sequence[int]) -> Features:
    """(N,D) for these elements as neighbours; D = len(elements) * len(CENTRES) * N_ANGULAR. Others are not seen."""
    n, n_radial = structure.n_atoms, len(CENTRES)
    place = np.full(119, -1)
    place[list(elements)] = np.arange(len(elements))
    i, j, d, vectors = primitive_neighbor_list("ijdD", structure.pbc, structure.cell, structure.positions, CUTOFF)
    known = place[structure.numbers[j]] >= 0
    i, j, d, vectors = i[known], j[known], d[known], vectors[known]
    x, y, z = (vectors / d[:, None]).T
    root = 3**0.5
    d_waves = (root * x * y, root * y * z, z * z - (x * x + y * y) / 2, root * x * z, root / 2 * (x * x - y * y))
    harmonics = np.stack((np.ones_like(x), x, y, z, *d_waves))
    radial = np.exp(-(((d[None] - CENTRES[:, None]) / WIDTH) ** 2) / 2) * 0.5 * (1 + np.cos(np.pi * d / CUTOFF))
    density = np.zeros((n * len(elements), n_radial, 9))
    np.add.at(
        density, i * len(elements) + place[structure.numbers[j]], (radial[:, None] * harmonics[None]).transpose(2, 0, 1)
    )
    by_l = (density[..., :1], density[..., 1:4], density[..., 4:])
    sizes = np.stack([np.sqrt((part**2).sum(axis=-1)) for part in by_l], axis=-1)
    return sizes.reshape(n, -1).astype(np.float32)
