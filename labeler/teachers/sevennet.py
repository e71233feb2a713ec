"""SevenNet (sevenn): checkpoints 7net-0, 7net-l3i5 and 7net-mf-0, whose weights come with the package.

The checkpoint's own force module differentiates with respect to edge vectors, so positions are not in its graph. Here the
edge vectors are rebuilt from a positions leaf and the energy is differentiated with respect to that. Atom energies hold the
model's shift of each element; node features are the scalars of an atom after the last interaction, which enter the readout.
Park et al., J. Chem. Theory Comput. 20, 4857 (2024).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sevenn._keys as KEY
import sevenn.util
import torch
from ase import Atoms
from sevenn.train.dataload import unlabeled_atoms_to_graph

from hdistill.data.errors import TeacherError
from hdistill.data.structure import Directions, Labels, Structure

from .about import describe
from .contract import (
    Evaluation,
    TeacherRequest,
    check_elements,
    check_no_task,
    check_signals,
    forces_and_stress,
    label_by_autograd,
    products_are_wanted,
    strained,
    zero_strain,
)
from .geometry import in_standard_cell

# sevenn < 0.12 always gives the cell shifts and has no such argument.
WITH_SHIFT = {"with_shift": True} if "with_shift" in inspect.signature(unlabeled_atoms_to_graph).parameters else {}


class SevenNet:
    def __init__(self, request: TeacherRequest):
        # Without this the TorchScript in e3nn is profiled and recompiled during the first calls: they would be slower and,
        # where kernels get fused (CUDA), differ in the last bits from later ones.
        torch.jit.set_fusion_strategy([])
        self.dtype = getattr(torch, request.dtype)
        self.device = torch.device(request.device)
        path = Path(sevenn.util.pretrained_name_to_path(request.model))
        model, config = sevenn.util.model_from_checkpoint(str(path))
        self.request = request
        self.cutoff = float(config[KEY.CUTOFF])  # A
        self.modal = _modal_index(getattr(model, "modal_map", None) or {}, request)
        self.model = _energy_only(model).to(self.device, self.dtype)
        self.features = torch.zeros(0, 0)  # what entered the readout, of the last batch
        readout = model._modules.get("reduce_input_to_hidden")
        scalars = readout is not None and all(irrep.l == 0 for _, irrep in readout._irreps_in_wo_modal)
        self.request = check_signals(request, atom_energies=True, node_features=scalars)
        if readout is not None:
            readout.register_forward_pre_hook(self._keep_features)
        about = describe(request, config[KEY.TYPE_MAP], ("sevenn", "e3nn", "torch"), [path], request.task)
        self.info = replace(about, level_of_theory=request.task or about.level_of_theory)

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, self.info.elements, self.info.name)
        evaluation = self.evaluate(structures, products_are_wanted(directions))
        return label_by_autograd(evaluation, structures, directions)

    def evaluate(self, structures: Sequence[Structure], products: bool) -> Evaluation:
        def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.device)

        standard = [in_standard_cell(s, self.cutoff) for s in structures]
        graphs = [_graph(s, self.cutoff) for s in standard]
        sizes = [s.n_atoms for s in structures]
        first = np.cumsum(sizes) - sizes
        edges = [g[KEY.EDGE_IDX] + a for g, a in zip(graphs, first, strict=True)]
        i, j = tensor(np.concatenate(edges, axis=1), torch.long)
        shift = tensor(np.concatenate([g[KEY.CELL_SHIFT] @ g[KEY.CELL] for g in graphs]))
        owner = tensor(np.repeat(np.arange(len(structures)), sizes), torch.long)
        # Geometry in float64 whatever the model's dtype: differences of float32 coordinates lose digits far from the origin.
        positions = tensor(np.concatenate([s.positions for s in standard])).requires_grad_()
        strain = zero_strain(structures, self.device)
        vector = strained(positions[j] - positions[i] + shift, strain, owner[i])
        numbers = tensor(np.concatenate([s.numbers for s in structures]), torch.long)
        batch = {
            KEY.NODE_FEATURE: numbers,  # the model puts its own element index here
            KEY.ATOMIC_NUMBERS: numbers,
            KEY.EDGE_IDX: torch.stack([i, j]),
            KEY.EDGE_VEC: vector.to(self.dtype),
            KEY.NUM_ATOMS: tensor(np.array(sizes), torch.long),
            KEY.BATCH: owner,
        }
        if self.modal is not None:
            batch[KEY.MODAL_TYPE] = torch.full((len(structures),), self.modal, device=self.device)
        out = self.model(batch)
        energy = out[KEY.PRED_TOTAL_ENERGY].view(-1)
        forces, stress = forces_and_stress(energy, positions, strain, structures, self.dtype, products)
        return Evaluation(
            energy,
            forces,
            positions,
            stress,
            out[KEY.ATOMIC_ENERGY].view(-1) if self.request.atom_energies else None,
            self.features if self.request.node_features else None,
        )

    def _keep_features(self, module: Any, given: tuple[dict[str, torch.Tensor]]) -> None:
        self.features = given[0][KEY.NODE_FEATURE]


def _energy_only(model: Any) -> torch.nn.Module:
    """The checkpoint's model for flat batches, without its force module, its parameters frozen."""
    model.delete_module_by_key("force_output")
    model.set_is_batch_data(True)
    model.eval_modal_map = False  # the batch holds the modal's index, not its name
    for module in model.modules():
        if type(module).__name__ == "OnehotEmbedding":  # makes float32 vectors whatever the model's dtype
            module.register_forward_hook(_cast_to_dtype_of_edges)
    frozen: torch.nn.Module = model.eval().requires_grad_(False)
    return frozen


def _cast_to_dtype_of_edges(module: Any, inputs: Any, batch: dict[str, torch.Tensor]) -> None:
    for key, value in batch.items():
        if value.is_floating_point():
            batch[key] = value.to(batch[KEY.EDGE_VEC].dtype)


def _modal_index(known: dict[str, int], request: TeacherRequest) -> int | None:
    """The index of the wanted modal (level of theory), None for a model without modals. Raises TeacherError."""
    if not known:
        check_no_task(request)
        return None
    choices = ", ".join(known)
    if request.task is None:
        raise TeacherError(
            f"{request.name} was trained on several levels of theory; choose one with --task: {choices}."
        )
    if request.task not in known:
        raise TeacherError(f"{request.name} has no task '{request.task}'; choose one with --task: {choices}.")
    return known[request.task]


def _graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """The package's own graph of one structure: edge_index (2,E) centre and neighbour, cell shifts (E,3), cell (3,3) A."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    graph: dict[str, np.ndarray] = unlabeled_atoms_to_graph(atoms, cutoff, **WITH_SHIFT)
    return graph


load = SevenNet
