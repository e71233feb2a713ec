"""What an engine asks of a student: energies of atoms, forces and stress, as a function of edge vectors alone.

    pull_ij = dE/dr_ij      F_i = sum_j pull_ij - sum_j pull_ji      stress = sum r_ij x pull_ij / V

so that whoever has a neighbour list, with images or ghost atoms, needs no positions and no cell. With volume = 1 the stress is the
virial. The same function is called eagerly and traced into machine code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hdistill.data.structure import Structure

from ...inputs.batch import batch_of
from ...inputs.references import References
from ..domain import ReadoutHook
from ..predict import edge_vectors, is_direct

INPUTS = {
    "numbers": (torch.int64, "A"),
    "edge_index": (torch.int64, "2 E"),
    "vectors": (torch.float64, "E 3"),
    "structure_index": (torch.int64, "A"),
    "volume": (torch.float64, "B"),
}


@dataclass(frozen=True, eq=False)
class Outputs:
    """energies (A,) eV without reference energies; forces (A,3) eV/A; stress (B,3,3) eV/A^3 in ASE's sign, 0 where the volume is
    0, None of a student with direct forces; features (A,D) that the readout read, None where it has no readout; pull (E,3) eV/A, None
    where it was not asked for or is not there. All but the features are float64."""

    energies: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    features: torch.Tensor | None
    pull: torch.Tensor | None = None


Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Evaluate = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], Outputs]


def arguments_of(structures: Sequence[Structure], cutoff: float, device: str = "cpu") -> Arguments:
    """What INPUTS names, of some structures."""
    batch = batch_of(structures, cutoff, device)
    return batch.numbers, batch.edge_index, edge_vectors(batch, batch.positions), batch.structure_index, batch.volume


def reference_energies(structures: Sequence[Structure], references: References) -> NDArray[np.float64]:
    """Of each atom (A,) of the structures, eV: what programs that know free atoms have in their energies and a student has not."""
    each = [references.of(s.numbers[i : i + 1]) for s in structures for i in range(s.n_atoms)]
    return np.array(each, np.float64)


def outputs_of(
    model: nn.Module,
    hook: ReadoutHook | None,
    numbers: torch.Tensor,
    edge_index: torch.Tensor,
    vectors: torch.Tensor,
    structure_index: torch.Tensor,
    volume: torch.Tensor,
) -> Outputs:
    """Of A atoms, E edges and B structures: numbers (A,), edge_index (2,E) centre and neighbour, vectors r_ij (E,3) A,
    structure_index (A,) and volume (B,) A^3. hook keeps what the model's readout reads."""
    dtype = next(model.parameters()).dtype
    if is_direct(model):
        with torch.no_grad():
            energies, forces = model(numbers, edge_index, vectors.to(dtype))
        stress, pull = None, None
    else:
        with torch.enable_grad():
            edges = vectors.detach().requires_grad_()
            energies = model(numbers, edge_index, edges.to(dtype))
            (pull,) = torch.autograd.grad(energies.sum(), edges)
        centre, neighbor = edge_index
        forces = pull.new_zeros(numbers.shape[0], 3).index_add(0, centre, pull).index_add(0, neighbor, -pull)
        virial = pull.new_zeros(volume.shape[0], 3, 3)
        outer = vectors.unsqueeze(2) * pull.unsqueeze(1)
        virial = virial.index_add(0, structure_index.index_select(0, centre), outer)
        inverse = torch.where(volume > 0, 1 / torch.where(volume > 0, volume, 1.0), 0.0)
        stress = 0.5 * (virial + virial.transpose(1, 2)) * inverse[:, None, None]
    features = None if hook is None else hook.pop()
    return Outputs(energies.detach().double(), forces.detach().double(), stress, features, pull)
