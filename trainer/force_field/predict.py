"""Energy to forces to stress to Hessian products: the same derivatives for every student.

Signs and index order are those of hdistill.data.hessian; edges as in neighbors.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hdistill.data.hessian import products_by_autograd

from ..choices import ProductMethod
from ..inputs.batch import Batch

DIFFERENCE_STEP = 1e-3  # A; larger steps cost accuracy (1e-2: 6-8 % error), smaller ones drown in float32


@dataclass(frozen=True, eq=False)
class Prediction:
    """energy (B,) eV without reference energies, and atom_energies (A,), which add up to it; forces (A,3) eV/A; stress (B,3,3)
    eV/A^3 in ASE's sign, zero where there is no volume; products v . H (K,A,3) eV/A^2. Forces, stress and products are None where
    they were not asked for; the stress also of a student with direct forces, which has none."""

    energy: torch.Tensor
    forces: torch.Tensor | None
    stress: torch.Tensor | None
    products: torch.Tensor | None
    atom_energies: torch.Tensor | None = None


def predict(
    student: nn.Module,
    batch: Batch,
    directions: torch.Tensor | None = None,
    *,
    forces: bool = True,
    stress: bool = False,
    training: bool = False,
    method: ProductMethod = "exact",
) -> Prediction:
    """A student's prediction for a batch; directions (K,A,3) are the vectors v of the products wanted.

    training keeps the graph, so that a loss of any of these can be differentiated by the parameters. method "exact" is
    reverse over reverse; "difference" a one-sided difference of forces, about 0.6 % off and cheaper, for conservative
    students alone: differences give H v, which is v . H only where H is symmetric, so direct forces are always differentiated.
    """
    positions = batch.positions.detach().requires_grad_()
    vectors = edge_vectors(batch, positions)
    if is_direct(student):
        atoms, force = student(batch.numbers, batch.edge_index, _as(student, vectors))
        energy, pull, force = _per_structure(atoms, batch), None, force.to(positions.dtype)
    elif not (forces or stress or directions is not None):
        atoms = student(batch.numbers, batch.edge_index, _as(student, vectors))
        return Prediction(_per_structure(atoms, batch), None, None, None, atoms)
    else:
        exact = directions is not None and method == "exact"
        energy, atoms, pull = energies_and_pull(student, batch, vectors, keep_graph=training or exact)
        force = forces_from(pull, batch)
    products = None
    if directions is not None and (pull is None or method == "exact"):
        products = products_by_autograd(force, positions, directions, create_graph=training)
    elif directions is not None:
        products = _products_by_difference(student, batch, vectors, force, directions, training)
    tension = stress_from(pull, vectors, batch) if stress and pull is not None else None
    return Prediction(energy, force, tension, products, atoms)


def is_direct(student: nn.Module) -> bool:
    """Whether a student predicts forces itself: they are then no gradient, and its "Hessian" -dF/dR is not symmetric."""
    return bool(getattr(student, "direct", False))


@torch.no_grad()
def call_once(student: nn.Module, element: int) -> None:
    """Call a student for three atoms and two edges, three different things: hooks then see what its parts have a row for."""
    first = next(student.parameters())
    vectors = torch.tensor([[1.5, 0.0, 0.0], [-1.5, 0.0, 0.0]], dtype=first.dtype, device=first.device)
    numbers = torch.full((3,), element, device=first.device)
    student(numbers, torch.tensor([[0, 1], [1, 0]], device=first.device), vectors)


def edge_vectors(batch: Batch, positions: torch.Tensor) -> torch.Tensor:
    """r_ij = r_j - r_i + shift, (E,3) A."""
    centre, neighbor = batch.edge_index
    return positions.index_select(0, neighbor) - positions.index_select(0, centre) + batch.edge_shift


def energies_and_pull(
    student: nn.Module, batch: Batch, vectors: torch.Tensor, keep_graph: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies of structures (B,) and atoms (A,) eV, and dE/dr_ij of every edge (E,3) eV/A."""
    atoms: torch.Tensor = student(batch.numbers, batch.edge_index, _as(student, vectors))
    energy = _per_structure(atoms, batch)
    (pull,) = torch.autograd.grad(energy.sum(), vectors, create_graph=keep_graph)
    return energy, atoms, pull


def _per_structure(per_atom: torch.Tensor, batch: Batch) -> torch.Tensor:
    return per_atom.new_zeros(batch.n_atoms.shape[0]).index_add(0, batch.structure_index, per_atom)


def _as(student: nn.Module, vectors: torch.Tensor) -> torch.Tensor:
    """Edge vectors in the student's own precision."""
    return vectors.to(next(student.parameters()).dtype)


def forces_from(pull: torch.Tensor, batch: Batch) -> torch.Tensor:
    """F = -dE/dR, (A,3): r_ij grows with r_j and shrinks with r_i."""
    centre, neighbor = batch.edge_index
    return torch.zeros_like(batch.positions).index_add(0, centre, pull).index_add(0, neighbor, -pull)


def stress_from(pull: torch.Tensor, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """dE/dstrain / volume (B,3,3): under a strain every r_ij becomes r_ij (1 + strain), so dE/dstrain = sum r_ij x dE/dr_ij."""
    owner = batch.structure_index[batch.edge_index[0]]
    virial = pull.new_zeros(batch.n_atoms.shape[0], 3, 3)
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
        _, _, pull = energies_and_pull(student, batch, moved.requires_grad_(), keep_graph=training)
        products.append((forces - forces_from(pull, batch)) / DIFFERENCE_STEP)
    return torch.stack(products) if products else torch.zeros_like(directions)
