"""Energy to forces to stress to Hessian products: the same derivatives for every student.

Signs and index order are those of hdistill.data.hessian; edges as in neighbors.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hdistill.data.hessian import products_by_autograd

from .batch import Batch
from .settings import ProductMethod

DIFFERENCE_STEP = 1e-3  # A; larger steps cost accuracy (1e-2: 6-8 % error), smaller ones drown in float32


@dataclass(frozen=True, eq=False)
class Prediction:
    """energy (B,) eV without reference energies; forces (A,3) eV/A; stress (B,3,3) eV/A^3 in ASE's sign, zero where there is no
    volume; products v . H (K,A,3) eV/A^2. stress and products are None where they were not asked for."""

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    products: torch.Tensor | None


def predict(
    student: nn.Module,
    batch: Batch,
    directions: torch.Tensor | None = None,
    *,
    stress: bool = False,
    training: bool = False,
    method: ProductMethod = "exact",
) -> Prediction:
    """What a student says of a batch; directions (K,A,3) are the vectors v of the products wanted.

    training keeps the graph, so that a loss of any of these can be differentiated by the parameters. method "exact" is
    reverse over reverse; "difference" a one-sided difference of forces, about 0.6 % off and cheaper.
    """
    positions = batch.positions.detach().requires_grad_()
    vectors = edge_vectors(batch, positions)
    exact = directions is not None and method == "exact"
    energy, pull = energy_and_pull(student, batch, vectors, keep_graph=training or exact)
    forces = forces_from(pull, batch)
    products = None
    if directions is not None and exact:
        products = products_by_autograd(forces, positions, directions, create_graph=training)
    elif directions is not None:
        products = _products_by_difference(student, batch, vectors, forces, directions, training)
    return Prediction(energy, forces, stress_from(pull, vectors, batch) if stress else None, products)


def edge_vectors(batch: Batch, positions: torch.Tensor) -> torch.Tensor:
    """r_ij = r_j - r_i + shift, (E,3) A."""
    centre, neighbor = batch.edge_index
    return positions.index_select(0, neighbor) - positions.index_select(0, centre) + batch.edge_shift


def energy_and_pull(
    student: nn.Module, batch: Batch, vectors: torch.Tensor, keep_graph: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (B,) eV and dE/dr_ij of every edge (E,3) eV/A."""
    dtype = next(student.parameters()).dtype
    per_atom = student(batch.numbers, batch.edge_index, vectors.to(dtype))
    energy = per_atom.new_zeros(len(batch.n_atoms)).index_add(0, batch.structure_index, per_atom)
    (pull,) = torch.autograd.grad(energy.sum(), vectors, create_graph=keep_graph)
    return energy, pull


def forces_from(pull: torch.Tensor, batch: Batch) -> torch.Tensor:
    """F = -dE/dR, (A,3): r_ij grows with r_j and shrinks with r_i."""
    centre, neighbor = batch.edge_index
    return torch.zeros_like(batch.positions).index_add(0, centre, pull).index_add(0, neighbor, -pull)


def stress_from(pull: torch.Tensor, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """dE/dstrain / volume (B,3,3): under a strain every r_ij becomes r_ij (1 + strain), so dE/dstrain = sum r_ij x dE/dr_ij."""
    owner = batch.structure_index[batch.edge_index[0]]
    virial = pull.new_zeros(len(batch.n_atoms), 3, 3)
    virial = virial.index_add(0, owner, vectors.unsqueeze(2) * pull.unsqueeze(1))
    has_volume = batch.volume > 0
    inverse = torch.where(has_volume, 1 / torch.where(has_volume, batch.volume, 1.0), 0.0)
    return 0.5 * (virial + virial.transpose(1, 2)) * inverse[:, None, None]


def _products_by_difference(
    student: nn.Module,
    batch: Batch,
    vectors: torch.Tensor,
    forces: torch.Tensor,
    directions: torch.Tensor,
    training: bool,
) -> torch.Tensor:
    """H v = v . H of a conservative student as -(F(R + h v) - F(R)) / h; |v_i| is at most 1 in rows and probes.

    Edges are displaced, not positions: no digits are lost to a cell's size. The list stays: what crosses the cutoff within h
    weighs less than (h/cutoff)^4.
    """
    centre, neighbor = batch.edge_index
    products = []
    for v in directions:
        moved = vectors.detach() + DIFFERENCE_STEP * (v.index_select(0, neighbor) - v.index_select(0, centre))
        _, pull = energy_and_pull(student, batch, moved.requires_grad_(), keep_graph=training)
        products.append((forces - forces_from(pull, batch)) / DIFFERENCE_STEP)
    return torch.stack(products) if products else torch.zeros_like(directions)
