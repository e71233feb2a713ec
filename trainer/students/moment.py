"""A strictly local network on moments of the neighbour density: an atom's energy depends on atoms inside the cutoff alone.

What is taken from where: moments of a radially weighted density and their contractions from Shapeev, "Moment tensor potentials",
Multiscale Model. Simul. 14, 1153 (2016), arXiv 1512.06054; one-particle sums made first, products of them per atom after, and
elements as learned vectors that weight channels from the atomic cluster expansion (Drautz, Phys. Rev. B 99, 014104 (2019); Darby
et al., arXiv 2210.01705, for weights that are products over the elements of a pair), so that parameters grow with the number of
elements, not with its square; a small network on top as in Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007).

    m_i  = sum_j (u, u u)(r_ij) R(r_ij) w(z_j)     moments: 3 + 6 numbers a channel
    a, b = g(z_i) * (A m_i, B m_i)                 two mixtures of channels; g makes radial parts differ by the centre too
    each is a scalar s, a vector v and a traceless tensor T = 3 u u - 1 (the scalar is the trace of u u)
    s s', v.v', T:T', T:(T T'), v.(T v')           what does not turn: terms of one, two and three neighbours

Edges are the cost: one outer product and one sum. All else is per atom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .elements import register_elements
from .radial import BesselBasis

DENSITY = 0.25  # of a neighbour: moments of a fresh network are near 1 in molecules and solids alike
SILU_GAIN = 1 / 0.6  # SiLU of unit Gaussian numbers has a mean square of 0.36


class Moment(nn.Module):
    """Energies of atoms from their elements and their edges; the contract of all students.

    forward(numbers (A,) int64, edge_index (2,E) int64, vectors (E,3) A) -> (A,) eV: edge e tells atom edge_index[0,e] of atom
    edge_index[1,e], which lies at vectors[e] from it. All elements must be among `elements`: the caller checks.
    """

    species_of: torch.Tensor
    scale: torch.Tensor
    as_tensors: torch.Tensor
    sum_of_pairs: torch.Tensor
    sum_of_triples: torch.Tensor

    def __init__(self, elements: Sequence[int], channels: int, cutoff: float, basis: int, scale: float = 1.0):
        super().__init__()
        self.cutoff = cutoff
        self.channels = channels
        register_elements(self, elements, scale)
        self.register_buffer("as_tensors", as_tensors(), persistent=False)
        self.register_buffer("sum_of_pairs", sum_of_pairs(), persistent=False)
        self.register_buffer("sum_of_triples", self.sum_of_pairs[1:, 1:].clone(), persistent=False)
        self.embedding = nn.Embedding(len(elements), channels)
        self.basis = BesselBasis(cutoff, basis)
        self.filters = linear(basis + 1, channels, gain=2.0)
        self.as_neighbor = linear(channels, channels, bias=0.5)
        self.as_centre = linear(channels, 2 * channels, gain=0.5, bias=1.0)
        self.mix = linear(channels, 2 * channels)
        self.hidden = linear(7 * channels, 4 * channels, bias=0.0)
        width = 2 * channels
        self.readout = nn.Sequential(
            nn.SiLU(), linear(2 * width, width, SILU_GAIN, 0.0), nn.SiLU(), linear(width, 1, SILU_GAIN, 0.0)
        )

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        atoms = self.embedding(self.species_of[numbers])
        moments = self._moments(atoms, edge_index, vectors)
        mixed = self.as_tensors @ (self.mix(moments) * self.as_centre(atoms).unsqueeze(1))
        a, b = mixed.split(self.channels, dim=2)
        pairs = self.sum_of_pairs @ (a * b)
        # Without the scalar rows of the 3x4 matrix [T | v] are left: T T' and T v' are one product.
        a, b = (half[:, 1:].unflatten(1, (3, 4)) for half in (a, b))
        turned = (a[:, :, :3].unsqueeze(3) * b.unsqueeze(1)).sum(2)
        triples = self.sum_of_triples @ (turned * a).flatten(1, 2)
        scalars = moments[:, 3:6].sum(1)
        hidden = self.hidden(torch.cat((atoms, scalars, pairs.flatten(1), triples.flatten(1)), dim=1))
        energies: torch.Tensor = self.readout(hidden).squeeze(1) * self.scale
        return energies

    def _moments(self, atoms: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """(A, 9, channels): x, y, z, xx, yy, zz, xz, xy, yz."""
        centre, neighbor = edge_index
        r = vectors.square().sum(1).sqrt()
        unit = vectors / r[:, None]
        monomials = torch.cat((unit, unit.square(), unit * unit.roll(1, dims=1)), dim=1)
        radial = self.filters(self.basis(r)) * (DENSITY * self.as_neighbor(atoms)).index_select(0, neighbor)
        density = monomials.unsqueeze(2) * radial.unsqueeze(1)
        moments: torch.Tensor = density.new_zeros(atoms.shape[0], 9, self.channels)
        return moments.index_add(0, centre, density)


def linear(width: int, to: int, gain: float = 1.0, bias: float | None = None) -> nn.Linear:
    """A linear map whose fresh results are as large as what goes in (times gain); bias None: without one."""
    layer = nn.Linear(width, to, bias=bias is not None)
    with torch.no_grad():
        layer.weight.normal_(0, gain / math.sqrt(width))
        if bias is not None:
            layer.bias.fill_(bias)
    return layer


def as_tensors() -> torch.Tensor:
    """(13,9): moments to the scalar s and the rows of the 3x4 matrix [T | v].

    Integers where axes are mixed: constants that float32 rounds would break the rotational symmetry of a float64 student.
    """
    scalar, rows = torch.zeros(1, 9), torch.zeros(3, 4, 9)
    scalar[0, 3:6] = 1
    rows[:, :3, 3:6] = -torch.eye(3)[:, :, None].expand(3, 3, 3)
    for axis in range(3):
        rows[axis, axis, 3 + axis] = 2
        rows[axis, 3, axis] = math.sqrt(3)
    for component, (i, j) in {6: (0, 2), 7: (0, 1), 8: (1, 2)}.items():
        rows[i, j, component] = rows[j, i, component] = 3
    return torch.cat((scalar, rows.view(12, 9)))


def sum_of_pairs() -> torch.Tensor:
    """(3,13): sums over s, over T and over v, divided by the square root of how many independent components there are."""
    of_vector = torch.tensor([0.0, *([0, 0, 0, 1] * 3)])
    of_tensor = torch.tensor([0.0, *([1, 1, 1, 0] * 3)])
    of_scalar = 1 - of_vector - of_tensor
    return torch.stack((of_scalar, of_tensor / math.sqrt(5), of_vector / math.sqrt(3)))
