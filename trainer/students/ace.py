"""The atomic cluster expansion as a small network: densities of neighbours, products of them, and messages made of both.

What is taken from where: one-particle sums A made first and products of them per atom after, from Drautz, Phys. Rev. B 99, 014104
(2019); elements and channels as learned vectors from Darby et al., arXiv 2210.01705; products as messages of a second layer from
MACE (Batatia et al., arXiv 2206.07697), and per atom in place of per edge from GRACE (Bochkarev et al., arXiv 2311.16326);
what neighbours pass on unturned from PaiNN (Schuett et al., arXiv 2102.03150). One layer, per channel and component lm:

    A_i   = V_i + sum_j Y(u_ij) R(r_ij) w(s_j) + V_j R'(r_ij) w'(s_j)    V: what is known of directions, 0 in the first layer
    a, b  = g(s_i) (W A_i), (W' A_i)                                     channels mixed for each l
    P     = a b, as functions on the sphere, up to the same l            Gaunt coefficients: harmonics.py
    a.b, b.P, P.P summed over m, for each l                              what does not turn: terms of two, three and four neighbours
                                                                         (their asinh: far from the training set they are huge)
    s_i  += network(s_i, a_00, b_00, these)                              and gates for
    V_i   = gate (W'' (a, b, P))                                         what the next layer knows of directions

The last network's hidden features are what the energy is read from. Edges are the cost: one outer product and one sum a layer. All
else is per atom, in a few large products of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .elements import register_elements
from .harmonics import Harmonics, SphereProducts, n_components, order_of
from .moment import DENSITY, SILU_GAIN, linear
from .radial import BesselBasis

HIDDEN = 4  # width of the networks on atoms, which are few, in channels


class Ace(nn.Module):
    """Energies of atoms from their elements and their edges; the contract of all students.

    forward(numbers (A,) int64, edge_index (2,E) int64, vectors (E,3) A) -> (A,) eV: edge e tells atom edge_index[0,e] of atom
    edge_index[1,e], which lies at vectors[e] from it. All elements must be among `elements`: the caller checks. With one layer
    it is strictly local.
    """

    species_of: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        elements: Sequence[int],
        channels: int,
        layers: int,
        cutoff: float,
        basis: int,
        max_l: int,
        scale: float = 1.0,
    ):
        super().__init__()
        self.cutoff = cutoff
        register_elements(self, elements, scale)
        self.embedding = nn.Embedding(len(elements), channels)
        self.basis = BesselBasis(cutoff, basis)
        self.harmonics = Harmonics(max_l)
        self.products = SphereProducts(max_l)
        blocks = [Layer(channels, max_l, first=n == 0, last=n == layers - 1) for n in range(layers)]
        self.layers = nn.ModuleList(blocks)
        # The filters of all layers in one product: the basis carries envelope and bias.
        self.filter_widths = [layer.width for layer in blocks]
        self.filters = linear(basis + 1, sum(self.filter_widths))
        width = HIDDEN * channels
        self.readout = nn.Sequential(
            linear(width, width // 2, SILU_GAIN, 0.0), nn.SiLU(), linear(width // 2, 1, SILU_GAIN, 0.0)
        )

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        r = vectors.square().sum(1).sqrt()
        harmonics = self.harmonics(vectors / r[:, None]).unsqueeze(2)
        filters = self.filters(self.basis(r)).split(self.filter_widths, dim=1)
        scalar = self.embedding(self.species_of[numbers])
        turning = scalar.new_zeros(scalar.shape[0], harmonics.shape[1], scalar.shape[1])
        for layer, weights in zip(self.layers, filters, strict=True):
            scalar, turning = layer(scalar, turning, edge_index, harmonics, weights, self.products)
        energies: torch.Tensor = self.readout(scalar).squeeze(1) * self.scale
        return energies


class Layer(nn.Module):
    """scalar (A,C), turning (A,components,C) -> the same, after neighbours were heard; see the formulas above. The last layer gives
    what the readout reads, (A, HIDDEN C), in place of scalar."""

    order_of: torch.Tensor
    sum_of_orders: torch.Tensor

    def __init__(self, channels: int, max_l: int, first: bool, last: bool):
        super().__init__()
        self.channels, self.first, self.last = channels, first, last
        self.width = (1 if first else 2) * channels
        self.size_of_products = 1 / (max_l + 1)
        orders = max_l + 1
        sums = torch.zeros(orders, n_components(max_l))
        for component, order in enumerate(order_of(max_l)):
            sums[order, component] = 1 / math.sqrt(2 * order + 1)
        self.register_buffer("order_of", torch.tensor(order_of(max_l)), persistent=False)
        self.register_buffer("sum_of_orders", sums, persistent=False)
        self.as_neighbor = linear(channels, self.width, bias=0.5)
        self.as_centre = linear(channels, 2 * channels, gain=0.5, bias=1.0)
        self.mix = _per_order(orders, channels, 2 * channels)
        self.hidden = linear((3 + 3 * orders) * channels, HIDDEN * channels, bias=0.0)
        if not last:
            self.update = linear(HIDDEN * channels, 2 * channels, SILU_GAIN, 0.0)
            self.carry = _per_order(orders, 3 * channels, channels)

    def forward(
        self,
        scalar: torch.Tensor,
        turning: torch.Tensor,
        edge_index: torch.Tensor,
        harmonics: torch.Tensor,
        weights: torch.Tensor,
        products: SphereProducts,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        density = self._density(scalar, turning, edge_index, harmonics, weights).transpose(0, 1)
        pairs = torch.bmm(density, self.mix.index_select(0, self.order_of)) * self.as_centre(scalar)
        coupled = products(pairs) * self.size_of_products
        known = torch.cat((pairs, coupled), dim=2)
        others = torch.cat((pairs[:, :, self.channels :], coupled, coupled), dim=2)
        squares = (self.sum_of_orders @ (known * others).flatten(1)).view(-1, *known.shape[1:])
        invariants = torch.cat((scalar, pairs[0], squares.transpose(0, 1).flatten(1).asinh()), dim=1)
        hidden = nn.functional.silu(self.hidden(invariants))
        if self.last:
            return hidden, turning
        change, gate = self.update(hidden).chunk(2, dim=1)
        turning = torch.bmm(known, self.carry.index_select(0, self.order_of)) * gate
        return scalar + change, turning.transpose(0, 1)

    def _density(
        self,
        scalar: torch.Tensor,
        turning: torch.Tensor,
        edge_index: torch.Tensor,
        harmonics: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """A of the formulas, (A,components,C)."""
        centre, neighbor = edge_index
        message = ((DENSITY * self.as_neighbor(scalar)).index_select(0, neighbor) * weights).unsqueeze(1)
        if self.first:
            return turning.index_add(0, centre, harmonics * message)
        message, passed = message.chunk(2, dim=2)
        return turning.index_add(0, centre, harmonics * message + turning.index_select(0, neighbor) * passed)


def _per_order(orders: int, width: int, to: int) -> nn.Parameter:
    """Weights of a linear map of channels for each l, (orders, width, to); fresh results are as large as what goes in."""
    return nn.Parameter(torch.randn(orders, width, to) / math.sqrt(width))
