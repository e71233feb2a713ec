"""PaiNN: equivariant message passing with scalar and vector features per atom.

Schuett, Unke, Gastegger, "Equivariant message passing for the prediction of tensorial properties and molecular spectra",
ICML 2021, arXiv 2102.03150 (equations below are theirs). Changes: a Bessel basis and an envelope that are smooth to third
order (radial.py), a smooth norm, and no work on features that are still zero (first layer) or no longer read (last layer).
With direct forces vector features are read to the end, by the gated equivariant blocks of section 3.3 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .elements import register_elements
from .radial import BesselBasis

NORM_SOFTNESS = 1.0  # |v| is read as sqrt(|v|^2 + s^2) - s, which is smooth where a site's symmetry makes v vanish


class PaiNN(nn.Module):
    """Energies of atoms from their elements and their edges; the contract of all students.

    forward(numbers (A,) int64, edge_index (2,E) int64, vectors (E,3) A) -> (A,) eV, with direct also forces (A,3) eV/A: edge e
    tells atom edge_index[0,e] of atom edge_index[1,e], which lies at vectors[e] from it. All elements must be among `elements`: the
    caller checks. Direct forces are not the gradient of the energies, and their sum is not zero.
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
        scale: float = 1.0,
        direct: bool = False,
    ):
        super().__init__()
        self.direct = direct
        self.cutoff = cutoff
        self.channels = channels
        register_elements(self, elements, scale)
        self.embedding = nn.Embedding(len(elements), channels)
        self.basis = BesselBasis(cutoff, basis)
        messages = [Message(channels, first=n == 0) for n in range(layers)]
        self.messages = nn.ModuleList(messages)
        self.updates = nn.ModuleList(Update(channels, last=not direct and n == layers - 1) for n in range(layers))
        # The filters W of all layers in one product: the basis carries envelope and bias.
        self.filter_widths = [message.width for message in messages]
        self.filters = nn.Linear(basis + 1, sum(self.filter_widths), bias=False)
        self.readout = nn.Sequential(nn.Linear(channels, channels // 2), nn.SiLU(), nn.Linear(channels // 2, 1))
        if direct:
            self.force_readout = nn.ModuleList((Gated(channels, channels // 2), Gated(channels // 2, 1)))

    def forward(
        self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        r = vectors.square().sum(1).sqrt()
        unit = vectors / r[:, None]
        filters = self.filters(self.basis(r)).split(self.filter_widths, dim=1)
        scalar = self.embedding(self.species_of[numbers])
        vector = scalar.new_zeros(numbers.shape[0], 3, self.channels)
        for message, update, weights in zip(self.messages, self.updates, filters, strict=True):
            scalar, vector = message(scalar, vector, edge_index, unit, weights)
            scalar, vector = update(scalar, vector)
        energies: torch.Tensor = self.readout(scalar).squeeze(1) * self.scale
        if not self.direct:
            return energies
        for block in self.force_readout:
            scalar, vector = block(scalar, vector)
        return energies, vector.squeeze(2) * self.scale


class Message(nn.Module):
    """What neighbours say: equations 7 and 8. In the first layer all vector features are zero, so none are passed on."""

    def __init__(self, channels: int, first: bool):
        super().__init__()
        self.channels = channels
        self.first = first
        self.width = (2 if first else 3) * channels
        self.network = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, self.width))

    def forward(
        self,
        scalar: torch.Tensor,
        vector: torch.Tensor,
        edge_index: torch.Tensor,
        unit: torch.Tensor,
        weights: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        centre, neighbor = edge_index
        messages = self.network(scalar).index_select(0, neighbor) * weights
        parts = messages.split(self.channels, dim=1)
        carried = parts[1].unsqueeze(1) * unit.unsqueeze(2)
        if not self.first:
            carried = carried + parts[2].unsqueeze(1) * vector.index_select(0, neighbor)
        return scalar.index_add(0, centre, parts[0]), vector.index_add(0, centre, carried)


class Update(nn.Module):
    """What an atom makes of it: equations 9 and 10. After the last layer vector features are read by nobody."""

    def __init__(self, channels: int, last: bool):
        super().__init__()
        self.channels = channels
        self.last = last
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.network = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, (2 if last else 3) * channels)
        )

    def forward(self, scalar: torch.Tensor, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = self.mix(vector).split(self.channels, dim=2)
        gates = self.network(torch.cat((scalar, soft_norm(right)), dim=1)).split(self.channels, dim=1)
        new_scalar = scalar + gates[0] + gates[1] * (left * right).sum(1)
        return new_scalar, vector if self.last else vector + gates[2].unsqueeze(1) * left


class Gated(nn.Module):
    """A gated equivariant block (figure 3 of the paper, after Weiler et al., arXiv 1807.02547): `width` features of each kind."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.widths = (channels, width)
        self.mix = nn.Linear(channels, channels + width, bias=False)
        gates = nn.Linear(channels, 2 * width)
        self.network = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), gates)
        with torch.no_grad():  # open gates and unit gain: two fresh blocks else make forces 100 times too small
            gates.bias[width:] = 1.0
            self.mix.weight *= 3**0.5

    def forward(self, scalar: torch.Tensor, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        read, carried = self.mix(vector).split(self.widths, dim=2)
        update, gate = self.network(torch.cat((scalar, soft_norm(read)), dim=1)).chunk(2, dim=1)
        return nn.functional.silu(update), gate.unsqueeze(1) * carried


def soft_norm(vector: torch.Tensor) -> torch.Tensor:
    """(A,3,C) -> (A,C)."""
    norm: torch.Tensor = (vector.square().sum(1) + NORM_SOFTNESS**2).sqrt() - NORM_SOFTNESS
    return norm
