"""A student as a teacher: what the labeler's adapter for outside teachers loads, by the entry point `hdistill.teachers`.

It imports nothing of the labeler: what it gives are plain values (labeler/teachers/outside.py says which). A direct-force student
is a teacher, too: products are then of -dF/dR, by the same vector-Jacobian products, and not symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hdistill.data.publication.licences import of_licenses
from hdistill.data.structure import Structure

from ..inputs.batch import batch_of
from .checkpoint import STUDENT, StudentCard, load_student
from .domain import hook_readout
from .predict import edge_vectors, forces_from, is_direct, stress_from


class StudentTeacher:
    """A student of a run folder or a file. about and evaluate as labeler/teachers/outside.py wants them."""

    def __init__(self, model: str, dtype: str, device: str):
        path = Path(model)
        trained = load_student(path, device, dtype)
        self.card, self.cutoff, self.model, self.device = trained.card, trained.cutoff, trained.model, device
        self.readout_hook = hook_readout(trained)
        direct = is_direct(self.model)
        self.about: dict[str, Any] = {
            "elements": self.card.references.elements,
            "weights": [path / STUDENT if path.is_dir() else path],
            "packages": ["vesin"],
            "signals": ["atom_energies", *(["node_features"] if self.readout_hook is not None else [])],
            "conservative": not direct,
            "has_stress": not direct,
            **_origin(self.card),
        }
        values = torch.zeros(119, dtype=torch.float64)
        values[list(self.card.references.elements)] = torch.tensor(self.card.references.energies, dtype=torch.float64)
        self.references = values.to(device)  # eV, by atomic number

    def evaluate(self, structures: Sequence[Structure]) -> dict[str, torch.Tensor]:
        """energy (B,) eV with reference energies; forces (A,3) eV/A with their graph to positions (A,3); stress (B,3,3) eV/A^3
        of a conservative student; atom_energies (A,) eV; node_features (A,D): what the readout reads."""
        batch = batch_of(structures, self.cutoff, self.device)
        positions = batch.positions.clone().requires_grad_()
        vectors = edge_vectors(batch, positions)
        outputs = self.model(batch.numbers, batch.edge_index, vectors.to(next(self.model.parameters()).dtype))
        results: dict[str, torch.Tensor] = {"positions": positions}
        if is_direct(self.model):
            per_atom, forces = outputs
            results["forces"] = forces.to(positions.dtype)
        else:
            per_atom = outputs
            (pull,) = torch.autograd.grad(per_atom.sum(), vectors, create_graph=True)
            results["forces"] = forces_from(pull, batch)
            results["stress"] = stress_from(pull, vectors, batch)
        atom_energies = per_atom.detach().double() + self.references[batch.numbers]
        energy = atom_energies.new_zeros(len(structures)).index_add(0, batch.structure_index, atom_energies)
        results |= {"energy": energy, "atom_energies": atom_energies}
        if self.readout_hook is not None:
            results["node_features"] = self.readout_hook.pop()
        return results


def _origin(card: StudentCard) -> dict[str, str]:
    """Licence, level of theory and citation of a student: what its labels were under, and what is known of its teacher."""
    licence = of_licenses(card.licenses or {})
    teacher = card.teacher
    name, level = teacher.get("name", "an unknown teacher"), teacher.get("level_of_theory", "unknown")
    return {
        "weights_license": licence.id,
        "license_class": licence.license_class,
        "level_of_theory": f"{level}, by a student of {name}",
        "citation": str(teacher.get("citation", "unknown")),
    }


load = StudentTeacher
