"""CHGNet (chgnet): models 0.3.0 and r2scan, whose weights come with the package.

The package's graph of a structure is kept for what is bonded to what; its geometry, which the package rounds to float32, is
rebuilt from a positions leaf. Atom energies hold the elements' reference energies (the package's composition model); node features
are the 64 of an atom after the last convolution and its norm. Deng et al., Nat. Mach. Intell. 5, 1031 (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import chgnet
import numpy as np
import torch
from chgnet.model.model import BatchedGraph, CHGNet
from pymatgen.core import Lattice, Structure as PymatgenStructure

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

# The embedding has 94 rows, but these elements were not in the training data: their rows still have their random initial
# values (equal in both checkpoints), and r2scan has no reference energy for them.
UNTRAINED = {"0.3.0": {84, 85, 86, 87, 88}, "r2scan": {70, 84, 85, 86, 87, 88}}
Array = np.ndarray


class CHGNetTeacher:
    def __init__(self, request: TeacherRequest):
        check_no_task(request)
        self.request = request
        self.features: list[torch.Tensor] = []  # what entered the readout, of the last batch
        self.dtype = getattr(torch, request.dtype)
        self.device = torch.device(request.device)
        model = CHGNet.load(model_name=request.model, use_device=request.device, verbose=False)
        model.graph_converter.set_isolated_atom_response("ignore")  # refused below, with the structure's name
        self.model = model.eval().requires_grad_(False).to(self.dtype)
        # Bond lengths and angles are encoded in float64 even in a float32 model: the curvature of arccos near 180 degrees,
        # common in crystals, loses digits in float32 (SrTiO3: products wrong by 3e-3 of 36 eV/A^2, so only by 4e-4).
        self.model.bond_basis_expansion.double()
        self.model.angle_basis_expansion.double()
        self.model.mlp.register_forward_pre_hook(lambda module, given: self.features.append(given[0]))
        self.request = check_signals(request, atom_energies=self.model.mlp_first, node_features=self.model.mlp_first)
        weights = Path(chgnet.__file__).parent / "pretrained" / request.model
        self.info = describe(
            request,
            [z for z in range(1, 95) if z not in UNTRAINED[request.model]],
            ("chgnet", "pymatgen", "torch"),
            sorted(weights.glob("*.pth.tar")),
        )

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, self.info.elements, self.info.name)
        evaluation = self.evaluate(structures, products_are_wanted(directions))
        return label_by_autograd(evaluation, structures, directions)

    def evaluate(self, structures: Sequence[Structure], products: bool) -> Evaluation:
        def tensor(array: Array, dtype: torch.dtype = torch.float64) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.device)

        standard = [in_standard_cell(s, float(self.model.graph_converter.atom_graph_cutoff)) for s in structures]
        bonds = self._bonds(standard, [s.id for s in structures])
        sizes = np.array([s.n_atoms for s in structures])
        owner = tensor(np.repeat(np.arange(len(structures)), sizes), torch.long)
        i, j = tensor(bonds["i"], torch.long), tensor(bonds["j"], torch.long)
        # Geometry in float64 whatever the model's dtype: differences of float32 coordinates lose digits far from the origin.
        positions = tensor(np.concatenate([s.positions for s in standard])).requires_grad_()
        strain = zero_strain(structures, self.device)
        vector = strained(positions[i] - positions[j] - tensor(bonds["shift"]), strain, owner[i])
        numbers = tensor(np.concatenate([s.numbers for s in structures]), torch.long)
        self.features.clear()
        out = self.model._compute(
            self._graph(vector, bonds, numbers, owner), return_site_energies=self.request.atom_energies
        )
        reference = self.model.composition_model.fc.weight.view(-1).double()[numbers - 1]  # of each atom
        total = torch.zeros(len(structures), dtype=torch.float64, device=self.device).index_add(0, owner, reference)
        energy = out["e"] * tensor(sizes) + total
        forces, stress = forces_and_stress(energy, positions, strain, structures, self.dtype, products)
        return Evaluation(
            energy,
            forces,
            positions,
            stress,
            torch.cat(out["site_energies"]).double() + reference if self.request.atom_energies else None,
            self.features[0] if self.request.node_features else None,
        )

    def _graph(
        self, vector: torch.Tensor, bonds: dict[str, Array], numbers: torch.Tensor, owner: torch.Tensor
    ) -> BatchedGraph:
        """The model's input, for bond vectors (E,3) A from neighbour to centre."""

        def index(array: Array) -> torch.Tensor:
            return torch.as_tensor(array, dtype=torch.long, device=self.device)

        # The encoder takes centres and neighbours: put every neighbour at the origin.
        nothing = torch.zeros_like(vector)
        length, arm_length, unit = self.model.bond_basis_expansion(
            center=vector,
            neighbor=nothing,
            undirected2directed=index(bonds["undirected_bond"]),
            image=nothing,
            lattice=vector.new_zeros(3, 3),
        )
        angles = index(bonds["angles"])
        angle = self.model.angle_basis_expansion(unit[angles[:, 2]], unit[angles[:, 4]])
        return BatchedGraph(
            atomic_numbers=numbers,
            bond_bases_ag=length.to(self.dtype),
            bond_bases_bg=arm_length.to(self.dtype),
            angle_bases=angle.to(self.dtype),
            batched_atom_graph=torch.stack([index(bonds["i"]), index(bonds["j"])], dim=1),
            batched_bond_graph=angles[:, [0, 1, 3]],
            atom_owners=owner,
            directed2undirected=index(bonds["undirected"]),
            atom_positions=[],
            strains=[],
            volumes=[],
        )

    def _bonds(self, structures: Sequence[Structure], ids: Sequence[str]) -> dict[str, Array]:
        """Who is bonded to whom, in indices of the whole batch. E directed bonds, U undirected bonds, N angles.

        i, j (E,) centre and neighbour; shift (E,3) A of the neighbour's image; undirected (E,) the undirected bond of each;
        undirected_bond (U,) one directed bond of each; angles (N,5) centre, then undirected and directed bond of either arm.
        """
        parts: dict[str, list[Array]] = {k: [] for k in ("i", "j", "shift", "undirected", "undirected_bond", "angles")}
        n_atoms = n_directed = n_undirected = 0
        for structure, name in zip(structures, ids, strict=True):
            lattice = Lattice(structure.cell, pbc=tuple(bool(p) for p in structure.pbc))
            numbers = structure.numbers.tolist()
            graph = self.model.graph_converter(
                PymatgenStructure(lattice, numbers, structure.positions, coords_are_cartesian=True)
            )
            pairs = graph.atom_graph.numpy().reshape(-1, 2)
            if len(np.unique(pairs[:, 0])) < structure.n_atoms:
                raise TeacherError(
                    f"Structure {name} has an atom without a neighbour within {graph.atom_graph_cutoff} A, "
                    f"where {self.info.name} is not defined; leave it out."
                )
            angles = graph.bond_graph.numpy().reshape(-1, 5)
            parts["i"].append(pairs[:, 0] + n_atoms)
            parts["j"].append(pairs[:, 1] + n_atoms)
            parts["shift"].append(graph.neighbor_image.numpy().astype(np.float64) @ structure.cell)
            parts["undirected"].append(graph.directed2undirected.numpy() + n_undirected)
            parts["undirected_bond"].append(graph.undirected2directed.numpy() + n_directed)
            parts["angles"].append(angles + np.array([n_atoms, n_undirected, n_directed, n_undirected, n_directed]))
            n_atoms += structure.n_atoms
            n_directed += len(pairs)
            n_undirected += len(graph.undirected2directed)
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


load = CHGNetTeacher
