"""A screened repulsion of nuclei below bonded distances, under a student: where it was never trained, atoms still cannot collapse.

Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Solids", Pergamon 1985: the universal screening function. It
diverges as 1/r, a student's own energy is finite at r = 0: no student can outweigh it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import units
from ase.data import covalent_radii
from torch import nn

from .radial import envelope

COULOMB = units.Hartree * units.Bohr  # e^2 / (4 pi eps0), eV A
SCREENING_LENGTH = 0.8854 * units.Bohr  # A
SCREENING_POWER = 0.23
WEIGHTS = (0.18175, 0.50986, 0.28022, 0.02817)  # their sum is 1
DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)
REACH = 0.65  # of the sum of covalent radii; the shortest of bonds, Ti=O and the triple ones of N2 and CO, have 0.72 to 0.80


class WithRepulsion(nn.Module):
    """A conservative student and half the repulsion of each of its edges; the contract of all students.

    The repulsion of a pair ends at REACH times the sum of its covalent radii (Cordero 2008, as ASE has them), smooth to third
    order, and never beyond the student's cutoff. It is in eV whatever the student's scale is, and has no parameters.
    """

    reach_of: torch.Tensor

    def __init__(self, student: nn.Module, elements: Sequence[int], cutoff: float):
        super().__init__()
        self.student = student
        self.cutoff = cutoff
        reach_of = torch.zeros(max(elements) + 1)
        reach_of[list(elements)] = torch.tensor([REACH * covalent_radii[z] for z in elements], dtype=reach_of.dtype)
        self.register_buffer("reach_of", reach_of, persistent=False)

    @property
    def embedding(self) -> nn.Module:
        return self.student.get_submodule("embedding")

    @property
    def readout(self) -> nn.Module:
        return self.student.get_submodule("readout")

    def forward(self, numbers: torch.Tensor, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        energies: torch.Tensor = self.student(numbers, edge_index, vectors)
        centre, neighbor = edge_index
        reach_of = self.reach_of[numbers]
        reach = (reach_of.index_select(0, centre) + reach_of.index_select(0, neighbor)).clamp(max=self.cutoff)
        charges = numbers.to(vectors.dtype)
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
