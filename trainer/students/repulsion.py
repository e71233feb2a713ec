"""A screened repulsion of nuclei under a student, nearer than atoms of its training set ever are: there it was never trained, and
what it says may pull them together.

Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Solids", Pergamon 1985: the universal screening function. It
diverges as 1/r, a student's own energy is finite at r = 0: no student can outweigh it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import units
from ase.data import covalent_radii
from torch import nn

from .elements import places_of
from .radial import envelope

COULOMB = units.Hartree * units.Bohr  # e^2 / (4 pi eps0), eV A
SCREENING_LENGTH = 0.8854 * units.Bohr  # A
SCREENING_POWER = 0.23
WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)  # their sum is 1
DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)
REACH = 0.65  # of the sum of covalent radii; the shortest of bonds, Ti=O and the triple ones of N2 and CO, have 0.72 to 0.80
LEAST = 0.1  # A, where atoms of a training set coincide


class WithRepulsion(nn.Module):
    """A conservative student and half the repulsion of each of its edges; the contract of all students.

    The repulsion of a pair ends, smooth to third order, at its reach: REACH times the sum of its covalent radii (Cordero 2008, as ASE
    has them), or where `begin_below` puts it. It is in eV whatever the student's scale is, and has no parameters.
    """

    species_of: torch.Tensor
    reach: torch.Tensor

    def __init__(self, student: nn.Module, elements: Sequence[int], cutoff: float):
        super().__init__()
        self.student = student
        self.cutoff = cutoff
        self.elements = list(elements)
        self.register_buffer("species_of", places_of(elements), persistent=False)
        radii = REACH * torch.tensor([covalent_radii[z] for z in elements], dtype=torch.get_default_dtype())
        self.register_buffer("reach", (radii[:, None] + radii).clamp(max=cutoff))  # (S,S) A, kept with the weights

    def begin_below(self, nearest: torch.Tensor) -> None:
        """Let the repulsion of a pair begin where the training set ends: below the shortest distance (Z,Z) A that it has of two
        elements. What is nearer is new to the student, and may be a well that atoms fall into. Pairs without one stay as they are."""
        reach_of_pairs = nearest[self.elements][:, self.elements].to(self.reach)
        self.reach.copy_(torch.where(reach_of_pairs < self.cutoff, reach_of_pairs.clamp(min=LEAST), self.reach))

    @property
    def embedding(self) -> nn.Module:
        return self.student.get_submodule("embedding")

    @property
    def readout(self) -> nn.Module:
        return self.student.get_submodule("readout")

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        energies: torch.Tensor = self.student(numbers, edge_index, vectors)
        centre, neighbor = edge_index
        species, charges = self.species_of[numbers], numbers.to(vectors.dtype)
        reach = self.reach[species.index_select(0, centre), species.index_select(0, neighbor)]
        r = vectors.square().sum(1).sqrt()
        repulsion = screened_coulomb(r, charges.index_select(0, centre), charges.index_select(0, neighbor))
        return energies.index_add(0, centre, 0.5 * envelope(r / reach) * repulsion)


def screened_coulomb(r: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The universal potential (eV) of nuclei of charges left and right (E,) at r (E,) A, without an end."""
    x = r * (left**SCREENING_POWER + right**SCREENING_POWER) / SCREENING_LENGTH
    screening = torch.zeros_like(r)
    for weight, decay in zip(WEIGHTS, DECAYS, strict=True):
        screening = screening + weight * torch.exp(-decay * x)
    energy: torch.Tensor = COULOMB * left * right * screening / r
    return energy
