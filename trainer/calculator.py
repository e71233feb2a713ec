"""A student as an ASE calculator, with the Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from hdistill.data.errors import InputError
from hdistill.data.hessian import products_by_autograd
from hdistill.data.structure import Structure

from .batch import batch_of
from .checkpoint import load_student
from .predict import edge_vectors, energy_and_pull, forces_from, predict


class HDistillCalculator(Calculator):  # type: ignore[misc]
    """energy, free_energy (eV, reference energies included), forces (eV/A), and stress (eV/A^3, Voigt) of fully periodic atoms.

    path: a run folder or a student file. dtype None: as it was trained; geometry is float64 in any case. Charge and spin of the
    atoms are ignored: the students do not know them. Raises InputError for an element the student was not trained on.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, path: str | Path, device: str = "cpu", dtype: str | None = None):
        super().__init__()
        self.student = load_student(Path(path), device, dtype)
        self.device = device

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        structure = self._structure(self.atoms)
        batch = batch_of([structure], self.student.cutoff, self.device)
        said = predict(self.student.model, batch, stress=bool(structure.pbc.all()))
        assert said.forces is not None
        energy = said.energy.item() + self.student.card.references.of(structure.numbers)
        self.results = {"energy": energy, "free_energy": energy, "forces": said.forces.detach().cpu().numpy()}
        if said.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(said.stress[0].detach().cpu().numpy())

    def get_hessian(self, atoms: Atoms | None = None) -> NDArray[np.float64]:
        """+d2E/dR2 as (3N, N, 3) eV/A^2: row 3*atom + axis, as MACE's calculator gives it. One backward pass a row."""
        structure = self._structure(atoms if atoms is not None else self.atoms)
        batch = batch_of([structure], self.student.cutoff, self.device)
        positions = batch.positions.clone().requires_grad_()
        _, pull = energy_and_pull(self.student.model, batch, edge_vectors(batch, positions), keep_graph=True)
        rows = torch.eye(3 * structure.n_atoms, dtype=positions.dtype, device=positions.device)
        hessian = products_by_autograd(forces_from(pull, batch), positions, rows.view(-1, structure.n_atoms, 3))
        array: NDArray[np.float64] = hessian.cpu().numpy()
        return array

    def _structure(self, atoms: Any) -> Structure:
        references = self.student.card.references
        unknown = references.unknown(atoms.numbers)
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in unknown)
            known = ", ".join(chemical_symbols[z] for z in references.elements)
            raise InputError(f"This student was not trained on {names}; it knows {known}.")
        return Structure(atoms.numbers, np.array(atoms.positions), np.array(atoms.cell), np.array(atoms.pbc))
