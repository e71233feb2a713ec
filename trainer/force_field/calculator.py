"""A student as an ASE calculator, with the Hessian, and with how far each atom is from what the student has learned."""

from __future__ import annotations

import warnings
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
from hdistill.data.structure import Structure

from ..inputs.batch import batch_of
from .checkpoint import load_student
from .domain import hear_readout, load_domain
from .predict import is_direct, predict


class HDistillCalculator(Calculator):  # type: ignore[misc]
    """energy, free_energy (eV, reference energies included), forces (eV/A), and stress (eV/A^3, Voigt) of fully periodic atoms.

    path: a run folder or a student file. dtype None: as it was trained; geometry is float64 in any case. Charge and spin of the
    atoms are ignored: the students do not know them. Raises InputError for an element the student was not trained on.

    Where the run has a domain (domain.py), results["domain_distance"] (N,) says how far each atom's surroundings are from the
    training set: below 1 they are like what was learned. The first time that an atom is beyond `warn_beyond`, a warning says so.
    A direct-force student has no stress, and its "Hessian" -dF/dR is not symmetric.
    """

    implemented_properties: tuple[str, ...] = ("energy", "free_energy", "forces", "stress")

    def __init__(
        self, path: str | Path, device: str = "cpu", dtype: str | None = None, warn_beyond: float | None = 2.0
    ):
        super().__init__()
        self.student = load_student(Path(path), device, dtype)
        self.device = device
        self.domain = load_domain(Path(path))
        self.heard = None if self.domain is None else hear_readout(self.student)
        self.warn_beyond = warn_beyond
        self.conservative = not is_direct(self.student.model)
        if not self.conservative:
            self.implemented_properties = ("energy", "free_energy", "forces")

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        structure = self._structure(self.atoms)
        batch = batch_of([structure], self.student.cutoff, self.device)
        with torch.set_grad_enabled(self.conservative):
            said = predict(self.student.model, batch, stress=bool(structure.pbc.all()))
        assert said.forces is not None
        energy = said.energy.item() + self.student.card.references.of(structure.numbers)
        self.results = {"energy": energy, "free_energy": energy, "forces": said.forces.detach().cpu().numpy()}
        if said.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(said.stress[0].detach().cpu().numpy())
        if self.domain is not None and self.heard is not None:
            features = self.heard.pop().double().cpu().numpy()
            self.results["domain_distance"] = distances = self.domain.distances(structure.numbers, features)
            self._warn(distances)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last call, of all that a student knows: ASE's own way compares charges and magnetic moments,
        too, three times in a step of dynamics, which for few atoms is a tenth of its time."""
        if self.atoms is None:
            return list(all_changes)
        return [
            name
            for name, now, before in (
                ("positions", atoms.positions, self.atoms.positions),
                ("numbers", atoms.numbers, self.atoms.numbers),
                ("cell", atoms.cell.array, self.atoms.cell.array),
                ("pbc", atoms.pbc, self.atoms.pbc),
            )
            if not np.array_equal(now, before)
        ]

    def get_hessian(self, atoms: Atoms | None = None) -> NDArray[np.float64]:
        """+d2E/dR2 as (3N, N, 3) eV/A^2: row 3*atom + axis, as MACE's calculator gives it. One backward pass a row.

        Of a direct-force student it is -dF/dR: row i has how the force on i changes with all positions.
        """
        structure = self._structure(atoms if atoms is not None else self.atoms)
        batch = batch_of([structure], self.student.cutoff, self.device)
        rows = torch.eye(3 * structure.n_atoms, dtype=batch.positions.dtype, device=batch.positions.device)
        said = predict(self.student.model, batch, rows.view(-1, structure.n_atoms, 3))
        assert said.products is not None
        array: NDArray[np.float64] = said.products.detach().cpu().numpy()
        return array

    def _structure(self, atoms: Any) -> Structure:
        references = self.student.card.references
        unknown = references.unknown(atoms.numbers)
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in unknown)
            known = ", ".join(chemical_symbols[z] for z in references.elements)
            raise InputError(f"This student was not trained on {names}; it knows {known}.")
        return Structure(atoms.numbers, np.array(atoms.positions), np.array(atoms.cell), np.array(atoms.pbc))

    def _warn(self, distances: NDArray[np.float64]) -> None:
        if self.warn_beyond is None or not (distances > self.warn_beyond).any():
            return
        atom = int(distances.argmax())
        warnings.warn(
            f"The surroundings of {self.atoms.symbols[atom]} (atom {atom}) are unlike those this student learned from "
            f"(distance {distances[atom]:.1f}; 95 of 100 atoms of held-out structures are below 1): do not trust it there. "
            'results["domain_distance"] has all of them; this is said once.',
            stacklevel=4,
        )
        self.warn_beyond = None
