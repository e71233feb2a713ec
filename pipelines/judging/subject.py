"""What is judged, against what, and on which structures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from hdistill.data.errors import HDistillError, InputError
from hdistill.data.support.progress import Progress, progress

from .reference import Reference

if TYPE_CHECKING:
    from hdistill.trainer.force_field.calculator import HDistillCalculator

TEMPERATURES = (300.0, 600.0)  # K


@dataclass(frozen=True)
class Subject:
    """A run, a label set and a split of it; structures: looked at in place of held-out ones; teacher: the reference, where one is
    given; phonopy: a file or folder of displaced supercells with their forces; temperatures: K, of dynamics."""

    run: Path
    labels: Path | str
    split: str
    device: str = "cpu"
    structures: tuple[Atoms, ...] = ()
    teacher: Reference | None = None
    phonopy: Path | None = None
    progress: bool = False
    temperatures: tuple[float, ...] = TEMPERATURES

    @property
    def file(self) -> Path:
        """The student's own file."""
        from hdistill.trainer.force_field.checkpoint import STUDENT

        return self.run / STUDENT if self.run.is_dir() else self.run

    def student(self) -> HDistillCalculator:
        from hdistill.trainer.force_field.calculator import HDistillCalculator

        return HDistillCalculator(self.run, self.device, warn_beyond=None)

    def require_teacher(self) -> Reference:
        if self.teacher is None:
            raise InputError("It compares with the teacher; give one with --teacher.")
        return self.teacher

    def atoms(self, most: int) -> list[Atoms]:
        """Up to so many structures of the student's elements: those that were given, else of each held-out composition the one that
        is nearest to a minimum. Raises InputError where there is none.
        """
        if not self._known:
            where = "--structures has" if self.structures else f"Split '{self.split}' has"
            raise InputError(f"{where} no structure of the student's elements.")
        return [atoms.copy() for atoms in self._known[:most]]

    def bar(self, total: int | None, unit: str, what: str) -> AbstractContextManager[Progress]:
        return progress(total, unit, what, self.progress)

    @cached_property  # several parts ask, and a split is read whole for it
    def _known(self) -> list[Atoms]:
        from hdistill.trainer.force_field.checkpoint import load_student

        known = set(load_student(self.run).card.references.elements)
        if not self.structures:
            return self._held_out(known)
        return [atoms for atoms in self.structures if set(atoms.numbers.tolist()) <= known]

    def _held_out(self, known: set[int]) -> list[Atoms]:
        from hdistill.data.sharing.remote import open_labels
        from hdistill.trainer.evaluation.errors import samples_of

        best: dict[str, tuple[float, Atoms]] = {}
        for sample in samples_of(open_labels(self.labels), self.split):
            s = sample.structure
            if not set(s.numbers.tolist()) <= known:
                continue
            atoms = Atoms(s.numbers, s.positions, cell=s.cell, pbc=s.pbc, info={"charge": s.charge, "spin": s.spin})
            formula = f"{atoms.symbols.formula.reduce()[0]:hill} {s.pbc.tolist()}"
            size = float(np.square(sample.labels.forces).mean())
            if formula not in best or size < best[formula][0]:
                best[formula] = (size, atoms)
        return [atoms for _, atoms in best.values()]


def tried(make: Callable[..., dict[str, Any]], atoms: Atoms, *models: Any) -> dict[str, Any]:
    """make(atoms, *models); a structure that cannot be judged is named with the reason, and the others go on."""
    try:
        return make(atoms, *models)
    except HDistillError as error:
        return {"formula": atoms.get_chemical_formula(), "why": str(error)}
