"""Several structures in one call of a student, each with a neighbour list of its own that holds while it moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols

from hdistill.data.errors import InputError
from hdistill.data.structure import Structure

from ..calculator import HDistillCalculator
from ..verlet import VerletLists
from .outputs import Outputs


class BatchedStudent:
    """The student of a calculator for engines that move many structures. Called with structures whose order stays the same it gives
    their Outputs, energies with the reference energies of the elements. Raises InputError for an element it does not know."""

    def __init__(self, calculator: HDistillCalculator):
        self.calculator = calculator
        self._lists: list[VerletLists] = []
        references = calculator.student.card.references
        energies = torch.full((119,), float("nan"), dtype=torch.float64)
        energies[list(references.elements)] = torch.tensor(references.energies, dtype=torch.float64)
        self.reference_energies = energies.to(calculator.device)

    def __call__(self, structures: Sequence[Structure]) -> Outputs:
        device, cutoff = self.calculator.device, self.calculator.student.cutoff
        while len(self._lists) < len(structures):
            self._lists.append(VerletLists(cutoff, self.calculator.lists.skin))
        sizes = np.array([s.n_atoms for s in structures])
        numbers = np.concatenate([s.numbers for s in structures]).astype(np.int64)
        self._require_known(numbers)
        lists = [kept.of(s) for kept, s in zip(self._lists, structures, strict=False)]
        firsts = np.cumsum(sizes) - sizes
        arrays = (
            numbers,
            np.concatenate([index + first for (index, _), first in zip(lists, firsts, strict=True)], axis=1),
            np.concatenate([vectors for _, vectors in lists]),
            np.repeat(np.arange(len(structures)), sizes),
            np.array([abs(np.linalg.det(s.cell)) if s.pbc.all() else 0.0 for s in structures]),
        )
        z, index, vectors, owner, volume = (torch.from_numpy(array).to(device) for array in arrays)
        outputs = self.calculator.evaluate(z, index, vectors, owner, volume)
        energies = outputs.energies + self.reference_energies[z]
        return Outputs(energies, outputs.forces, outputs.stress, outputs.features)

    def _require_known(self, numbers: np.ndarray) -> None:
        references = self.calculator.student.card.references
        if unknown := references.unknown(numbers):
            names, known = (", ".join(chemical_symbols[z] for z in zs) for zs in (unknown, references.elements))
            raise InputError(f"This student was not trained on {names}; it knows {known}.")
