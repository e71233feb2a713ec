"""GemNet-T and GemNet-dT: messages between directed edges that see distances and angles.

Gasteiger, Becker, Guennemann, "GemNet: Universal Directional Graph Neural Networks for Molecules", NeurIPS 2021, arXiv
2106.08903; the blocks are those of its figure 4 without the two-hop part (Q-MP): edge embeddings, one-hop triplet messages
(T-MP) with the efficient bilinear layer and symmetric message passing, atom updates, an output block after every layer, and for
GemNet-dT forces along the edges. Sizes: Amin et al., arXiv 2501.09009. What is different here:

- Triplets are never listed. P_l(u.v) is sum_m Y_lm(u) Y_lm(v), so the sum over an atom's other edges is a density of spherical
  harmonics at the atom, read along the edge: work and memory grow with edges, not triplets, and shapes depend on the numbers of
  atoms and edges alone, which a compiled step needs. No angle is ever computed: harmonics are polynomials, all of whose
  derivatives are finite where atoms are in a line. The sum includes the edge itself (the paper leaves it out).
- Symmetric message passing needs no index of the opposite edge, which periodic images would make ambiguous: what the
  opposite edge of (i,j) is told is the density at j, read along -u_ij.
- Radial parts are the shared basis of radial.py, smooth to third order, linearly mapped for each use (the paper first maps its
  basis to 16 numbers). A filter is always the last factor of what leaves an edge, and so is the envelope: a triplet's message
  carries that of both its edges.
- The angular basis is Legendre polynomials times the radial basis of the receiving edge; the paper's has spherical Bessel functions.
- Constant scale factors instead of fitted ones, Gaussian instead of orthogonal fresh weights.
- Direct forces are pair forces: what an edge gives its centre it takes from its neighbour. So they sum to zero and have no
  torque, as true forces do (the paper's edges push their centre alone). They are not the gradient of the energy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .elements import register_elements
from .harmonics import Harmonics, order_of
from .radial import BesselBasis

ORDERS = 5  # Legendre polynomials P_0 to P_4; the paper has 7
SILU_GAIN = 1 / 0.6  # SiLU of unit Gaussian numbers has a mean square of 0.36; the paper's activation
# Sums over an atom's edges are multiplied by constants. The paper fits such factors to data; with constants fresh weights are a
# matter of the seed alone. What feeds back into edges is kept small, so that from water to diamond (2 to 86 edges an atom)
# features neither grow nor vanish through four fresh layers; what goes out feeds back into nothing and is of order 1.
TRIPLET_SUM = 0.5
ATOM_SUM = 0.1
OUTPUT_SUM = 0.5
ATOM_RESIDUALS = 3  # in networks on atoms, which are few,
EDGE_RESIDUALS = 2  # and in that of the direct forces, on edges


class GemNet(nn.Module):
    """GemNet-T, or with direct=True GemNet-dT, which says forces itself; the contract of all students.

    forward(numbers (A,) int64, edge_index (2,E) int64, vectors (E,3) A) -> energies (A,) eV, with direct also forces (A,3) eV/A:
    edge e tells atom edge_index[0,e] of atom edge_index[1,e], which lies at vectors[e] from it; both directions of a pair must
    be listed. An atom without edges has no energy. All elements must be among `elements`: the caller checks.
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
        self.cutoff = cutoff
        self.direct = direct
        register_elements(self, elements, scale)
        self.embedding = nn.Embedding(len(elements), channels)
        self.basis = BesselBasis(cutoff, basis)
        self.angles = Angles(basis + 1, channels // 4)
        self.start = Join(channels, basis + 1)
        blocks = [Interaction(channels, channels // 2, channels // 4) for _ in range(layers)]
        outputs = [Output(channels, direct) for _ in range(layers + 1)]
        self.blocks, self.outputs = nn.ModuleList(blocks), nn.ModuleList(outputs)
        # The filters of all blocks in one product: the basis carries envelope and bias.
        self.filter_widths = [block.width for block in blocks] + [output.width for output in outputs]
        self.filters = linear(basis + 1, sum(self.filter_widths))
        # The last linear maps of all output blocks in one, on their features side by side: the energy is their sum.
        self.readout = linear((layers + 1) * channels, 1)

    def forward(
        self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        r = vectors.square().sum(1).sqrt()
        unit = vectors / r[:, None]
        basis = self.basis(r)
        angles = self.angles(basis, unit)
        filters = self.filters(basis).split(self.filter_widths, dim=1)
        of_blocks, of_outputs = filters[: len(self.blocks)], filters[len(self.blocks) :]
        atoms = self.embedding(self.species_of[numbers])
        edges = self.start(atoms, edge_index, basis)
        from_outputs = [self.outputs[0](edges, edge_index, atoms.shape[0], of_outputs[0])]
        for block, output, of_block, of_output in zip(
            self.blocks, self.outputs[1:], of_blocks, of_outputs[1:], strict=True
        ):
            atoms, edges = block(atoms, edges, edge_index, of_block, angles)
            from_outputs.append(output(edges, edge_index, atoms.shape[0], of_output))
        features = torch.cat([each for each, _ in from_outputs], dim=1)
        energies: torch.Tensor = self.readout(features).squeeze(1) * self.scale
        if not self.direct:
            return energies
        pulls = torch.stack([pull for _, pull in from_outputs]).sum(0) * (OUTPUT_SUM * self.scale) * unit
        centre, neighbor = edge_index
        forces = vectors.new_zeros(atoms.shape[0], 3).index_add(0, centre, pulls).index_add(0, neighbor, -pulls)
        return energies, forces


AnglesOfEdges = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Angles(nn.Module):
    """What triplets need to know of each edge, the same for all layers (paper, "efficient bilinear layer").

    (basis (E,B), unit (E,3)) -> harmonics Y(u) (E,S), and how the densities at centre and at neighbour are read along the edge:
    (E,R,S) each, R radial functions of every order l times Y_lm(u) and Y_lm(-u).
    """

    order_of: torch.Tensor
    parity: torch.Tensor

    def __init__(self, basis: int, mixtures: int):
        super().__init__()
        self.mixtures = mixtures
        self.harmonics = Harmonics(ORDERS - 1)
        self.radial = linear(basis, mixtures * ORDERS)
        orders = torch.tensor(order_of(ORDERS - 1))
        self.register_buffer("order_of", orders, persistent=False)
        self.register_buffer("parity", 1.0 - 2.0 * (orders % 2), persistent=False)

    def forward(self, basis: torch.Tensor, unit: torch.Tensor) -> AnglesOfEdges:
        harmonics = self.harmonics(unit)
        radial = self.radial(basis).unflatten(1, (self.mixtures, ORDERS))
        along = radial.index_select(2, self.order_of) * harmonics[:, None] / ORDERS
        return harmonics, along, along * self.parity


class Join(nn.Module):
    """An edge of what its two atoms and it itself know (paper, embedding block; and the update of edges after atoms)."""

    def __init__(self, channels: int, own: int):
        super().__init__()
        self.atoms = linear(channels, 2 * channels)
        self.own = linear(own, channels)

    def forward(self, atoms: torch.Tensor, edge_index: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        centre, neighbor = edge_index
        as_centre, as_neighbor = self.atoms(atoms).chunk(2, dim=1)
        joined = as_centre.index_select(0, centre) + as_neighbor.index_select(0, neighbor) + self.own(own)
        return _activate(joined / math.sqrt(3))


class Interaction(nn.Module):
    """One layer: triplets tell edges, edges tell atoms, atoms tell edges (paper, figure 4)."""

    def __init__(self, channels: int, narrow: int, mixtures: int):
        super().__init__()
        self.narrow = narrow
        self.width = narrow + channels
        self.triplets = Triplets(channels, narrow, mixtures)
        self.skip = Dense(channels, channels)
        self.before = Residual(channels)
        self.after = Residual(channels)
        self.collect = Collect(channels, ATOM_SUM)
        self.join = Join(channels, channels)
        self.joined = Residual(channels)

    def forward(
        self,
        atoms: torch.Tensor,
        edges: torch.Tensor,
        edge_index: torch.Tensor,
        filters: torch.Tensor,
        angles: AnglesOfEdges,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        of_triplets, of_atoms = filters[:, : self.narrow], filters[:, self.narrow :]
        message = self.triplets(edges, edge_index, atoms.shape[0], of_triplets, angles)
        edges = self.after(_half(edges, self.before(_half(self.skip(edges), message))))
        atoms = _half(atoms, self.collect(edges, edge_index, atoms.shape[0], of_atoms))
        return atoms, _half(edges, self.joined(self.join(atoms, edge_index, edges)))


class Triplets(nn.Module):
    """What an edge hears from the other edges of its two atoms, by distance and angle (paper, T-MP; the efficient bilinear layer).

    The bilinear layer sum_b (radial x angular)^T W m_b as three products: messages times harmonics summed at the atom, these times
    radial functions and harmonics of the edge that listens, and W last.
    """

    def __init__(self, channels: int, narrow: int, mixtures: int):
        super().__init__()
        self.down = nn.Sequential(Dense(channels, channels), Dense(channels, narrow))
        self.bilinear = linear(mixtures * narrow, narrow)
        self.from_centre = Dense(narrow, channels)
        self.from_neighbor = Dense(narrow, channels)

    def forward(
        self, edges: torch.Tensor, edge_index: torch.Tensor, n_atoms: int, filters: torch.Tensor, angles: AnglesOfEdges
    ) -> torch.Tensor:
        centre, neighbor = edge_index
        harmonics, along, against = angles
        messages = self.down(edges) * filters
        spread = harmonics[:, :, None] * messages[:, None]
        density = spread.new_zeros(n_atoms, *spread.shape[1:]).index_add(0, centre, spread) * TRIPLET_SUM
        at_centre = self.bilinear(torch.bmm(along, density.index_select(0, centre)).flatten(1))
        at_neighbor = self.bilinear(torch.bmm(against, density.index_select(0, neighbor)).flatten(1))
        return _half(self.from_centre(at_centre), self.from_neighbor(at_neighbor))


class Collect(nn.Module):
    """What an atom hears from its edges: filtered, summed, and a small network of that (paper, atom update and output blocks)."""

    def __init__(self, channels: int, factor: float):
        super().__init__()
        self.factor = factor
        self.network = nn.Sequential(Dense(channels, channels), *(Residual(channels) for _ in range(ATOM_RESIDUALS)))

    def forward(
        self, edges: torch.Tensor, edge_index: torch.Tensor, n_atoms: int, filters: torch.Tensor
    ) -> torch.Tensor:
        message = edges.new_zeros(n_atoms, edges.shape[1]).index_add(0, edge_index[0], edges * filters)
        collected: torch.Tensor = self.network(message * self.factor)
        return collected


class Output(nn.Module):
    """Features of atoms (A,C), of which the readout makes energies; with direct also a pull along every edge (E,1)."""

    def __init__(self, channels: int, direct: bool):
        super().__init__()
        self.direct = direct
        self.channels = channels
        self.width = (2 if direct else 1) * channels
        self.collect = Collect(channels, OUTPUT_SUM)
        if direct:
            self.network = nn.Sequential(
                Dense(channels, channels), *(Residual(channels) for _ in range(EDGE_RESIDUALS))
            )
            self.pull = linear(channels, 1)

    def forward(
        self, edges: torch.Tensor, edge_index: torch.Tensor, n_atoms: int, filters: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.collect(edges, edge_index, n_atoms, filters[:, : self.channels])
        if not self.direct:
            return features, features[:0, :1]
        return features, self.pull(self.network(edges) * filters[:, self.channels :])


class Dense(nn.Module):
    """A linear map without bias, and SiLU; mean squares of Gaussian features stay what they are."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = linear(inputs, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return _activate(self.linear(features))


class Residual(nn.Module):
    """Two dense layers around which features also go unchanged."""

    def __init__(self, channels: int):
        super().__init__()
        self.network = nn.Sequential(Dense(channels, channels), Dense(channels, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return _half(features, self.network(features))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map without bias; fresh weights keep mean squares as they are."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return layer


def _activate(features: torch.Tensor) -> torch.Tensor:
    return nn.functional.silu(features) * SILU_GAIN


def _half(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The sum of two features whose mean square is that of each."""
    return (one + other) * math.sqrt(0.5)
