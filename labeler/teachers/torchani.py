"""ANI-1x (torchani 2.2.4): an ensemble of 8 networks for H, C, N, O, whose weights come with the package.

Built from the weight files themselves: the package's own `models.ANI1x()` reads a list of them that is empty in its wheel, and
would download instead. Molecules of a batch are padded to one tensor, periodic structures go one by one (the package takes one
cell at a time); the networks then see all atoms at once. Atom energies hold those of free atoms; node features are the last hidden
layers of the 8 networks, 96 each. Smith et al., J. Chem. Phys. 148, 241733 (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchani
from ase.data import atomic_numbers
from ase.units import Hartree
from torch.nn.utils.rnn import pad_sequence
from torchani import neurochem

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

RESOURCES = Path(torchani.__file__).parent / "resources" / "ani-1x_8x"
N_NETWORKS = 8
REACH = 5.2  # A, of the radial descriptors; that of the angular ones is 3.5
# What one vectorised pass over several vectors may take (benchmarks/batched_products.py): methanol alone, 16 vectors: 4 times faster
# than one by one; 48 atoms: 2.4 times; with 8 vectors of 240 atoms (5760 elements) nothing is left of it.
BATCHED_ELEMENTS = 2048


class TorchANI:
    def __init__(self, request: TeacherRequest):
        check_no_task(request)
        self.request = check_signals(request, atom_energies=True, node_features=True)
        self.dtype = getattr(torch, request.dtype)
        self.device = torch.device(request.device)
        constants_file = RESOURCES / "rHCNO-5.2R_16-3.5A_a4-8.params"
        constants = neurochem.Constants(str(constants_file))
        networks = neurochem.load_model_ensemble(constants.species, str(RESOURCES / "train"), N_NETWORKS)
        self.networks = networks.requires_grad_(False).to(self.device, self.dtype)
        self.describe = torchani.AEVComputer(**constants).to(self.device, self.dtype)
        atoms = neurochem.load_sae(str(RESOURCES / "sae_linfit.dat"))
        self.atom_energies = atoms.self_energies.to(self.device)  # (4,) hartree, float64
        elements = [atomic_numbers[symbol] for symbol in constants.species]
        self.species_of = np.full(119, -1)
        self.species_of[elements] = np.arange(len(elements))
        self.info = describe(request, elements, ("torchani", "torch"), _weight_files(constants_file))

    def label(self, structures: Sequence[Structure], directions: Sequence[Directions | None]) -> list[Labels]:
        check_elements(structures, self.info.elements, self.info.name)
        evaluation = self.evaluate(structures, products_are_wanted(directions))
        return label_by_autograd(evaluation, structures, directions, BATCHED_ELEMENTS)

    def evaluate(self, structures: Sequence[Structure], products: bool) -> Evaluation:
        sizes = [s.n_atoms for s in structures]
        owner = torch.as_tensor(np.repeat(np.arange(len(structures)), sizes), device=self.device)
        species = torch.as_tensor(np.concatenate([self.species_of[s.numbers] for s in structures]), device=self.device)
        standard = [in_standard_cell(s, REACH) for s in structures]
        # Float64, and near the origin: the rest may be float32.
        positions = self._tensor(np.concatenate([s.positions for s in standard])).requires_grad_()
        strain = zero_strain(structures, self.device)
        places = strained(positions, strain, owner)
        features = self._features(standard, torch.split(species, sizes), torch.split(places, sizes), strain)
        per_atom = Hartree * (self._network_energies(species, features).double() + self.atom_energies[species])
        energy = self._tensor(np.zeros(len(structures))).index_add(0, owner, per_atom)
        forces, stress = forces_and_stress(energy, positions, strain, structures, self.dtype, products)
        return Evaluation(
            energy,
            forces,
            positions,
            stress,
            per_atom if self.request.atom_energies else None,
            self._last_hidden(species, features.detach()) if self.request.node_features else None,
        )

    def _features(
        self,
        structures: Sequence[Structure],
        species: Sequence[torch.Tensor],
        positions: Sequence[torch.Tensor],
        strain: torch.Tensor | None,
    ) -> torch.Tensor:
        """Descriptors (A,384) of all atoms; positions and strain are float64."""
        descriptors: dict[int, torch.Tensor] = {}
        molecules = [b for b, s in enumerate(structures) if not s.pbc.any()]
        if molecules:
            padded = pad_sequence([positions[b] for b in molecules], batch_first=True).to(self.dtype)
            kinds = pad_sequence([species[b] for b in molecules], batch_first=True, padding_value=-1)
            batch = self.describe((kinds, padded)).aevs
            descriptors = {b: batch[m, : len(species[b])] for m, b in enumerate(molecules)}
        for b, structure in enumerate(structures):
            if structure.pbc.any():
                cell = self._tensor(structure.cell)
                cell = (cell if strain is None else cell + cell @ strain[b]).to(self.dtype)
                pbc = torch.as_tensor(structure.pbc, device=self.device)
                one = (species[b][None], positions[b][None].to(self.dtype))
                descriptors[b] = self.describe(one, cell=cell, pbc=pbc).aevs[0]
        return torch.cat([descriptors[b] for b in range(len(structures))])

    def _network_energies(self, species: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Mean of the networks' atomic energies (A,) hartree."""
        members = [network._atomic_energies((species[None], features[None]))[0] for network in self.networks]
        return torch.stack(members).mean(dim=0)

    def _last_hidden(self, species: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The last hidden layers of the 8 networks (A,768), one after the other: the energy is linear in them."""
        back = torch.argsort(
            torch.argsort(species, stable=True)
        )  # from atoms sorted by element to atoms in their order
        hidden = [
            torch.cat([layers[:-1](features[species == kind]) for kind, layers in enumerate(network.values())])
            for network in self.networks
        ]
        return torch.cat(hidden, dim=1)[back]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=self.device)


def _weight_files(constants_file: Path) -> list[Path]:
    """Every file that decides the numbers, in a fixed order."""
    networks = sorted(RESOURCES.glob("train[0-7]/networks/ANN-*.nnf*"))
    return [constants_file, RESOURCES / "sae_linfit.dat", *networks]


load = TorchANI
